"""If, Loop and Scan: layers that own graphs."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import GraphBuilder, GraphError, ParseError, SourceNode, Tensor, TensorType, symbol

from tenonrt_parser_onnx.mappings.arguments import (
    Inputs,
    emit,
    integer,
    integers,
    is_known,
    normalized_axis,
    present,
    required,
)
from tenonrt_parser_onnx.nested import NestedGraph

ROUNDS = 3  # of translating a body: states may grow that other growing ones are computed from
DEEPEST = 4  # of bodies in bodies that are translated again, each of which repeats those inside


def _build(builder: GraphBuilder, node: SourceNode, attribute: str) -> GraphBuilder:
    """Translate a graph attribute that has no inputs."""
    inner = builder.subgraph(f"{node.name}/{attribute}")
    _graph(node, attribute).build(inner)
    return inner


def _body(builder: GraphBuilder, node: SourceNode, types: Sequence[TensorType], states: dict[int, int]) -> GraphBuilder:
    """Translate the body of a loop. ``types`` stand in for those of its inputs that the model does not declare.

    ``states`` has the output that becomes an input in the next iteration. The types given are those of the first one:
    where the body returns a state with other lengths, it is translated again for a state of any length. What can only
    be translated for the lengths of the first iteration is left so, and they are checked when it runs.
    """
    graph = _graph(node, "body")
    inner = builder.subgraph(f"{node.name}/body")
    outputs = graph.build(inner, types)
    for _ in range(ROUNDS - 1 if graph.depth <= DEEPEST else 0):
        wider = list(types)
        for taken, returned in states.items():
            if taken < len(graph.declared) and not graph.declared[taken] and returned < len(outputs):
                wider[taken] = _widened(types[taken], outputs[returned].type, f"{node.name}/{taken}")
        if wider == list(types):
            break
        again = builder.subgraph(f"{node.name}/body")
        try:
            outputs = graph.build(again, wider)
        except (ParseError, GraphError):
            break
        inner, types = again, wider
    return inner


def _widened(taken: TensorType, returned: TensorType, name: str) -> TensorType:
    """The type of a state whose axes have any length where the body returns another than it takes."""
    if taken.rank != returned.rank:
        return taken
    pairs = enumerate(zip(taken.shape, returned.shape, strict=True))
    return taken.reshape(tuple(old if old == new else symbol(f"{name}_{axis}") for axis, (old, new) in pairs))


def _graph(node: SourceNode, attribute: str) -> NestedGraph:
    graph = node.attrs.get(attribute)
    if not isinstance(graph, NestedGraph):
        raise ParseError(f"attribute {attribute!r} (a graph) is missing or of another type")
    return graph


def if_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """One of two graphs, neither of which has inputs. Where the condition is known, that graph's nodes themselves.

    The other one may be wrong for the types at hand: exporters ask for the rank that way.
    """
    condition = required(inputs, 0, "cond")
    if is_known(condition):
        value = condition.constant if condition.constant is not None else condition.info.value
        assert value is not None
        return _graph(node, "then_branch" if bool(value.reshape(-1)[0]) else "else_branch").inline(builder)
    graphs = [_build(builder, node, "then_branch"), _build(builder, node, "else_branch")]
    return list(emit(builder, node, "If", [condition], graphs=graphs))


def loop(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A body of (iteration, condition, carried...) run up to a trip count; both limits are optional."""
    initial = [required(inputs, index, "v_initial") for index in range(2, len(inputs))]
    types = [TensorType((), "int64"), TensorType((), "bool"), *(tensor.type for tensor in initial)]
    body = _body(builder, node, types, {2 + index: 1 + index for index in range(len(initial))})
    return list(emit(builder, node, "Loop", [present(inputs, 0), present(inputs, 1), *initial], graphs=[body]))


def scan(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A body run over the slices of its last inputs (opset 9 on)."""
    if node.version < 9:
        raise ParseError("is the Scan of opset 8, which had a batch axis; convert the model to opset 9 or later")
    operands = [required(inputs, index, "initial_state_and_scan_inputs") for index in range(len(inputs))]
    scanned = integer(node, "num_scan_inputs")
    if not 1 <= scanned <= len(operands):
        raise ParseError(f"attribute 'num_scan_inputs' is {scanned}; the node has {len(operands)} inputs")
    states = len(operands) - scanned
    axes = integers(node, "scan_input_axes", (0,) * scanned)
    if len(axes) != scanned:
        raise ParseError(f"attribute 'scan_input_axes' has {len(axes)} values; {scanned} are needed")
    types = [tensor.type for tensor in operands[:states]]
    types += [_slice_type(tensor.type, axis) for tensor, axis in zip(operands[states:], axes, strict=True)]
    attrs = {
        "num_scan_inputs": scanned,
        "scan_input_axes": axes,
        "scan_input_directions": integers(node, "scan_input_directions", ()),
        "scan_output_axes": integers(node, "scan_output_axes", ()),
        "scan_output_directions": integers(node, "scan_output_directions", ()),
    }
    body = _body(builder, node, types, {index: index for index in range(states)})
    return list(emit(builder, node, "Scan", operands, attrs, graphs=[body]))


def _slice_type(whole: TensorType, axis: int) -> TensorType:
    """What the body sees of a scanned tensor."""
    index = normalized_axis(axis, whole.rank)
    return whole.reshape(whole.shape[:index] + whole.shape[index + 1 :])
