"""If, Loop and Scan against onnxruntime.

Each body is written twice, as a NumPy function and as ONNX nodes: our reference runs the first, onnxruntime the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tenonrt.contracts import Array, LayerType, TensorInfo, TensorType, dtype_name, symbol, unknown
from tenonrt_layer_control.conditional import IfLayer
from tenonrt_layer_control.loop import LoopLayer
from tenonrt_layer_control.scan import ScanAttributes, ScanLayer

Fixture = Callable[..., Any]
Body = Callable[..., Sequence[Any]]


class Bodies:
    """A `Run` whose graphs are Python functions."""

    generator = np.random.default_rng(0)

    def __init__(self, *bodies: Body) -> None:
        self.bodies = bodies
        self.calls = 0

    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        self.calls += 1
        return [np.asarray(a) for a in self.bodies[index](*arrays)]


@dataclass
class Types:
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]


def info(*shape: Any, dtype: str = "float32", value: Any = None) -> TensorInfo:
    return TensorInfo(TensorType(shape, dtype), value=None if value is None else np.array(value, object))


FLAG, INDEX = info(dtype="bool"), info(dtype="int64")
TRUE = info(dtype="bool", value=True)


def run_onnx(operator: str, arrays: Sequence[Array | None], bodies: dict[str, Any], outputs: int, **kw: Any) -> Any:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    helper = onnx.helper
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    feeds = {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()
    ]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(operator, names, results, **bodies, **kw)
    graph = helper.make_graph([node], "g", inputs, [helper.make_empty_tensor_value_info(r) for r in results])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def onnx_graph(text: str) -> Any:
    parser = pytest.importorskip("onnx.parser")
    return parser.parse_graph(text)


# --- If ---


@pytest.mark.parametrize("condition", [True, False])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_if_runs_one_branch(condition: bool, shape: tuple[int, ...]) -> None:
    branches = {
        "then_branch": onnx_graph("t () => (float[2] a) { a = Constant <value = float[2] {1, 2}> () }"),
        "else_branch": onnx_graph("e () => (float[3] b) { b = Constant <value = float[3] {3, 4, 5}> () }"),
    }
    run = Bodies(lambda: [np.array([1, 2], "f4")], lambda: [np.array([3, 4, 5], "f4")])
    arrays = [np.full(shape, condition)]
    (y,) = IfLayer().reference(IfLayer.Attrs(), arrays, run)
    np.testing.assert_array_equal(y, run_onnx("If", arrays, branches, 1)[0])
    assert run.calls == 1


def test_if_dims_that_differ_are_unknown_and_bounded() -> None:
    n = symbol("n", 1, 6)
    graphs = [Types([], [info(n, 2, 4)]), Types([], [info(n, 3, n)])]
    (y,) = IfLayer().infer_control(IfLayer.Attrs(), [FLAG], graphs)
    assert y.shape == (n, unknown(3), unknown(6))


def test_if_with_a_known_condition_takes_that_branch() -> None:
    graphs = [Types([], [info(2)]), Types([], [info(3, 4)])]
    assert IfLayer().infer_control(IfLayer.Attrs(), [TRUE], graphs)[0].shape == (2,)
    with pytest.raises(ValueError, match=r"float32\[2\] in the then graph and float32\[3x4\] in the else"):
        IfLayer().infer_control(IfLayer.Attrs(), [FLAG], graphs)


def test_if_refusals() -> None:
    with pytest.raises(ValueError, match="found 1"):
        IfLayer().infer_control(IfLayer.Attrs(), [FLAG], [Types([], [])])
    with pytest.raises(ValueError, match=r"condition is float32\[2\]"):
        IfLayer().infer_control(IfLayer.Attrs(), [info(2)], [Types([], []), Types([], [])])
    with pytest.raises(ValueError, match="then graph has 1 outputs and the else graph 0"):
        IfLayer().infer_control(IfLayer.Attrs(), [FLAG], [Types([], [info()]), Types([], [])])


# --- Loop ---

ACCUMULATE = """
b (int64 i, bool c, float[2] s) => (bool go, float[2] t, float[2] v, int64 j)
{
  limit = Constant <value = float {20}> ()
  f = Cast <to = 1> (i)
  t = Add (s, f)
  total = ReduceSum <keepdims = 0> (t)
  go = Less (total, limit)
  v = Neg (t)
  j = Identity (i)
}
"""


def accumulate(i: Array, c: Array, s: Array) -> Sequence[Any]:
    t = s + i.astype("f4")
    return [t.sum() < 20, t, -t, i]


@pytest.mark.parametrize("trips", [None, 0, 1, 3, 50])
@pytest.mark.parametrize("condition", [None, True, False])
def test_loop(trips: int | None, condition: bool | None) -> None:
    arrays = [
        None if trips is None else np.array(trips),
        None if condition is None else np.array(condition),
        np.array([1, 2], "f4"),
    ]
    found = LoopLayer().reference(LoopLayer.Attrs(), arrays, Bodies(accumulate))
    expected = run_onnx("Loop", arrays, {"body": onnx_graph(ACCUMULATE)}, 3)
    for y, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(y, right)
        assert y.dtype == right.dtype


def _accumulate_types(again: TensorInfo = FLAG, n: Any = 2) -> list[Types]:
    return [Types([INDEX, FLAG, info(n)], [again, info(n), info(n), INDEX])]


def test_loop_infer_agrees_with_reference() -> None:
    arrays = [np.array(3), np.array(True), np.array([1, 2], "f4")]
    found = LoopLayer().reference(LoopLayer.Attrs(), arrays, Bodies(accumulate))
    inputs = [info(dtype="int64", value=3), TRUE, info(2)]
    inferred = LoopLayer().infer_control(LoopLayer.Attrs(), inputs, _accumulate_types(TRUE))
    assert [o.shape for o in inferred] == [y.shape for y in found]
    assert [o.dtype for o in inferred] == [dtype_name(y.dtype) for y in found]


def test_loop_length_is_known_only_where_the_trip_count_alone_ends_it() -> None:
    def length(trips: TensorInfo | None, condition: TensorInfo | None, again: TensorInfo) -> Any:
        inputs = [trips, condition, info(2)]
        return LoopLayer().infer_control(LoopLayer.Attrs(), inputs, _accumulate_types(again))[1].shape[0]

    three, false = info(dtype="int64", value=3), info(dtype="bool", value=False)
    n = symbol("n")
    assert length(three, None, TRUE) == 3
    assert length(three, TRUE, FLAG) == unknown(3)
    assert length(three, FLAG, TRUE) == unknown(3)
    assert length(INDEX, None, TRUE) == unknown()
    assert length(None, None, FLAG) == unknown()
    assert length(three, false, TRUE) == 0
    assert length(three, None, false) == 1
    assert length(None, None, false) == 1
    assert length(INDEX, None, false) == unknown(1)
    assert length(three, FLAG, false) == unknown(1)
    assert length(info(dtype="int64", value=-2), None, TRUE) == 0
    assert length(info(dtype="int64", value=n), None, TRUE) == n


def test_loop_state_that_grows_is_unknown() -> None:
    n, m = symbol("n"), symbol("m")
    body = Types([INDEX, FLAG, info(m), info(m, 3)], [FLAG, info(m + 1), info(m, 3), info(m), info(3)])
    inputs = [INDEX, None, info(n), info(n, 3)]
    grown, kept, seen, fixed = LoopLayer().infer_control(LoopLayer.Attrs(), inputs, [body])
    assert grown.shape == (unknown(),)
    assert kept.shape == (n, 3)
    assert seen.shape == (unknown(), n)
    assert fixed.shape == (unknown(), 3)


def test_loop_symbols_made_inside_stay_inside() -> None:
    inside = symbol("nonzero0")
    body = Types([INDEX, FLAG], [FLAG, info(inside, 2)])
    (y,) = LoopLayer().infer_control(LoopLayer.Attrs(), [INDEX, None], [body])
    assert y.shape == (unknown(), unknown(), 2)


def test_loop_refusals() -> None:
    with pytest.raises(ValueError, match=r"state 0 is int32\[2\], expected float32\[2\]"):
        LoopLayer().infer_control(LoopLayer.Attrs(), [INDEX, None, info(2, dtype="int32")], _accumulate_types())
    with pytest.raises(ValueError, match="found 0 states, expected 1"):
        LoopLayer().infer_control(LoopLayer.Attrs(), [INDEX, None], _accumulate_types())
    with pytest.raises(ValueError, match="axis 0 of state 0 is 5, expected 2"):
        LoopLayer().infer_control(LoopLayer.Attrs(), [INDEX, None, info(5)], _accumulate_types())
    with pytest.raises(ValueError, match="trip count is float32"):
        LoopLayer().infer_control(LoopLayer.Attrs(), [info(), None, info(2)], _accumulate_types())


# --- Scan ---

WEIGHTED = """
b (float[2] s, float[2] x, float w) => (float[2] t, float[2] v, float u)
{
  p = Mul (x, w)
  t = Add (s, p)
  v = Neg (t)
  u = ReduceSum <keepdims = 0> (p)
}
"""


def weighted(s: Array, x: Array, w: Array) -> Sequence[Any]:
    p = x * w
    return [s + p, -(s + p), p.sum()]


WEIGHTED_TYPES = Types([info(2), info(2), info()], [info(2), info(2), info()])


@given(st.integers(1, 4), st.data())
@settings(max_examples=30, deadline=None)
def test_scan(length: int, data: st.DataObject) -> None:
    axis, out_axis = data.draw(st.sampled_from([0, 1, -1])), data.draw(st.sampled_from([0, 1, -1]))
    directions = tuple(data.draw(st.tuples(*[st.integers(0, 1)] * 4)))
    attrs = ScanAttributes(
        num_scan_inputs=2,
        scan_input_axes=(axis, 0),
        scan_input_directions=directions[:2],
        scan_output_axes=(out_axis, 0),
        scan_output_directions=directions[2:],
    )
    rng = np.random.default_rng(length)
    sequence = rng.standard_normal((length, 2)).astype("f4")
    arrays = [rng.standard_normal(2).astype("f4"), sequence if axis == 0 else sequence.T.copy()]
    arrays.append(rng.standard_normal(length).astype("f4"))
    found = ScanLayer().reference(attrs, arrays, Bodies(weighted))
    options = {n: getattr(attrs, n) for n in attrs.__struct_fields__}
    expected = run_onnx("Scan", arrays, {"body": onnx_graph(WEIGHTED)}, 3, **options)
    for y, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-6)
    _check_scan_infer(attrs, arrays, found, length)


def _check_scan_infer(attrs: ScanAttributes, arrays: Sequence[Array], found: Sequence[Array], length: int) -> None:
    for outer in (length, symbol("n")):
        axis = attrs.scan_input_axes[0]
        inputs = [info(2), info(outer, 2) if axis == 0 else info(2, outer), info(outer)]
        inferred = ScanLayer().infer_control(attrs, inputs, [WEIGHTED_TYPES])
        assert [o.type.concrete({"n": length}) for o in inferred] == [y.shape for y in found]


def test_scan_of_nothing_collects_nothing() -> None:
    arrays = [np.ones(2, "f4"), np.zeros((0, 2), "f4"), np.zeros(0, "f4")]
    attrs = ScanAttributes(num_scan_inputs=2)
    state, values, sums = ScanLayer().reference(attrs, arrays, Bodies(weighted))
    assert state.tolist() == [1, 1]
    assert (values.shape, sums.shape) == ((0, 2), (0,))


def test_scan_slices_keep_their_symbols() -> None:
    n, width, inner = symbol("n"), symbol("w"), symbol("inner")
    body = Types([info(inner)], [info(inner * 2)])
    (y,) = ScanLayer().infer_control(ScanAttributes(num_scan_inputs=1), [info(n, width)], [body])
    assert y.shape == (n, width * 2)


def test_scan_refusals() -> None:
    attrs, layer = ScanAttributes(num_scan_inputs=2), ScanLayer()
    with pytest.raises(ValueError, match="have 3 and 4 slices"):
        layer.infer_control(attrs, [info(2), info(3, 2), info(4)], [WEIGHTED_TYPES])
    with pytest.raises(ValueError, match="found 2 inputs, expected 3"):
        layer.infer_control(attrs, [info(2), info(3, 2)], [WEIGHTED_TYPES])
    wrong = ScanAttributes(num_scan_inputs=2, scan_input_axes=(0,))
    with pytest.raises(ValueError, match="scan_input_axes has 1 values, expected 2"):
        layer.infer_control(wrong, [info(2), info(3, 2), info(3)], [WEIGHTED_TYPES])
    with pytest.raises(ValueError, match="num_scan_inputs is 4, expected 1 to 3"):
        layer.infer_control(ScanAttributes(num_scan_inputs=4), [], [WEIGHTED_TYPES])


@pytest.mark.parametrize("layer", [IfLayer(), LoopLayer(), ScanLayer()])
def test_plain_infer_asks_for_the_graphs(layer: LayerType) -> None:
    with pytest.raises(ValueError, match="found none"):
        layer.infer(layer.Attrs() if layer.Attrs is not ScanAttributes else None, [FLAG])


@pytest.mark.parametrize("absent", [(), (0,), (1,), (0, 1)])
def test_loop_samples_leave_out_what_is_absent(absent: tuple[int, ...]) -> None:
    inputs = [TensorType((), "int64"), TensorType((), "bool"), TensorType((2, 3))]
    types = [None if i in absent else t for i, t in enumerate(inputs)]
    arrays = LoopLayer().sample(LoopLayer.Attrs(), types, np.random.default_rng(0))
    assert [i for i, a in enumerate(arrays) if a is None] == list(absent)
    assert all(a is None or (a.shape, a.dtype) == (t.shape, t.numpy) for a, t in zip(arrays, inputs, strict=True))
