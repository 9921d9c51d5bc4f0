"""Damage to model files: cut, changed and random bytes, and changes of meaning that leave the encoding whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

EXTREMES = (
    0,
    1,
    -1,
    2,
    3,
    7,
    -2,
    64,
    255,
    -128,
    1000,
    2**15,
    2**31 - 1,
    -(2**31),
    2**31,
    2**40,
    2**62,
    2**63 - 1,
    -(2**63),
)
FLOATS = (0.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"), 0.5, 1e9)
TEXTS = (b"", b"NOTSET", b"SAME_UPPER", b"linear", b"constant", b"reflect", b"\xff\xfe", b"DCR", b"x" * 500, b"float")

ATTRIBUTES = tuple(
    "axis axes perm pads strides to keepdims group value mode k size alpha kernel_shape num_outputs blocksize epsilon "
    "hidden_size then_branch body".split()
)


def cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))]


def overwrite(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randint(1, 6)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def splice(data: bytes, random: Random) -> bytes:
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    piece = data[start : min(end, start + 60)] if random.random() < 0.5 else random.randbytes(random.randint(0, 30))
    place = random.randrange(len(data) + 1)
    return data[:place] + piece + data[place + random.choice((0, len(piece))) :]


def noise(data: bytes, random: Random) -> bytes:
    return data[: random.choice((0, 8, 16))] + random.randbytes(random.randint(0, 300))


BYTES: tuple[Callable[[bytes, Random], bytes], ...] = (cut, overwrite, splice, noise)


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those nested in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def names(graph: GraphProto) -> list[str]:
    found = [v.name for v in graph.input] + [t.name for t in graph.initializer]
    return [*found, *(name for node in graph.node for name in node.output), "", "nowhere"]


def change_operator(graph: GraphProto, node: NodeProto, random: Random, operators: list[str]) -> None:
    node.op_type = random.choice(operators)


def change_inputs(graph: GraphProto, node: NodeProto, random: Random, operators: list[str]) -> None:
    inputs, pool = list(node.input), names(graph)
    what = random.randrange(5)
    if what == 0 and inputs:
        inputs[random.randrange(len(inputs))] = random.choice(pool)
    elif what == 1:
        inputs.insert(random.randint(0, len(inputs)), random.choice(pool))
    elif what == 2 and inputs:
        inputs.pop(random.randrange(len(inputs)))
    elif what == 3:
        random.shuffle(inputs)
    else:
        inputs = inputs * random.choice((2, 3, 50))
    node.input[:] = inputs


def change_outputs(graph: GraphProto, node: NodeProto, random: Random, operators: list[str]) -> None:
    outputs = list(node.output)
    what = random.randrange(3)
    if what == 0:
        outputs.append(f"more{random.randrange(9)}")
    elif what == 1 and outputs:
        outputs.pop()
    elif outputs:
        outputs[random.randrange(len(outputs))] = random.choice(names(graph))
    node.output[:] = outputs


def change_attribute(graph: GraphProto, node: NodeProto, random: Random, operators: list[str]) -> None:
    if not node.attribute:
        return
    attribute = random.choice(node.attribute)
    if random.random() < 0.15:
        node.attribute.remove(attribute)
    elif random.random() < 0.15:
        attribute.type = random.randrange(15)
    elif attribute.type == AttributeProto.INT:
        attribute.i = random.choice(EXTREMES)
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = random.choice(FLOATS)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = random.choice(TEXTS)
    elif attribute.type == AttributeProto.INTS:
        change_integers(attribute.ints, random)
    elif attribute.type == AttributeProto.TENSOR:
        change_tensor(attribute.t, random)


def add_attribute(graph: GraphProto, node: NodeProto, random: Random, operators: list[str]) -> None:
    name = random.choice(ATTRIBUTES)
    value = random.choice((random.choice(EXTREMES), [random.choice(EXTREMES) for _ in range(random.randint(1, 4))],
                           random.choice(FLOATS), "text"))  # fmt: skip
    node.attribute.append(helper.make_attribute(name, value))


def change_integers(values: list[int], random: Random) -> None:
    what = random.randrange(4)
    if what == 0 or not len(values):
        values.append(random.choice(EXTREMES))
    elif what == 1:
        values.pop()
    elif what == 2:
        values[random.randrange(len(values))] = random.choice(EXTREMES)
    else:
        values[:] = [random.choice(EXTREMES) for _ in values]


def change_tensor(tensor: TensorProto, random: Random) -> None:
    what = random.randrange(5)
    if what == 0:
        tensor.data_type = random.randrange(30)
    elif what == 1:
        change_integers(tensor.dims, random)
    elif what == 2 and tensor.raw_data:
        tensor.raw_data = cut(tensor.raw_data, random)
    elif what == 3 and tensor.data_type == TensorProto.INT64:
        count = max(len(tensor.raw_data) // 8, len(tensor.int64_data))
        tensor.ClearField("int64_data")
        tensor.raw_data = b"".join(random.choice(EXTREMES).to_bytes(8, "little", signed=True) for _ in range(count))
    elif tensor.raw_data:
        tensor.raw_data = random.randbytes(len(tensor.raw_data))


def change_initializer(graph: GraphProto, node: NodeProto, random: Random, operators: list[str]) -> None:
    if graph.initializer:
        change_tensor(random.choice(graph.initializer), random)


def change_input_type(graph: GraphProto, node: NodeProto, random: Random, operators: list[str]) -> None:
    if not graph.input:
        return
    kind = random.choice(graph.input).type.tensor_type
    what = random.randrange(4)
    if what == 0:
        kind.elem_type = random.choice((0, 1, 6, 7, 8, 9, 10, 11, 14, 16, 17, 22, 99))
    elif what == 1:
        kind.ClearField("shape")
    elif what == 2:
        kind.shape.dim.add(dim_value=random.choice(EXTREMES))
    elif kind.shape.dim:
        dim = random.choice(kind.shape.dim)
        if random.random() < 0.5:
            dim.dim_param = random.choice(("n", "m", "?", ""))
        else:
            dim.dim_value = random.choice(EXTREMES)


def freeze_input(graph: GraphProto, node: NodeProto, random: Random, operators: list[str]) -> None:
    """An input becomes a constant, so that folding and shape arithmetic meet it."""
    for value in graph.input:
        kind = value.type.tensor_type
        dims = [d.dim_value or 2 for d in kind.shape.dim]
        if (
            random.random() < 0.6
            and kind.elem_type in (1, 6, 7, 9)
            and all(0 <= d < 50 for d in dims)
            and len(dims) < 5
        ):
            width = {1: 4, 6: 4, 7: 8, 9: 1}[kind.elem_type]
            count = 1
            for dim in dims:
                count *= dim
            small = [random.randint(0, 3) for _ in range(count)]
            raw = random.randbytes(width * count) if random.random() < 0.3 else b"".join(
                v.to_bytes(width, "little") for v in small)  # fmt: skip
            graph.initializer.append(TensorProto(name=value.name, data_type=kind.elem_type, dims=dims, raw_data=raw))


def rewire(graph: GraphProto, node: NodeProto, random: Random, operators: list[str]) -> None:
    """Delete, repeat or reorder nodes, or rename an output of the graph."""
    what = random.randrange(4)
    if what == 0:
        graph.node.remove(node)
    elif what == 1:
        copy = graph.node.add()
        copy.CopyFrom(node)
        copy.output[:] = [f"{name}_again" for name in node.output]
        copy.input[:] = [random.choice([name, *node.output]) for name in node.input]
    elif what == 2:
        nodes = list(graph.node)
        random.shuffle(nodes)
        del graph.node[:]
        graph.node.extend(nodes)
    elif graph.output:
        random.choice(graph.output).name = random.choice(names(graph))


def nest(graph: GraphProto, node: NodeProto, random: Random, operators: list[str]) -> None:
    """Put a node into the branches of an If, or into the body of a Loop."""
    inner = NodeProto()
    inner.CopyFrom(node)
    outputs = [name for name in node.output if name]
    inner.output[:] = [f"{name}_inside" for name in node.output]
    values = [onnx.ValueInfoProto(name=f"{name}_inside") for name in outputs]
    if random.random() < 0.5:
        branch = helper.make_graph([inner], "branch", [], values)
        made = helper.make_node("If", ["cond"], outputs, then_branch=branch, else_branch=branch)
    else:
        counters = [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("c", 9, [])]
        keep = helper.make_node("Identity", ["c"], ["keep"])
        body = helper.make_graph([inner, keep], "body", counters, [onnx.ValueInfoProto(name="keep"), *values])
        made = helper.make_node("Loop", ["trips", random.choice(("", "cond"))], outputs, body=body)
        trips = random.choice(EXTREMES).to_bytes(8, "little", signed=True)
        graph.initializer.append(TensorProto(name="trips", data_type=7, raw_data=trips))
    graph.input.append(helper.make_tensor_value_info("cond", 9, []))
    node.CopyFrom(made)


MEANINGS = (change_operator, change_inputs, change_inputs, change_outputs, change_attribute, change_attribute,
            change_attribute, add_attribute, change_initializer, change_initializer, change_input_type,
            change_input_type, freeze_input, freeze_input, rewire, nest)  # fmt: skip


def change_meaning(model: ModelProto, random: Random, operators: list[str]) -> bytes:
    """One to four changes of a decoded model, encoded again."""
    changed = ModelProto()
    changed.CopyFrom(model)
    for _ in range(random.randint(1, 4)):
        graph = random.choice(list(graphs(changed.graph)))
        if graph.node:
            random.choice(MEANINGS)(graph, random.choice(graph.node), random, operators)
    if random.random() < 0.1:
        changed.opset_import[0].version = random.randint(-1, 30)
    return changed.SerializeToString()
