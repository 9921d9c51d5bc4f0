"""LSTM and GRU without a GPU: their steps run thread by thread on the processor, and are judged as a build does."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from nvrtc_clusters import Cluster
from nvrtc_emulation import REGISTRY, needs_compiler
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, try_tactic
from tenonrt.contracts import (
    Array,
    Code,
    Executable,
    ExecutionError,
    Kernel,
    Problem,
    Support,
    Tactic,
    UnsupportedError,
    Weights,
    numpy_dtype,
)
from tenonrt.plugins.registry import using
from tenonrt_kernel_nvrtc import launching
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.recurrent.instructions import INSTRUCTIONS
from tenonrt_kernel_nvrtc.recurrent.kernel import RecurrentKernel, filling, parsed, room
from tenonrt_kernel_nvrtc.recurrent.problem import recurrences
from tenonrt_kernel_nvrtc.recurrent.tiles import Tile, tiles
from tenonrt_kernel_nvrtc.storage import BFLOAT16, FLOAT16, Narrow, narrow_of, prelude

KERNEL = RecurrentKernel()


def weights(*shape: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) / max(1.0, float(shape[-1])) ** 0.5).astype(np.float32)


def layer(
    kind: str = "LSTM", steps: int = 3, batch: int = 2, features: int = 8, hidden: int = 24, *, bias: bool = True,
    initial: str = "", lengths: str = "", lasts: bool = False, shown: bool = True, **attrs: Any,
) -> Problem:  # fmt: skip
    """initial, lengths: "given", "constant" or absent."""
    directions, gates = 2 if attrs.get("direction") == "bidirectional" else 1, 4 if kind == "LSTM" else 3
    first = attrs.get("layout", 0) == 0
    if kind == "GRU":
        attrs.setdefault("linear_before_reset", True)

    def operand(net: tenonrt.Network, how: str, name: str, value: Array) -> Any:
        if not how:
            return None
        return value if how == "constant" else net.add_input(name, value.shape, str(value.dtype))

    network, rows = tenonrt.Network("problem", REGISTRY), gates * hidden
    x = network.add_input("x", (steps, batch, features) if first else (batch, steps, features))
    given = [x, weights(directions, rows, features), weights(directions, rows, hidden)]
    given.append(weights(directions, 2 * rows) if bias else None)
    given.append(operand(network, lengths, "lengths", (np.arange(batch) % steps + 1).astype(np.int32)))
    shape = (directions, batch, hidden) if first else (batch, directions, hidden)
    given += [operand(network, initial, f"state{i}", weights(*shape)) for i in range(2 if kind == "LSTM" else 1)]
    y, *others = network.add(kind, given, {"hidden_size": hidden, **attrs})
    if shown:
        network.mark_output(y, "y")
    for number, last in enumerate(others if lasts or not shown else ()):
        network.mark_output(last, f"last{number}")
    return pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem


class Emulated(Kernel):
    """The steps as threads of the processor; the product of the inputs by NumPy, of what is packed for it."""

    def supports(self, problem: Problem) -> Support:
        return KERNEL.supports(problem)

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        source, info = KERNEL.generate(problem, tactic)
        assert source.startswith(INSTRUCTIONS)
        return Code(problem, tactic, source[len(INSTRUCTIONS) :].encode(), info)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        return KERNEL.pack(code, weights)

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return _Steps(code, packed)


class _Steps:
    def __init__(self, code: Code, packed: Sequence[Array]) -> None:
        source = code.blob.decode()
        head = source[source.index(" kernel(") + len(" kernel(") :]
        types = [parameter.rpartition("*")[0] + "*" for parameter in head[: head.index(")")].split(", ")]
        self._cluster, self._packed, self._code = Cluster(source, types, narrow_of(code.tactic)), packed, code

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        problem, info = self._code.problem, self._code.info
        layers = recurrences(problem)
        r, (tile, _) = layers[0], parsed(layers[0], self._code.tactic)
        needed, source = room(layers, tile), problem.activations.index(r.operands["input"])
        matrix, bias, *others = self._packed
        direct = self._code.tactic.key.startswith("direct")
        weights = matrix.T if direct else matrix.reshape(needed.columns, -1)[:, : r.features]
        assert workspace is not None
        elements = workspace[: 2 * needed.size].view(numpy_dtype(narrow_of(self._code.tactic).dtype))
        elements[needed.told :].view(np.uint16)[...] = 0xFFFF
        sums = inputs[source].reshape(r.rows, -1).astype(np.float32) @ weights.T.astype(np.float32)
        elements[: needed.told] = (sums + bias[: needed.columns]).reshape(-1)
        states = [array for i, array in enumerate(inputs) if i != source]
        hiddens = [elements[needed.hiddens :]] if len(layers) > 1 else []
        arrays = [*outputs, *states, elements, *hiddens, *others]
        self._cluster.run(arrays, info["grid"][0], tile.blocks, info["block"][0])


def chosen(problem: Problem, tactic: Tactic, tile: Tile) -> Tactic:
    """With this tile in place of the tactic's."""
    product, of, _, *rest = tactic.key.split(" ")
    workspace = 2 * room(recurrences(problem), tile).size
    return msgspec.structs.replace(tactic, key=" ".join([product, of, tile.key, *rest]), workspace=workspace)


def tile_of(problem: Problem, blocks: int, sequences: int) -> Tile:
    """With so many blocks, whatever is fastest."""
    return Tile(blocks, -(-recurrences(problem)[0].hidden // blocks // 8) * 8, sequences)


def judge(problem: Problem, tile: Tile, narrow: Narrow = FLOAT16) -> None:
    """As a build does: canaries, two samples; stored in 16 bits and in single precision."""
    with using(REGISTRY):
        support = KERNEL.supports(problem)
        assert support.ok, support.why
        samples = [Sample.draw(problem, REGISTRY.layer_type, 2, seed) for seed in range(2)]
        for tactic in (chosen(problem, tactic, tile) for tactic in KERNEL.offers(problem, [narrow])[:2]):
            verdict, _ = try_tactic(Emulated(), problem, tactic, samples, REGISTRY.layer_type, REGISTRY.device("cpu"))
            assert verdict.ok, f"{tactic.key}: {verdict.why}"


def run(problem: Problem, given: Sequence[Array | None], tile: Tile, number: int = 0) -> list[Array]:
    """The results of a tactic, the first in half precision, the second in single; ``given`` by `Problem.inputs`."""
    with using(REGISTRY):
        tactic, kernel = chosen(problem, KERNEL.tactics(problem)[number], tile), Emulated()
    code = kernel.compile(problem, tactic)
    constants = [np.asarray(given[i]) for i in problem.constants]
    inputs = [
        np.asarray(given[i]).astype(tactic.input_format(k).dtype or problem.types[i].numpy)
        for k, i in enumerate(problem.activations)
    ]
    types = [problem.types[i].stored_as(tactic.output_format(k)) for k, i in enumerate(problem.outputs)]
    outputs = [np.full(t.concrete({}), np.nan, t.format.dtype or t.dtype) for t in types]
    bound = kernel.bind(code, kernel.pack(code, Weights(tuple(constants))))
    bound.launch(inputs, outputs, np.zeros(tactic.workspace, np.uint8), None)  # type: ignore[union-attr]
    return outputs


@needs_compiler
@settings(max_examples=4, deadline=None)
@given(
    kind=st.sampled_from(["LSTM", "GRU"]), steps=st.integers(1, 6), batch=st.integers(1, 11),
    features=st.sampled_from([8, 24, 13]), hidden=st.sampled_from([1, 8, 13, 24, 40]), layout=st.sampled_from([0, 1]),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]), bias=st.booleans(),
    initial=st.sampled_from(["", "given", "constant"]), lengths=st.sampled_from(["", "given", "constant"]),
    lasts=st.booleans(), blocks=st.sampled_from([1, 2, 4]), sequences=st.sampled_from([1, 3, 8, 13]),
)  # fmt: skip
def test_layers(blocks: int, sequences: int, **sizes: Any) -> None:
    problem = layer(**sizes)
    judge(problem, tile_of(problem, blocks, sequences))


@needs_compiler
@pytest.mark.parametrize(
    ("kind", "attrs", "narrow"),
    [
        ("LSTM", {"clip": 0.6}, FLOAT16), ("GRU", {"clip": 0.6}, BFLOAT16), ("LSTM", {"input_forget": True}, BFLOAT16),
        ("LSTM", {"shown": False}, FLOAT16),
    ],
    ids=str,
)  # fmt: skip
def test_attributes_types_and_last_states_alone(kind: str, attrs: dict[str, Any], narrow: Narrow) -> None:
    problem = layer(kind, 4, 3, initial="given", **attrs)
    judge(problem, tile_of(problem, 2, 8), narrow)


@needs_compiler
@pytest.mark.parametrize(("kind", "number"), [("LSTM", 0), ("GRU", 1)])
def test_clusters_of_sixteen_are_near_float64(kind: str, number: int) -> None:
    """As near as halves are, which is much nearer than what a build allows: hidden states are below 1."""
    problem = layer(kind, 3, 10, 64, 250, direction="bidirectional", lengths="given", lasts=True)
    with using(REGISTRY):
        sample = Sample.draw(problem, REGISTRY.layer_type, 2, 0)
    found = run(problem, sample.inputs, Tile(16, 16, 10), number)
    for values, expected in zip(found, sample.expected, strict=True):
        np.testing.assert_allclose(values.astype(np.float64), expected, atol=3e-3)


@needs_compiler
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_long_sequences_are_near_onnxruntime(kind: str) -> None:
    """Errors of a step must not add up over all of them."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    gates, (steps, batch, features, hidden) = (4 if kind == "LSTM" else 3), (150, 3, 16, 48)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((steps, batch, features)).astype(np.float32)
    rows = gates * hidden
    given = {"w": weights(1, rows, features), "r": weights(1, rows, hidden), "b": weights(1, 2 * rows)}
    attrs = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = onnx.helper.make_node(kind, ["x", *given], ["y"], hidden_size=hidden, **attrs)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "layer", [value("x", 1, x.shape)], [value("y", 1, (steps, 1, batch, hidden))],
        [onnx.numpy_helper.from_array(array, name) for name, array in given.items()],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    problem = layer(kind, steps, batch, features, hidden)
    (found,) = run(problem, [x, *given.values()], Tile(2, 24, 8), 1)
    np.testing.assert_allclose(found, session.run(None, {"x": x})[0], atol=3e-3)


def stack(
    kind: str, steps: int, batch: int, features: int, hidden: int, count: int, *, turns: str = "", **attrs: Any
) -> Problem:
    """Layers with reshapes between them; all but the states between layers are results. turns: transposes around it."""
    first, gates = attrs.get("layout", 0) == 0, 4 if kind == "LSTM" else 3
    network, rows = tenonrt.Network("stack", REGISTRY), gates * hidden
    if kind == "GRU":
        attrs["linear_before_reset"] = True
    if "before" in turns:
        x = network.add("Transpose", [network.add_input("x", (batch, steps, features))], {"permutation": (1, 0, 2)})[0]
    else:
        x = network.add_input("x", (steps, batch, features) if first else (batch, steps, features))
    zeros = np.zeros((1, batch, hidden) if first else (batch, 1, hidden), np.float32)
    for number in range(count):
        width = hidden if number else features
        given = [x, weights(1, rows, width), weights(1, rows, hidden), weights(1, 2 * rows) if number else None, None]
        given.append(network.add_input(f"h{number}", zeros.shape) if number % 2 else zeros)
        x, *lasts = network.add(kind, given, {"hidden_size": hidden, **attrs})
        network.mark_output(lasts[-1], f"last{number}")
        if number < count - 1 or "after" in turns:
            shape = np.array((*((steps, batch) if first else (batch, steps)), hidden), np.int64)
            x = network.add("Reshape", [x, shape], {})[0]
    if "after" in turns:
        x = network.add("Transpose", [x], {"permutation": (1, 0, 2)})[0]
    network.mark_output(x, "y")
    *_, longest = KERNEL.regions(network.graph, next(one for one in network.graph.layers if one.kind == kind))
    assert len(longest) == len(network.graph.layers)
    return pose(make_region(network.graph, longest), "cuda", 1).problem


@needs_compiler
@settings(max_examples=2, deadline=None)
@given(
    kind=st.sampled_from(["LSTM", "GRU"]), steps=st.integers(1, 6), batch=st.integers(1, 11),
    hidden=st.sampled_from([8, 13, 24]), count=st.integers(2, 4), layout=st.sampled_from([0, 1]),
    blocks=st.sampled_from([1, 2]), sequences=st.sampled_from([3, 11]),
)  # fmt: skip
def test_stacks(blocks: int, sequences: int, **sizes: Any) -> None:
    problem = stack(features=16, **sizes)
    assert len(recurrences(problem)) == sizes["count"]
    judge(problem, tile_of(problem, blocks, sequences))


@needs_compiler
def test_what_clusters_tell_each_other_is_all_ones_before() -> None:
    told = np.zeros(8008, np.uint16)
    Cluster(filling(8000), ["narrow_t *"], FLOAT16).run([told], 4, 1, 256)
    assert (told[:8000] == 0xFFFF).all()
    assert not told[8000:].any()


@needs_compiler
def test_weights_that_are_streamed() -> None:
    judge(stack("LSTM", 2, 3, 8, 136, 2), Tile(2, 72, 3, streamed=True))


@needs_compiler
@pytest.mark.parametrize(("turns", "count"), [("before", 1), ("before and after", 2)])
def test_transposes_around_layers_are_other_places_to_read_and_write(turns: str, count: int) -> None:
    problem = stack("LSTM", 4, 3, 8, 16, count, turns=turns)
    assert problem.kinds[0] == "Transpose"
    judge(problem, tile_of(problem, 2, 3))


@pytest.mark.parametrize(("why", "changed"), [("differ", {"hidden": 16}), ("differ", {"clip": 0.5}), ("is wanted", {})])
def test_other_stacks_are_layers_one_by_one(why: str, changed: dict[str, Any]) -> None:
    network, hidden = tenonrt.Network("stack", REGISTRY), changed.get("hidden", 8)
    given = [network.add_input("x", (3, 2, 16)), weights(1, 32, 16), weights(1, 32, 8)]
    first = network.add("LSTM", given, {"hidden_size": 8})[0]
    x = network.add("Squeeze", [first], {"axes": (1,)})[0]
    attrs = {"hidden_size": hidden, "clip": changed.get("clip")}
    y = network.add("LSTM", [x, weights(1, 4 * hidden, 8), weights(1, 4 * hidden, hidden)], attrs)[0]
    for number, output in enumerate([y, first] if why == "is wanted" else [y]):
        network.mark_output(output, f"y{number}")
    found = list(KERNEL.regions(network.graph, network.graph.layers[0]))
    assert len(found) == (1 if why == "is wanted" else 2)
    problem = pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem
    assert why in KERNEL.supports(problem).why


def test_a_stack_needs_room_for_all_its_clusters_at_once() -> None:
    assert KERNEL.supports(stack("LSTM", 2, 64, 8, 512, 2)).ok
    assert "more clusters" in KERNEL.supports(stack("LSTM", 2, 65, 8, 512, 2)).why


@given(
    st.integers(1, 1536), st.integers(1, 300), st.integers(1, 5), st.sampled_from(["forward", "bidirectional"]),
    st.sampled_from(["LSTM", "GRU"]),
)  # fmt: skip
def test_tiles_have_all_units_and_fit(hidden: int, batch: int, steps: int, direction: str, kind: str) -> None:
    (r,) = recurrences(sized(kind, steps, batch, hidden, direction))
    found = tiles(r)
    assert found
    for tile in found:
        assert tile.all_units >= hidden
        assert tile.blocks == 1 or hidden > tile.blocks // 2 * tile.units
        assert tile.depth >= tile.all_units
        assert tile.depth % 64 == tile.units % 8 == 0
        assert tile.streamed == (hidden > 512)
        assert tile.clusters(r) * tile.sequences >= batch * r.directions
        assert tile.streamed or tile.threads * (tile.registers + 44) <= 65536
        assert tile.shared <= 227 << 10
        assert Tile.parsed(tile.key) == tile


def sized(kind: str, steps: int, batch: int, hidden: int, direction: str = "forward") -> Problem:
    """A layer without a network, for sizes whose weights would take long to draw."""
    problem = layer(kind, hidden=8, direction=direction)
    attrs = msgspec.structs.replace(problem.layer.attrs, hidden_size=hidden)
    shape = (steps, batch, 8)
    return msgspec.structs.replace(
        problem,
        layers=(msgspec.structs.replace(problem.layer, attrs=attrs),),
        types=(msgspec.structs.replace(problem.types[0], shape=shape), *problem.types[1:]),
    )


def test_refusals_say_why() -> None:
    def why(problem: Problem) -> str:
        return KERNEL.supports(problem).why

    assert "more than the threads" in why(sized("LSTM", 3, 2, 2000))
    assert "linear_before_reset" in why(layer("GRU", linear_before_reset=False))
    assert "HardSigmoid" in why(layer(activations=("HardSigmoid", "Tanh", "Tanh")))
    assert not why(layer(activations=("Sigmoid", "Tanh", "Tanh")))
    assert not why(layer(hidden=512))


@pytest.mark.parametrize(
    ("kind", "tile", "attrs"),
    [
        ("LSTM", Tile(16, 32, 8), {}), ("LSTM", Tile(16, 32, 24), {}), ("LSTM", Tile(16, 32, 32), {}),
        ("GRU", Tile(16, 32, 32), {"direction": "bidirectional", "lengths": "given", "initial": "given"}),
        ("LSTM", Tile(16, 96, 8, streamed=True), {"initial": "given"}), ("GRU", Tile(16, 56, 8, streamed=True), {}),
        ("LSTM", Tile(8, 40, 24), {"lasts": True, "lengths": "given", "direction": "reverse"}),
    ],
    ids=str,
)  # fmt: skip
def test_steps_compile_for_hopper_and_weights_stay_in_registers(kind: str, tile: Tile, attrs: dict[str, Any]) -> None:
    """A thread that has no memory of its own has spilled nothing, and keeps no array there."""
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    assert tile.fits
    problem = layer(kind, 3, 40, 8, tile.all_units, **attrs)
    with using(REGISTRY):
        tactic = chosen(problem, KERNEL.tactics(problem)[0], tile)
        source, info = KERNEL.generate(problem, tactic)
    facts = resources(compile_cubin(prelude(tactic) + source, "sm_90a"))
    assert facts["memory"] == 0
    assert facts["registers"] * info["block"][0] <= 65536


def resources(cubin: bytes) -> dict[str, int]:
    """Of a module's one kernel, from its section .nv.info: registers and bytes of memory of a thread."""
    start, size, count, names = (*struct.unpack_from("<Q", cubin, 40), *struct.unpack_from("<3H", cubin, 58))
    sections = [struct.unpack_from("<IIQQQQ", cubin, start + i * size) for i in range(count)]
    text = sections[names]
    (info,) = (s for s in sections if cubin[text[4] + s[0] :].startswith(b".nv.info\0"))
    at, end, found = info[4], info[4] + info[5], dict[str, int]()
    while at < end:
        form, kind, length = struct.unpack_from("<BBH", cubin, at)
        if kind in _FACTS:
            found[_FACTS[kind]] = struct.unpack_from("<II", cubin, at + 4)[1]
        at += 4 + (length if form == 4 else 0)
    return found


_FACTS = {0x11: "memory", 0x2F: "registers"}  # EIATTR_FRAME_SIZE, EIATTR_REGCOUNT


class Driver:
    """Says how many clusters have room."""

    def __init__(self, clusters: int) -> None:
        self.clusters, self.attributes = clusters, dict[int, int]()

    def cuFuncSetAttribute(self, function: Any, attribute: int, value: Any) -> int:  # noqa: N802
        self.attributes[attribute] = value.value
        return 0

    def cuOccupancyMaxActiveClusters(self, count: Any, function: Any, config: Any) -> int:  # noqa: N802
        assert config._obj.attributes[0].value[0] == 16
        count._obj.value = self.clusters
        return 0


def test_clusters_that_no_gpu_promises_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(7)
    monkeypatch.setattr(launching, "driver", lambda: driver)
    launching.allow_cluster(1, (32,), (256,), 1000, 16)
    assert driver.attributes == {14: 1}
    driver.clusters = 0
    with pytest.raises(ExecutionError, match="no room for a cluster of 16 blocks"):
        launching.allow_cluster(1, (32,), (256,), 1000, 16)
