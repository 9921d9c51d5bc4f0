"""Oracles for the tests of layer types: ONNX Runtime for single operators, and `infer` judged against `reference`.

Import the fixtures into a conftest.py. They need onnx and onnxruntime where a test asks for them, and skip without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from tenonrt.contracts import Array, Dimension, LayerType, TensorInfo, TensorType, dtype_name, symbol


class NoGraphs:
    """The `Run` of a layer that owns no subgraph."""

    generator = np.random.default_rng(0)

    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        raise AssertionError(f"this layer has no subgraph {index}")


def run_operator(
    operator: str,
    inputs: Sequence[Array | None],
    outputs: int = 1,
    *,
    opset: int = 21,
    domain: str = "",
    **attributes: Any,
) -> list[Array]:
    """The outputs of a model of one ONNX operator, computed by ONNX Runtime on one thread; None is an absent input."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper = onnx.helper
    inputs = list(inputs)
    while inputs and inputs[-1] is None:  # onnxruntime 1.32 crashes on an empty name at the end of LayerNormalization
        inputs.pop()
    names = ["" if a is None else f"x{i}" for i, a in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    feeds = {n: a for n, a in zip(names, inputs, strict=True) if a is not None}
    node = helper.make_node(operator, names, results, domain=domain, **attributes)
    declared = [helper.make_tensor_value_info(n, _element_type(onnx, a), a.shape) for n, a in feeds.items()]
    graph = helper.make_graph([node], "single", declared, [onnx.ValueInfoProto(name=n) for n in results])
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = runtime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return [np.asarray(a) for a in session.run(None, feeds)]


def check_agreement(
    layer: LayerType,
    attrs: Any,
    arrays: Sequence[Array | None],
    fixed: Mapping[int, Sequence[int]] | None = None,
    *,
    symbolic: bool = True,
) -> list[Array]:
    """The outputs of `reference`, which must be what `infer` says, of concrete types and of symbolic ones.

    fixed: axes of an input that stay concrete, as those of length one do.
    """
    before = [None if a is None else a.copy() for a in arrays]
    outputs = layer.reference(attrs, arrays, NoGraphs())
    for old, new in zip(before, arrays, strict=True):
        if old is not None and new is not None:
            np.testing.assert_array_equal(old, new, err_msg="the reference changed its input")
    sizes = {f"n{n}": n for a in arrays if a is not None for n in a.shape}
    for mode in (False, True) if symbolic else (False,):
        infos = [_info(layer, i, a, mode, (fixed or {}).get(i, ())) for i, a in enumerate(arrays)]
        for inferred, output in zip(layer.infer(attrs, infos), outputs, strict=True):
            assert isinstance(output, np.ndarray), "a NumPy scalar is no array"
            assert (inferred.dtype, inferred.rank) == (dtype_name(output.dtype), output.ndim)
            same = [_is_size(d, n, sizes) for d, n in zip(inferred.shape, output.shape, strict=True)]
            assert all(same), f"inferred {inferred.type}, computed {output.shape}"
    return outputs


def check_layer_cases(layer: LayerType) -> None:
    """Every case of a layer: its attributes survive encoding, and infer agrees with reference on sampled inputs."""
    import msgspec

    cases = list(layer.cases())
    assert cases
    for case in cases:
        assert msgspec.json.decode(msgspec.json.encode(case.attrs), type=type(case.attrs)) == case.attrs
        types = [TensorType(i.shape, dtype_name(i.dtype)) if isinstance(i, np.ndarray) else i for i in case.inputs]
        drawn = layer.sample(case.attrs, types, np.random.default_rng(0))
        assert [a is None for a in drawn] == [t is None for t in types]
        arrays = [i if isinstance(i, np.ndarray) else a for i, a in zip(case.inputs, drawn, strict=True)]
        check_agreement(layer, case.attrs, arrays, symbolic=False)


@pytest.fixture(scope="session")
def oracle() -> Callable[..., list[Array]]:
    """`run_operator`."""
    return run_operator


@pytest.fixture(scope="session")
def agrees() -> Callable[..., list[Array]]:
    """`check_agreement`."""
    return check_agreement


@pytest.fixture(scope="session")
def check_cases() -> Callable[[LayerType], None]:
    """`check_layer_cases`."""
    return check_layer_cases


@pytest.fixture(scope="session")
def no_graphs() -> NoGraphs:
    """The `Run` of a layer that owns no subgraph."""
    return NoGraphs()


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers for every test."""
    return np.random.default_rng(20250)


def _element_type(onnx: Any, array: Array) -> int:
    found = onnx.TensorProto.STRING if array.dtype == object else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return int(found)


def _info(layer: LayerType, index: int, array: Array | None, symbolic: bool, fixed: Sequence[int]) -> TensorInfo | None:
    """What the graph would know of an input; a symbol is named by the length of its axis."""
    if array is None:
        return None
    if index in layer.shape_inputs:
        return TensorInfo(TensorType(array.shape, dtype_name(array.dtype)), "host", array.astype(object))
    shape: list[Dimension] = [
        symbol(f"n{n}") if symbolic and n != 1 and axis not in fixed else n for axis, n in enumerate(array.shape)
    ]
    return TensorInfo(TensorType(tuple(shape), dtype_name(array.dtype)))


def _is_size(dimension: Dimension, actual: int, sizes: Mapping[str, int]) -> bool:
    type = TensorType((dimension,))
    return "?" in type.symbol_names() or type.concrete(sizes) == (actual,)
