"""Small models that ask for far more than their size: memory, time or depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

HUGE = 10**10
BOMBS: dict[str, Callable[[], onnx.ModelProto | bytes]] = {}


def bomb(make: Callable[[], onnx.ModelProto | bytes]) -> Callable[[], onnx.ModelProto | bytes]:
    BOMBS[make.__name__] = make
    return make


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str] | str, **attributes: Any) -> NodeProto:
    outputs = [outputs] if isinstance(outputs, str) else list(outputs)
    return helper.make_node(kind, inputs, outputs, f"{kind}_{outputs[0]}", **attributes)


def model(
    nodes: Sequence[NodeProto],
    constants: dict[str, Any] | None = None,
    inputs: dict[str, tuple[int, Sequence[Any]]] | None = None,
    output: str = "y",
    opset: int = 20,
) -> onnx.ModelProto:
    """A model of constants given as arrays and inputs given as (element type, shape), which are ``x`` unless given."""
    inputs = {"x": (TensorProto.FLOAT, [2])} if inputs is None else inputs
    graph = helper.make_graph(
        nodes,
        "bomb",
        [helper.make_tensor_value_info(name, code, shape) for name, (code, shape) in inputs.items()],
        [onnx.ValueInfoProto(name=output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def filled(shape: str = "shape", output: str = "f", value: float = 1.0) -> NodeProto:
    return node("ConstantOfShape", [shape], output, value=helper.make_tensor("v", TensorProto.FLOAT, [1], [value]))


@bomb
def constant_without_data() -> onnx.ModelProto:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[HUGE], name="t")
    return model([node("Constant", [], "c", value=tensor), node("Add", ["x", "c"], "y")])


@bomb
def initializer_without_data() -> onnx.ModelProto:
    made = model([node("Add", ["x", "w"], "y")], {"w": np.ones(1, np.float32)})
    made.graph.initializer[0].ClearField("raw_data")
    made.graph.initializer[0].dims[:] = [2**31, 2**31, 0]
    return made


@bomb
def external_data_without_end() -> onnx.ModelProto:
    made = model([node("Add", ["x", "w"], "y")], {"w": np.ones(1, np.float32)})
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.dims[:] = [HUGE]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/dev/zero")
    return made


@bomb
def huge_fill() -> onnx.ModelProto:
    return model([filled(), node("Add", ["f", "f"], "g"), node("ReduceSum", ["g"], "s"), node("Add", ["x", "s"], "y")],
                 {"shape": ints(100_000, 100_000)})  # fmt: skip


@bomb
def fill_past_64_bits() -> onnx.ModelProto:
    return model([filled(), node("ReduceSum", ["f"], "s"), node("Add", ["x", "s"], "y")], {"shape": ints(*[2**62] * 4)})


@bomb
def expand_chain() -> onnx.ModelProto:
    nodes = [node("Expand", ["c" if i == 0 else f"e{i - 1}", f"s{i}"], f"e{i}") for i in range(8)]
    sizes = {f"s{i}": ints(*[10] * (i + 1)) for i in range(8)}
    nodes += [node("ReduceMax", ["e7"], "m", keepdims=0), node("Add", ["x", "m"], "y")]
    return model(nodes, {"c": np.ones(1, np.float32), **sizes, "big": ints(1000)})


@bomb
def tile_chain() -> onnx.ModelProto:
    nodes = [node("Tile", ["c" if i == 0 else f"t{i - 1}", "by"], f"t{i}") for i in range(30)]
    nodes += [node("ReduceMax", ["t29"], "m", keepdims=0), node("Add", ["x", "m"], "y")]
    return model(nodes, {"c": np.ones((1, 1), np.float32), "by": ints(2, 2)})


@bomb
def tile_to_the_limits() -> onnx.ModelProto:
    nodes = [node("Tile", ["c" if i == 0 else f"t{i - 1}", "by"], f"t{i}") for i in range(10)]
    nodes += [node("ReduceMax", ["t9"], "m", keepdims=0), node("Add", ["x", "m"], "y")]
    return model(nodes, {"c": np.ones((1, 1), np.float32), "by": ints(2**40, 2**40)})


@bomb
def huge_range() -> onnx.ModelProto:
    return model([node("Range", ["zero", "limit", "one"], "r"), node("ReduceSum", ["r"], "s", keepdims=0),
                  node("Cast", ["s"], "c", to=1), node("Add", ["x", "c"], "y")],
                 {"zero": np.int64(0), "limit": np.int64(HUGE), "one": np.int64(1)})  # fmt: skip


@bomb
def range_of_tiny_steps() -> onnx.ModelProto:
    return model([node("Range", ["zero", "limit", "step"], "r"), node("ReduceSum", ["r"], "s", keepdims=0),
                  node("Add", ["x", "s"], "y")],
                 {"zero": np.float32(0), "limit": np.float32(1e38), "step": np.float32(1e-38)})  # fmt: skip


@bomb
def resize_of_a_constant() -> onnx.ModelProto:
    return model([node("Resize", ["c", "", "scales"], "r", mode="cubic"), node("ReduceMax", ["r"], "m", keepdims=0),
                  node("Add", ["x", "m"], "y")],
                 {"c": np.ones((1, 1, 4, 4), np.float32),
                  "scales": np.array([1, 1, 1e5, 1e5], np.float32)})  # fmt: skip


@bomb
def resize_of_an_input() -> onnx.ModelProto:
    return model([node("Resize", ["x", "", "", "sizes"], "r", mode="linear"),
                  node("ReduceMax", ["r"], "y", keepdims=0)],
                 {"sizes": ints(1, 1, 2**31, 2**31)}, {"x": (1, [1, 1, 4, 4])})  # fmt: skip


@bomb
def huge_pads() -> onnx.ModelProto:
    return model([node("Pad", ["c", "pads"], "p"), node("ReduceMax", ["p"], "m", keepdims=0),
                  node("Add", ["x", "m"], "y")],
                 {"c": np.ones((2, 2), np.float32), "pads": ints(50_000, 50_000, 50_000, 50_000)})  # fmt: skip


@bomb
def pads_that_wrap() -> onnx.ModelProto:
    return model([node("Pad", ["c", "pads"], "p", mode="reflect"), node("ReduceMax", ["p"], "m", keepdims=0),
                  node("Add", ["x", "m"], "y")],
                 {"c": np.ones((2, 2), np.float32), "pads": ints(0, 2**62, 0, 2**62)})  # fmt: skip


@bomb
def one_hot_of_huge_depth() -> onnx.ModelProto:
    return model([node("OneHot", ["i", "depth", "values"], "h"), node("ReduceMax", ["h"], "m", keepdims=0),
                  node("Add", ["x", "m"], "y")],
                 {"i": ints(*range(100)), "depth": np.int64(10**9),
                  "values": np.array([0, 1], np.float32)})  # fmt: skip


@bomb
def concat_doubling() -> onnx.ModelProto:
    nodes = [node("Concat", ["c" if i == 0 else f"t{i - 1}"] * 4, f"t{i}", axis=0) for i in range(20)]
    nodes += [node("ReduceMax", ["t19"], "m", keepdims=0), node("Add", ["x", "m"], "y")]
    return model(nodes, {"c": np.ones(1000, np.float32)})


@bomb
def concat_of_many() -> onnx.ModelProto:
    return model([node("Concat", ["x"] * 20_000, "y", axis=0)])


@bomb
def concat_of_many_doubled() -> onnx.ModelProto:
    return model([node("Concat", ["x"] * 3000, "a", axis=0), node("Concat", ["a"] * 3000, "y", axis=0)])


@bomb
def non_zero_of_a_huge_fill() -> onnx.ModelProto:
    return model([filled(), node("NonZero", ["f"], "n"), node("Cast", ["n"], "c", to=1),
                  node("ReduceMax", ["c"], "m", keepdims=0), node("Add", ["x", "m"], "y")],
                 {"shape": ints(100_000, 100_000)})  # fmt: skip


@bomb
def loop_without_end() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", ["cond_in"], "cond_out"), node("Add", ["s", "s"], "t")],
        "body",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("cond_in", 9, []),
         helper.make_tensor_value_info("s", 1, [2])],
        [helper.make_tensor_value_info("cond_out", 9, []), helper.make_tensor_value_info("t", 1, [2])],
    )  # fmt: skip
    return model([node("Loop", ["trips", "true", "c"], ["l"], body=body), node("Add", ["x", "l"], "y")],
                 {"trips": np.int64(2**62), "true": np.array(True), "c": np.ones(2, np.float32)})  # fmt: skip


@bomb
def loop_that_collects() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", ["cond_in"], "cond_out"), filled("shape", "f")],
        "body",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("cond_in", 9, [])],
        [helper.make_tensor_value_info("cond_out", 9, []), helper.make_tensor_value_info("f", 1, [1000])],
    )
    return model([node("Loop", ["trips", "true"], ["l"], body=body), node("ReduceMax", ["l"], "m", keepdims=0),
                  node("Add", ["x", "m"], "y")],
                 {"trips": np.int64(HUGE), "true": np.array(True), "shape": ints(1000)})  # fmt: skip


@bomb
def split_into_a_billion() -> onnx.ModelProto:
    return model([node("Split", ["x"], ["y"], axis=0, num_outputs=10**9)])


@bomb
def split_into_sizes_that_do_not_exist() -> onnx.ModelProto:
    return model([node("Split", ["x"], ["y"], axis=0, num_outputs=10**9)], inputs={"x": (1, [10**12])})


@bomb
def top_k_of_everything() -> onnx.ModelProto:
    return model([node("TopK", ["x", "k"], ["y", "z"])], {"k": ints(10**12)})


@bomb
def top_k_of_a_fill() -> onnx.ModelProto:
    return model([filled(), node("TopK", ["f", "k"], ["v", "z"]), node("ReduceMax", ["v"], "m", keepdims=0),
                  node("Add", ["x", "m"], "y")],
                 {"shape": ints(10**12), "k": ints(10**12)})  # fmt: skip


@bomb
def gather_that_repeats() -> onnx.ModelProto:
    nodes = [filled(), *(node("Gather", ["c" if i == 0 else f"g{i - 1}", "i"], f"g{i}") for i in range(8))]
    nodes += [node("ReduceMax", ["g7"], "m", keepdims=0), node("Add", ["x", "m"], "y")]
    return model(nodes, {"shape": ints(2), "c": np.ones(4, np.float32), "i": np.zeros((200, 200), np.int64)})


@bomb
def matmul_outer() -> onnx.ModelProto:
    return model([filled("a_shape", "a"), filled("b_shape", "b"), node("MatMul", ["a", "b"], "p"),
                  node("ReduceMax", ["p"], "m", keepdims=0), node("Add", ["x", "m"], "y")],
                 {"a_shape": ints(200_000, 1), "b_shape": ints(1, 200_000)})  # fmt: skip


@bomb
def broadcast_outer() -> onnx.ModelProto:
    nodes, constants = [], {}
    for axis in range(4):
        constants[f"c{axis}"] = np.ones([1000 if i == axis else 1 for i in range(4)], np.float32)
        nodes.append(node("Add", ["c0" if axis == 0 else f"s{axis - 1}", f"c{axis}"], f"s{axis}"))
    nodes += [node("ReduceMax", ["s3"], "m", keepdims=0), node("Add", ["x", "m"], "y")]
    return model(nodes, constants)


@bomb
def convolution_of_huge_padding() -> onnx.ModelProto:
    return model([node("Conv", ["x", "w"], "y", pads=[2**30] * 4)], {"w": np.ones((1, 1, 3, 3), np.float32)},
                 {"x": (1, [1, 1, 8, 8])})  # fmt: skip


@bomb
def convolution_of_a_huge_image() -> onnx.ModelProto:
    return model([node("Conv", ["x", "w"], "y")], {"w": np.ones((1, 1, 3, 3), np.float32)},
                 {"x": (1, [1, 1, 50_000, 50_000])})  # fmt: skip


@bomb
def convolution_of_huge_dilation() -> onnx.ModelProto:
    return model([node("Conv", ["x", "w"], "y", dilations=[2**40] * 2, pads=[2**40] * 4)],
                 {"w": np.ones((1, 1, 3, 3), np.float32)}, {"x": (1, [1, 1, 8, 8])})  # fmt: skip


@bomb
def deconvolution_of_huge_stride() -> onnx.ModelProto:
    return model([node("ConvTranspose", ["c", "w"], "d", strides=[10**5] * 2),
                  node("ReduceMax", ["d"], "m", keepdims=0), node("Add", ["x", "m"], "y")],
                 {"w": np.ones((1, 1, 3, 3), np.float32), "c": np.ones((1, 1, 8, 8), np.float32)})  # fmt: skip


@bomb
def pooling_of_a_huge_window() -> onnx.ModelProto:
    return model([node("AveragePool", ["c"], "p", kernel_shape=[2**30] * 2, pads=[2**29] * 4),
                  node("ReduceMax", ["p"], "m", keepdims=0), node("Add", ["x", "m"], "y")],
                 {"c": np.ones((1, 1, 8, 8), np.float32)})  # fmt: skip


@bomb
def lrn_of_huge_size() -> onnx.ModelProto:
    return model([node("LRN", ["c"], "l", size=2**31 - 1), node("ReduceMax", ["l"], "m", keepdims=0),
                  node("Add", ["x", "m"], "y")], {"c": np.ones((1, 4, 8, 8), np.float32)})  # fmt: skip


@bomb
def huge_lstm() -> onnx.ModelProto:
    weights = {"w": np.ones((1, 4, 2), np.float32), "r": np.ones((1, 4, 1), np.float32)}
    return model([filled(), node("LSTM", ["f", "w", "r"], ["l"], hidden_size=1),
                  node("ReduceMax", ["l"], "m", keepdims=0), node("Add", ["x", "m"], "y")],
                 {"shape": ints(10**9, 1, 2), **weights})  # fmt: skip


@bomb
def cumulative_sum_of_a_huge_fill() -> onnx.ModelProto:
    return model([filled(), node("CumSum", ["f", "axis"], "s"), node("ReduceMax", ["s"], "m", keepdims=0),
                  node("Add", ["x", "m"], "y")], {"shape": ints(HUGE), "axis": np.int64(0)})  # fmt: skip


@bomb
def trilu_of_a_huge_fill() -> onnx.ModelProto:
    return model([filled(), node("Trilu", ["f"], "t"), node("ReduceMax", ["t"], "m", keepdims=0),
                  node("Add", ["x", "m"], "y")], {"shape": ints(100_000, 100_000)})  # fmt: skip


@bomb
def scatter_into_a_huge_fill() -> onnx.ModelProto:
    return model([filled(), node("ScatterND", ["f", "i", "u"], "s"), node("ReduceMax", ["s"], "m", keepdims=0),
                  node("Add", ["x", "m"], "y")],
                 {"shape": ints(HUGE), "i": np.zeros((1, 1), np.int64), "u": np.ones(1, np.float32)})  # fmt: skip


@bomb
def depth_to_space_of_huge_blocks() -> onnx.ModelProto:
    return model([node("SpaceToDepth", ["x"], "y", blocksize=2**31)], inputs={"x": (1, [1, 1, 8, 8])})


@bomb
def strings() -> onnx.ModelProto:
    made = model([node("Identity", ["s"], "y")], {"s": np.ones(1, np.float32)})
    tensor = helper.make_tensor("s", TensorProto.STRING, [4], [b"a" * 100] * 4)
    tensor.dims[:] = [10**9]
    made.graph.initializer[0].CopyFrom(tensor)
    return made


@bomb
def strings_that_multiply() -> onnx.ModelProto:
    made = model([node("Tile", ["s", "by"], "y")], {"s": np.ones(1, np.float32), "by": ints(HUGE)})
    made.graph.initializer[0].CopyFrom(helper.make_tensor("s", TensorProto.STRING, [1], [b"a" * 100]))
    return made


def nested_ifs(depth: int, *, share: bool = False) -> onnx.ModelProto:
    innermost = [node("Add", ["x", "x"], "z0")]
    branch = helper.make_graph(innermost, "branch", [], [onnx.ValueInfoProto(name="z0")])
    for level in range(1, depth):
        nodes = [node("If", ["cond"], f"z{level}", then_branch=branch, else_branch=branch)] if share else [
            node("If", ["cond"], f"z{level}", then_branch=branch, else_branch=helper.make_graph(
                [node("Identity", ["x"], f"e{level}")], "else", [], [onnx.ValueInfoProto(name=f"e{level}")]))
        ]  # fmt: skip
        branch = helper.make_graph(nodes, "branch", [], [onnx.ValueInfoProto(name=f"z{level}")])
    other = helper.make_graph([node("Identity", ["x"], "e")], "else", [], [onnx.ValueInfoProto(name="e")])
    return model([node("If", ["cond"], "y", then_branch=branch, else_branch=other)],
                 inputs={"x": (1, [2]), "cond": (9, [])})  # fmt: skip


@bomb
def ifs_as_deep_as_protobuf_reads() -> onnx.ModelProto:
    return nested_ifs(30)


@bomb
def ifs_that_branch_twice() -> onnx.ModelProto:
    return nested_ifs(12, share=True)


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    length, digits = len(data), bytearray()
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *digits, length]) + data


def ifs_a_thousand_deep(close: bool) -> bytes:
    """Written by hand: protobuf itself refuses to nest this deep."""
    graph = field(2, b"g")
    for _ in range(1000):
        attribute = field(1, b"then_branch") + field(6, graph)
        graph = field(1, field(1, b"c") + field(2, b"z") + field(4, b"If") + field(5, attribute)) + field(2, b"g")
    return field(8, b"\x10\x14") + (field(7, graph) if close else field(7, graph)[:-1])


@bomb
def ifs_deeper_than_protobuf_reads() -> bytes:
    return ifs_a_thousand_deep(close=True)


@bomb
def ifs_deeper_than_protobuf_reads_and_cut() -> bytes:
    return ifs_a_thousand_deep(close=False)


@bomb
def chain_of_a_hundred_ifs() -> onnx.ModelProto:
    nodes = []
    for i in range(100):
        before = "x" if i == 0 else f"z{i - 1}"
        branches = [helper.make_graph([node("Add", [before, before], f"{side}{i}")], side, [],
                                      [onnx.ValueInfoProto(name=f"{side}{i}")]) for side in ("a", "b")]  # fmt: skip
        nodes.append(node("If", ["cond"], f"z{i}", then_branch=branches[0], else_branch=branches[1]))
    return model([*nodes, node("Identity", ["z99"], "y")], inputs={"x": (1, [2]), "cond": (9, [])})


@bomb
def doubling_a_hundred_times() -> onnx.ModelProto:
    nodes = [node("Add", ["x" if i == 0 else f"a{i - 1}"] * 2, f"a{i}") for i in range(100)]
    return model([*nodes, node("Identity", ["a99"], "y")])


@bomb
def doubling_symbols() -> onnx.ModelProto:
    """Sizes n, 2n, 4n, ...; products of sums of symbols are where symbolic dimensions can explode."""
    nodes = [node("Concat", ["x" if i == 0 else f"a{i - 1}"] * 2, f"a{i}", axis=i % 2) for i in range(60)]
    return model([*nodes, node("Flatten", ["a59"], "y")], inputs={"x": (1, ["n", "m"])})


@bomb
def polynomials() -> onnx.ModelProto:
    """Each reshape multiplies sums of different symbols: (a + b)(c + d)(e + f)..."""
    inputs = {f"x{i}": (1, [f"p{i}"]) for i in range(24)}
    nodes = [node("Concat", [f"x{2 * i}", f"x{2 * i + 1}"], f"s{i}", axis=0) for i in range(12)]
    nodes += [node("Unsqueeze", [f"s{i}", "one"], f"u{i}") for i in range(12)]
    nodes += [node("Reshape", [f"u{i}", "flat"], f"r{i}") for i in range(12)]
    product = "r0"
    for i in range(1, 12):
        nodes += [node("MatMul", [f"c{i}", f"w{i}"], f"m{i}")]
        nodes += [node("Unsqueeze", [product, "one"], f"c{i}"), node("Unsqueeze", [f"r{i}", "zero"], f"w{i}"),
                  node("Reshape", [f"m{i}", "flat"], f"o{i}")]  # fmt: skip
        product = f"o{i}"
    return model(
        [*nodes, node("Identity", [product], "y")], {"one": ints(1), "zero": ints(0), "flat": ints(-1)}, inputs
    )


@bomb
def shape_arithmetic_of_large_powers() -> onnx.ModelProto:
    """Integers of shape arithmetic have no width: squaring one forty times would fill the memory with digits."""
    nodes = [node("Shape", ["x"], "s0"), *(node("Mul", [f"s{i}"] * 2, f"s{i + 1}") for i in range(60))]
    nodes += [node("Expand", ["x", "s60"], "y")]
    return model(nodes, inputs={"x": (1, [3, 1])})


@bomb
def powers_of_symbols() -> onnx.ModelProto:
    nodes = [node("Shape", ["x"], "s"), node("ReduceSum", ["s"], "t0", keepdims=1)]
    nodes += [node("Mul", [f"t{i}"] * 2, f"t{i + 1}") for i in range(40)]
    return model([*nodes, node("Expand", ["x", "t40"], "y")], inputs={"x": (1, ["a", "b", "c"])})


@bomb
def power_operator_of_shapes() -> onnx.ModelProto:
    return model([node("Shape", ["x"], "s"), node("Pow", ["s", "e"], "p"), node("Expand", ["x", "p"], "y")],
                 {"e": ints(2**40)}, {"x": (1, [3])})  # fmt: skip


@bomb
def shift_of_shapes() -> onnx.ModelProto:
    return model([node("Shape", ["x"], "s"), node("Cast", ["s"], "u", to=13), node("BitShift", ["u", "e"], "b",
                  direction="LEFT"), node("Cast", ["b"], "c", to=7), node("Expand", ["x", "c"], "y")],
                 {"e": np.array([2**40], np.uint64)}, {"x": (1, [3])})  # fmt: skip


@bomb
def functions_that_call_twice() -> onnx.ModelProto:
    made = model([helper.make_node("F19", ["x"], ["y"], domain="lib")])
    made.opset_import.add(domain="lib", version=1)
    imports = list(made.opset_import)
    for i in range(20):
        inner = [helper.make_node(f"F{i - 1}", ["p"], ["q"], domain="lib"),
                 helper.make_node(f"F{i - 1}", ["q"], ["r"], domain="lib")] if i else [
                 helper.make_node("Neg", ["p"], ["q"]), helper.make_node("Neg", ["q"], ["r"])]  # fmt: skip
        made.functions.append(helper.make_function("lib", f"F{i}", ["p"], ["r"], inner, imports))
    return made


@bomb
def many_dimensions() -> onnx.ModelProto:
    return model([node("Reshape", ["x", "shape"], "y")], {"shape": np.ones(100_000, np.int64)}, {"x": (1, [1])})


@bomb
def rank_that_numpy_lacks() -> onnx.ModelProto:
    return model([node("Add", ["x", "c"], "a"), node("ReduceMax", ["a"], "y", keepdims=0)],
                 {"c": np.ones(1, np.float32)}, {"x": (1, [1] * 200)})  # fmt: skip


@bomb
def long_names() -> onnx.ModelProto:
    name = "n" * 1_000_000
    return model([helper.make_node("Neg", ["x"], [name], name), node("Neg", [name], "y")])


@bomb
def many_symbols() -> onnx.ModelProto:
    return model([node("Flatten", ["x"], "f", axis=15), node("MatMul", ["f", "w"], "y")],
                 {"w": np.ones((1, 1), np.float32)}, {"x": (1, [f"d{i}" for i in range(30)])})  # fmt: skip


def vectors(kind: str, place: int) -> Callable[[], onnx.ModelProto]:
    """An operator whose list of sizes, axes or parts is an input of 10^9 elements."""

    def make() -> onnx.ModelProto:
        given = (["x"] if place else []) + ["v"] * max(place, 1)
        return model([node(kind, given, "y")], inputs={"x": (1, [1, 1, 8, 8]), "v": (7, [10**9])})

    return make


for operator, inputs in {
    "Reshape": 1, "Expand": 1, "Tile": 1, "ConstantOfShape": 0, "Slice": 4, "Pad": 1, "Split": 1, "Unsqueeze": 1,
    "Squeeze": 1, "ReduceSum": 1,
}.items():  # fmt: skip
    BOMBS[f"vector_of_{operator.lower()}"] = vectors(operator, inputs)
