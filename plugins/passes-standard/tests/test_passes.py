"""Each pass on real networks with the core's engine: what is left, and that it computes the same in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt.contracts import Attributes, LayerType, TensorInfo, TensorType, symbol
from tenonrt.graph.passes import run_passes
from tenonrt.plugins.discovery import Entry, scan

N = symbol("N", 1, 8)


class NoiseLayer(LayerType):
    """Impure: adds a random number."""

    pure = False

    def infer(self, attrs: Any, inputs: Any) -> list[TensorInfo]:
        return [inputs[0]]

    def reference(self, attrs: Any, arrays: Any, run: Any) -> list[np.ndarray]:
        return [arrays[0] + run.generator.standard_normal()]


class BranchLayer(NoiseLayer):
    """Owns subgraphs."""

    pure = True

    def infer_control(self, attrs: Any, inputs: Any, graphs: Any) -> list[TensorInfo]:
        return [inputs[0]]


class RepeatAttributes(Attributes, frozen=True):
    count: int


class RepeatLayer(LayerType):
    """A tensor several times along a new axis; `evaluated` counts the runs of its reference."""

    Attrs = RepeatAttributes
    evaluated = 0

    def infer(self, attrs: Any, inputs: Any) -> list[TensorInfo]:
        return [inputs[0].like((attrs.count, *inputs[0].shape))]

    def reference(self, attrs: Any, arrays: Any, run: Any) -> list[np.ndarray]:
        RepeatLayer.evaluated += 1
        return [np.stack([arrays[0]] * attrs.count)]


class Loaded:
    """What an entry point's `load` returns."""

    def __init__(self, value: Any) -> None:
        self.load = lambda: value


def registry(*passes: str) -> tenonrt.Registry:
    """Every installed plugin but only these passes, and the layers above."""
    installed = [e for group in scan().values() for e in group]
    kept = [e for e in installed if e.group != "tenonrt.passes" or e.name in passes]
    assert {e.name for e in kept if e.group == "tenonrt.passes"} == set(passes)
    own = {"test.Noise": NoiseLayer, "test.Branch": BranchLayer, "test.Repeat": RepeatLayer}
    added = [Entry("tenonrt.layers", kind, "here", "test", "1", Loaded(layer)) for kind, layer in own.items()]
    return tenonrt.Registry(entries=[*kept, *added])


class Example:
    """A network with inputs and outputs to be compared before and after a pass."""

    def __init__(self, *passes: str) -> None:
        self.network = tenonrt.Network(registry=registry(*passes))
        self.feeds: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(0)

    def input(self, *shape: Any, dtype: str = "float32") -> Any:
        tensor = self.network.input(f"x{len(self.feeds)}", TensorType(shape, dtype))
        self.feeds[tensor.name] = self.rng.standard_normal(tensor.type.concrete({"N": 2}))
        return tensor

    def normal(self, *shape: int, dtype: str = "float32") -> np.ndarray:
        return self.rng.standard_normal(shape).astype(dtype)

    def add(self, kind: str, *inputs: Any, **attrs: Any) -> Any:
        outputs = self.network.add(kind, inputs, attrs)
        return outputs[0] if len(outputs) == 1 else outputs

    def convolution(self, source: Any, bias: bool = True) -> Any:
        return self.add("Convolution", source, self.normal(4, 3, 3, 3), self.normal(4) if bias else None)

    def output(self, *tensors: Any) -> None:
        for tensor in tensors:
            self.network.output(tensor, f"y{len(self.network.outputs)}")

    def run(self) -> list[np.ndarray]:
        """The outputs by the layers' references, in float64."""
        graph = self.network.graph
        values: dict[Any, Any] = {t: self.feeds[t.name] for t in graph.inputs}

        def value(tensor: Any) -> Any:
            if tensor is None or tensor in values:
                return values.get(tensor)
            constant = tensor.constant
            return constant.astype(np.float64) if constant.dtype.kind == "f" else constant

        for layer in graph.layers:
            results = layer.layer_type.reference(layer.attrs, [value(t) for t in layer.inputs], None)
            values.update(zip(layer.outputs, results, strict=True))
        return [value(t) for t in graph.outputs.values()]

    def check(self, *kinds: str) -> list[str]:
        """Run the passes: these layers are left, and they compute the same; the reasons of the patches."""
        before = self.run()
        reasons = self.rewrite(*kinds)
        for old, new in zip(before, self.run(), strict=True):
            assert old.shape == new.shape
            assert np.allclose(old, new, rtol=1e-5, atol=1e-5)  # folded weights are rounded to float32 once
        return reasons

    def rewrite(self, *kinds: str) -> list[str]:
        log = run_passes(self.network.graph, self.network.registry)
        assert not log.quarantined
        assert [layer.kind for layer in self.network.layers] == list(kinds)
        return [patch.reason for patch in log.patches]


# --- clean ----------------------------------------------------------------------------------------------------------


def test_dead_layers_go_and_impure_ones_stay() -> None:
    example = Example("clean.dead_layers")
    x = example.input(3)
    example.output(example.add("Unary", x, operation="abs"))
    example.add("Unary", example.add("Unary", x, operation="neg"), operation="exp")
    example.add("test.Noise", x)
    reasons = example.rewrite("Unary", "test.Noise")
    assert reasons
    assert set(reasons) == {"nothing reads its outputs"}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


IDENTITIES: dict[str, tuple[tuple[Any, ...], str, list[Any], dict[str, Any]]] = {
    "identity": ((N, 3), "Identity", [], {}),
    "cast": ((N, 3), "Cast", [], {"to": "float32"}),
    "transpose": ((N, 3, 4), "Transpose", [], {"permutation": (0, 1, 2)}),
    "transpose of ones": ((1, 1, 3), "Transpose", [], {"permutation": (1, 0, 2)}),
    "transpose of a vector": ((N,), "Transpose", [], {}),
    "reshape": ((3, 4), "Reshape", [ints(3, -1)], {}),
    "reshape with copies": ((N, 4), "Reshape", [ints(0, 4)], {}),
    "flatten": ((N, 4), "Flatten", [], {}),
    "expand": ((N, 4), "Expand", [ints(1, 4)], {}),
    "tile": ((N, 4), "Tile", [ints(1, 1)], {}),
    "slice": ((5, 4), "Slice", [ints(0), ints(99), ints(1)], {}),
    "padding": ((N, 4), "Padding", [ints(0, 0, 0, 0)], {"mode": "constant"}),
    "concatenation": ((N, 4), "Concatenation", [], {"axis": 0}),
    "scale": ((N, 4), "Scale", [], {}),
}


@pytest.mark.parametrize("name", IDENTITIES)
@pytest.mark.parametrize("phase", ["clean", "tidy"])
def test_identities_go(name: str, phase: str) -> None:
    shape, kind, operands, attrs = IDENTITIES[name]
    example = Example(f"{phase}.identities")
    y = example.add(kind, example.add("Unary", example.input(*shape), operation="neg"), *operands, **attrs)
    example.output(example.add("Unary", y, operation="abs"))
    assert example.check("Unary", "Unary") == [f"this {kind} changes nothing"]


OTHERS: dict[str, tuple[tuple[Any, ...], str, list[Any], dict[str, Any]]] = {
    "cast": ((3,), "Cast", [], {"to": "float64"}),
    "transpose": ((3, 3), "Transpose", [], {}),
    "reshape": ((3, 4), "Reshape", [ints(4, 3)], {}),
    "reversing slice": ((5,), "Slice", [ints(-1), ints(-99), ints(0), ints(-1)], {}),
    "short slice": ((5,), "Slice", [ints(1), ints(99), ints(0)], {}),
    "shifting padding": ((5,), "Padding", [ints(1, -1)], {"mode": "constant"}),
    "scale": ((4,), "Scale", [np.float32([2.0])], {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_looks_like_an_identity_stays(name: str) -> None:
    shape, kind, operands, attrs = OTHERS[name]
    example = Example("clean.identities")
    y = example.add(kind, example.add("Unary", example.input(*shape), operation="neg"), *operands, **attrs)
    example.output(example.add("Unary", y, operation="abs"))
    assert not example.check("Unary", kind, "Unary")


def test_somebody_must_write_the_outputs() -> None:
    example = Example("clean.identities")
    x = example.input(3)
    y = example.add("Unary", x, operation="neg")
    example.output(example.add("Identity", x), y, example.add("Identity", y))
    assert not example.check("Unary", "Identity", "Identity")


def test_an_identity_before_an_output_goes() -> None:
    example = Example("clean.identities")
    example.output(example.add("Identity", example.add("Unary", example.input(3), operation="neg")))
    assert example.check("Unary")


# --- fold -----------------------------------------------------------------------------------------------------------


def test_layers_of_constants_are_folded_together() -> None:
    example = Example("fold.constants")
    c = example.add("Unary", np.array([1.0, -4.0], np.float32), operation="abs")
    c = example.add("Elementwise", c, np.float32([3, 5]), operation="div")
    example.output(example.add("Elementwise", example.input(2), c, operation="sum"))
    assert set(example.check("Elementwise")) == {"all of its inputs are constant"}
    [layer] = example.network.layers
    assert np.array_equal(layer.inputs[1].constant, np.float32([1, 4]) / np.float32([3, 5]))


def test_several_outputs_and_infinities() -> None:
    example = Example("fold.constants")
    first, second = example.add("Split", np.float32([[0, 1], [2, 3]]), axis=1, parts=2)
    assert first.type.shape == (2, 1)
    first = example.add("Unary", first, operation="log")
    x = example.input(2, 1)
    example.output(example.add("Elementwise", x, first, operation="max"))
    example.output(example.add("Elementwise", x, second, operation="sum"))
    example.check("Elementwise", "Elementwise")


@pytest.mark.parametrize(
    ("elements", "count", "folded"),
    [(1, 1 << 18, True), (1, (1 << 18) + 1, False), (1 << 19, 4, True), (1 << 19, 5, False)],
)
def test_growth_is_bounded_before_anything_is_computed(elements: int, count: int, folded: bool) -> None:
    example = Example("fold.constants")
    repeated = example.add("test.Repeat", np.ones(elements, np.float32), count=count)
    example.output(example.add("Unary", repeated, operation="neg"))
    RepeatLayer.evaluated = 0
    run_passes(example.network.graph, example.network.registry)
    assert ("test.Repeat" not in [layer.kind for layer in example.network.layers]) == folded
    assert RepeatLayer.evaluated == folded


@pytest.mark.parametrize(
    "build",
    [
        lambda e: e.add("test.Noise", np.ones(3, np.float32)),
        lambda e: e.add("test.Branch", np.ones(3, np.float32)),
        lambda e: e.add("Gather", np.ones(3, np.float32), ints(7)),
        lambda e: e.add("Dequantize", np.ones(3, np.int8), np.float32(1)),
    ],
)
def test_left_alone(build: Callable[[Example], Any]) -> None:
    example = Example("fold.constants")
    example.output(build(example))
    [layer] = example.network.layers
    assert not example.rewrite(layer.kind)


def test_known_shapes_become_constants() -> None:
    example = Example("fold.shapes")
    x = example.input(N, 3, 4)
    shape = example.add("Shape", example.input(2, 5), start=0)
    tail = example.add("Elementwise", shape, ints(1, 2), operation="prod")
    example.output(tail, example.add("Shape", x))
    assert set(example.check("Shape")) == {"its value follows from the shapes"}
    assert example.network.outputs["y0"].constant.tolist() == [2, 10]
    assert example.network.outputs["y0"].constant.dtype == np.int64


def test_known_parts_of_symbolic_shapes_become_constants() -> None:
    example = Example("fold.shapes")
    shape = example.add("Shape", example.input(N, 3, 4))
    example.output(example.add("Gather", shape, ints(2, 1)))
    example.check()
    assert example.network.outputs["y0"].constant.tolist() == [4, 3]


# --- fuse -----------------------------------------------------------------------------------------------------------


def statistics(example: Example, channels: int) -> list[np.ndarray]:
    return [example.normal(channels), example.normal(channels), example.normal(channels), example.normal(channels) ** 2]


def linear_layers(example: Example) -> Mapping[str, Callable[[bool], Any]]:
    """Each kind with 6 channels of output, groups where there are any."""

    def bias(wanted: bool) -> Any:
        return example.normal(6) if wanted else None

    return {
        "Convolution": lambda b: example.add(
            "Convolution", example.input(N, 4, 5, 5), example.normal(6, 2, 3, 3), bias(b), groups=2
        ),
        "Deconvolution": lambda b: example.add(
            "Deconvolution", example.input(N, 4, 3, 3), example.normal(4, 3, 2, 2), bias(b), groups=2, stride=(2, 2)
        ),
        "FullyConnected": lambda b: example.add("FullyConnected", example.input(N, 5), example.normal(6, 5), bias(b)),
    }


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution", "FullyConnected"])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_normalization_goes_into_weights(kind: str, bias: bool) -> None:
    example = Example("fuse.batch_normalization")
    y = linear_layers(example)[kind](bias)
    example.output(example.add("BatchNormalization", y, *statistics(example, 6), epsilon=1e-3))
    [reason] = example.check(kind)
    assert reason.startswith("folded into the weights of")


@pytest.mark.parametrize("why", ["output", "two readers", "pooling between", "computed weights"])
def test_batch_normalization_otherwise_scales_channels(why: str) -> None:
    example = Example("fuse.batch_normalization")
    x = example.input(N, 3, 5, 5)
    weights = example.input(4, 3, 3, 3) if why == "computed weights" else example.normal(4, 3, 3, 3)
    y = example.add("Convolution", x, weights)
    kinds = ["Convolution", "Scale"]
    if why == "output":
        example.output(y)
    if why == "two readers":
        example.output(example.add("Unary", y, operation="abs"))
        kinds = ["Convolution", "Unary", "Scale"]
    if why == "pooling between":
        y = example.add("Pooling", y, function="max", window=(2, 2))
        kinds = ["Convolution", "Pooling", "Scale"]
    example.output(example.add("BatchNormalization", y, *statistics(example, 4)))
    assert example.check(*kinds) == ["its statistics are constant, so it scales channels"]


def test_batch_normalization_by_computed_or_impossible_statistics_stays() -> None:
    example = Example("fuse.batch_normalization")
    scale, bias, mean, _ = statistics(example, 3)
    x = example.input(N, 3)
    example.output(example.add("BatchNormalization", x, scale, bias, mean, example.input(3)))
    example.output(example.add("BatchNormalization", x, scale, bias, mean, np.float32([1, -1, 1])))
    assert not example.rewrite("BatchNormalization", "BatchNormalization")


AFFINE: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "uniform scale": ("Scale", [np.float32([2]), np.float32([3])], {}),
    "channel scale": ("Scale", [np.arange(6, dtype="f"), np.arange(6, dtype="f")], {"mode": "channel"}),
    "shift only": ("Scale", [np.arange(6, dtype="f")], {"mode": "channel"}),
    "power of one": ("Scale", [None, np.float32([3]), np.float32([1])], {}),
    "sum": ("Elementwise", [np.arange(6, dtype="f").reshape(1, 6, 1, 1)], {"operation": "sum"}),
    "sum without batch": ("Elementwise", [np.arange(6, dtype="f").reshape(6, 1, 1)], {"operation": "sum"}),
    "prod": ("Elementwise", [np.arange(6, dtype="f").reshape(1, 6, 1, 1)], {"operation": "prod"}),
    "prod with a number": ("Elementwise", [np.float32(3)], {"operation": "prod"}),
    "sub": ("Elementwise", [np.arange(6, dtype="f").reshape(1, 6, 1, 1)], {"operation": "sub"}),
}


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("linear", ["Convolution", "Deconvolution"])
def test_affine_layers_go_into_weights(name: str, linear: str) -> None:
    kind, operands, attrs = AFFINE[name]
    example = Example("fuse.affine")
    example.output(example.add(kind, linear_layers(example)[linear](True), *operands, **attrs))
    [reason] = example.check(linear)
    assert reason.startswith("folded into the weights of")


def test_affine_layers_from_the_left_and_after_fully_connected() -> None:
    example = Example("fuse.affine")
    y = example.add("FullyConnected", example.input(N, 3, 5), example.normal(6, 5))
    y = example.add("Elementwise", np.arange(6, dtype="f"), y, operation="sum")
    example.output(example.add("Elementwise", y, np.arange(6, dtype="f"), operation="prod"))
    assert len(example.check("FullyConnected")) == 2


NOT_AFFINE: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "power": ("Scale", [None, None, np.float32([2])], {}),
    "other axis": ("Scale", [np.arange(3, dtype="f")], {"mode": "channel", "axis": 2}),
    "other vector": ("Elementwise", [np.arange(3, dtype="f")], {"operation": "sum"}),
    "matrix": ("Elementwise", [np.ones((4, 3, 3), "f")], {"operation": "sum"}),
    "wider": ("Elementwise", [np.ones((1, 1, 1, 1, 1), "f")], {"operation": "sum"}),
    "division": ("Elementwise", [np.float32(2)], {"operation": "div"}),
    "infinity": ("Elementwise", [np.float32(np.inf)], {"operation": "sum"}),
}


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_what_is_no_affine_layer_of_channels_stays(name: str) -> None:
    kind, operands, attrs = NOT_AFFINE[name]
    example = Example("fuse.affine")
    example.output(example.add(kind, example.convolution(example.input(N, 3, 5, 5)), *operands, **attrs))
    assert not example.rewrite("Convolution", kind)


def test_a_difference_from_a_constant_is_no_shift() -> None:
    example = Example("fuse.affine")
    y = example.convolution(example.input(N, 3, 5, 5))
    example.output(example.add("Elementwise", np.float32(1), y, operation="sub"))
    assert not example.rewrite("Convolution", "Elementwise")


def test_a_scale_whose_operand_is_a_convolution_stays() -> None:
    example = Example("fuse.affine")
    shift = example.convolution(example.input(N, 3, 5, 5))
    example.output(example.add("Scale", example.input(N, 4, 3, 3), shift, np.float32([2]), mode="elementwise"))
    assert not example.rewrite("Convolution", "Scale")


def test_weights_that_would_overflow_stay() -> None:
    example = Example("fuse.affine")
    y = example.add("Convolution", example.input(N, 1, 3, 3), np.full((1, 1, 1, 1), 1e30, "f"))
    example.output(example.add("Elementwise", y, np.float32(1e30), operation="prod"))
    assert not example.rewrite("Convolution", "Elementwise")


@pytest.mark.parametrize("transpose_b", [True, False])
def test_products_with_a_constant_matrix_take_a_bias_along(transpose_b: bool) -> None:
    example = Example("fuse.fully_connected", "fuse.affine")
    matrix = example.normal(6, 5) if transpose_b else example.normal(5, 6)
    y = example.add("MatrixMultiply", example.input(N, 3, 5), matrix, transpose_b=transpose_b)
    example.output(example.add("Elementwise", y, example.normal(6), operation="sum"))
    assert len(example.check("FullyConnected")) == 2


@pytest.mark.parametrize("why", ["transposed", "vector", "batched", "computed"])
def test_other_products_stay(why: str) -> None:
    example = Example("fuse.fully_connected")
    source = example.input(5) if why == "vector" else example.input(5, 5)
    right = example.input(5, 5) if why == "computed" else example.normal(*[2] * (why == "batched"), 5, 5)
    example.output(example.add("MatrixMultiply", source, right, transpose_a=why == "transposed"))
    assert not example.check("MatrixMultiply")


# --- tidy -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.lists(st.permutations(range(4)).filter(lambda order: order != [0, 1, 2, 3]), min_size=1, max_size=4))
def test_transposes_become_one_or_none(permutations: Sequence[Sequence[int]]) -> None:
    """Those that move nothing are what `tidy.identities` takes away."""
    example = Example("tidy.shuffles")
    y = example.add("Unary", example.input(N, 3, 4, 5), operation="neg")
    joined = list(range(4))
    for permutation in permutations:
        y = example.add("Transpose", y, permutation=tuple(permutation))
        joined = [joined[axis] for axis in permutation]
    example.output(example.add("Unary", y, operation="abs"))
    gone = joined == sorted(joined)
    example.check("Unary", *["Transpose"] * (not gone), "Unary")


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(4)), st.tuples(*[st.sampled_from([1, 1, 3])] * 4), st.booleans())
def test_transposes_of_axes_of_length_one_are_reshapes(order: Sequence[int], sizes: Any, symbol: bool) -> None:
    example = Example("tidy.unit_transposes")
    shape = (N, *sizes[1:]) if symbol else sizes
    y = example.add("Unary", example.input(*shape), operation="neg")
    example.output(example.add("Unary", example.add("Transpose", y, permutation=tuple(order)), operation="abs"))
    kept = [axis for axis in order if shape[axis] != 1]
    example.check("Unary", "Reshape" if kept == sorted(kept) else "Transpose", "Unary")


def test_the_first_transpose_stays_for_its_other_reader() -> None:
    example = Example("tidy.shuffles")
    first = example.add("Transpose", example.input(N, 3))
    example.output(first, example.add("Transpose", first))
    example.check("Transpose", "Transpose")


def test_reshapes_become_the_last() -> None:
    example = Example("tidy.shuffles")
    y = example.add("Flatten", example.input(N, 2, 3, 4))
    y = example.add("Reshape", y, ints(-1, 4, 6))
    example.output(example.add("Reshape", y, ints(-1, 12, 2)))
    assert len(example.check("Reshape")) == 2


def test_a_reshape_that_copies_or_settles_a_size_stays() -> None:
    example = Example("tidy.shuffles")
    x = example.input(N, 2, 6)
    example.output(example.add("Reshape", example.add("Flatten", x), ints(0, 3, 4)))
    settled = example.add("Reshape", x, ints(2, 12))  # from here on N is 2
    example.output(example.add("Reshape", settled, ints(-1, 6)))
    assert not example.check("Flatten", "Reshape", "Reshape", "Reshape")


@pytest.mark.parametrize("mode", ["uniform", "channel", "elementwise"])
@given(given=st.sets(st.sampled_from(["shift", "scale", "power"]), min_size=1), axis=st.integers(-4, 3))
@settings(max_examples=15, deadline=None)
def test_a_scale_becomes_a_product_a_sum_and_a_power(mode: str, given: set[str], axis: int) -> None:
    example = Example("tidy.scales")
    x = example.input(2, 3, 4, 5)
    example.feeds["x0"] = np.abs(example.feeds["x0"])  # a negative number has no fractional power
    shape = {"uniform": (1,), "channel": (x.type.shape[axis],), "elementwise": (4, 1)}[mode]
    operands = [np.abs(example.normal(*shape)) if name in given else None for name in ("shift", "scale", "power")]
    example.output(example.add("Scale", x, *operands, mode=mode, axis=axis))
    assert len(example.check(*["Elementwise"] * len(given))) == 1
    assert all(t is None or t.type.rank in (1, 4) for layer in example.network.layers for t in layer.inputs)


@pytest.mark.parametrize("why", ["float16", "computed", "neutral"])
def test_other_scales_stay(why: str) -> None:
    example = Example("tidy.scales")
    x = example.input(2, 3, dtype="float16" if why == "float16" else "float32")
    scale = {"float16": np.full(3, 2, np.float16), "computed": example.input(3), "neutral": np.ones(3, np.float32)}
    example.output(example.add("Scale", x, None, scale[why], mode="channel"))
    example.rewrite("Scale")


def test_a_scale_that_changes_nothing_goes() -> None:
    example = Example("tidy.identities")
    y = example.add("Unary", example.input(2, 3), operation="abs")
    y = example.add("Scale", y, np.zeros(3, np.float32), np.ones(3, np.float32), None, mode="channel")
    example.output(y)
    example.check("Unary")


# --- together -------------------------------------------------------------------------------------------------------


def test_all_passes_on_a_small_network() -> None:
    names = [e.name for e in scan()["tenonrt.passes"] if e.distribution == "tenonrt-passes-standard"]
    example = Example(*names)
    x = example.input(N, 3, 6, 6)
    y = example.add("BatchNormalization", example.convolution(x), *statistics(example, 4))
    y = example.add("Scale", y, example.normal(4), example.normal(4), mode="channel")
    y = example.add("Identity", example.add("Activation", y, function="relu"))
    size = example.add("Gather", example.add("Shape", y), ints(1, 2, 3))
    size = example.add("Reduce", size, operation="prod", keep_dims=True)
    y = example.add("Reshape", y, example.add("Concatenation", ints(-1), size, axis=0))
    y = example.add("MatrixMultiply", y, example.normal(64, 10))
    example.output(example.add("Elementwise", y, example.normal(10), operation="sum"))
    example.check("Convolution", "Activation", "Reshape", "FullyConnected")
