"""Structure: names, order, inputs, outputs, functions, nested graphs, and the errors about them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from tenonrt.contracts import GraphError, ParseError, UnsupportedError, symbol
from tenonrt_parser_onnx.parser import OnnxParser


def value(name: str, shape: Any = (2, 3), kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


SPARSE = helper.make_value_info("x", helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]))


def node(kind: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), name, **attributes)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[Any] | None = None,
    outputs: str = "y",
    initializers: dict[str, np.ndarray] | None = None,
    opset: int = 20,
    **fields: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [value("x")] if inputs is None else inputs,
        [onnx.ValueInfoProto(name=name) for name in outputs.split()],
        [numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()],
    )
    imports = fields.pop("imports", [("", opset)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*i) for i in imports], **fields)


def test_symbolic_dims(parse):
    inputs = [value("x", ["batch", None, 3]), value("z", ["batch", "?", 0])]
    builder = parse(model([node("Relu", "x", "y")], inputs))
    batch = symbol("batch", 1)
    assert builder.inputs[0].type.shape == (batch, symbol("x_1", 1), 3)
    assert builder.inputs[1].type.shape == (batch, symbol("z_1", 1), 0)


def test_initializer_that_is_an_input_is_a_constant(parse):
    builder = parse(
        model([node("Add", "x w", "y")], [value("x"), value("w")], initializers={"w": np.ones((2, 3), "f")})
    )
    assert [t.name for t in builder.inputs] == ["x"]
    assert builder.only.inputs[1].constant is not None


def test_unused_initializers_are_not_read(parse):
    proto = model([node("Relu", "x", "y")])
    proto.graph.initializer.add(name="summary", data_type=1, dims=[10**9])
    assert parse(proto).constants == []


def test_missing_data_is_refused(parse):
    proto = model([node("Add", "x w", "y", "plus")])
    proto.graph.initializer.add(name="w", data_type=1, dims=[10**9])
    with pytest.raises(ParseError, match=r"node 'plus' \(Add, #0\): initializer 'w': has 0 values in float_data"):
        parse(proto)


def test_outputs_that_no_layer_makes_are_copied(parse):
    proto = model([node("Relu", "x", "y")], outputs="x w y", initializers={"w": np.ones(2, np.float32)})
    builder = parse(proto)
    assert list(builder.outputs) == ["x", "w", "y"]
    assert sorted(builder.kinds) == ["Activation", "Identity", "Identity"]


def test_names_of_layers(parse):
    nodes = [node("Relu", "x", "a"), node("Relu", "a", "b", "same"), node("Relu", "b", "y", "same")]
    builder = parse(model(nodes))
    assert [layer.name for layer in builder.layers] == ["a", "same", "same_2"]
    assert [layer.source for layer in builder.layers] == ["a", "same", "same_2"]


def test_nodes_in_any_order(parse):
    nodes = [node("Neg", "b", "y"), node("Relu", "x", "a"), node("Exp", "a", "b")]
    assert [layer.name for layer in parse(model(nodes)).layers] == ["a", "b", "y"]


def test_both_spellings_of_the_standard_domain(parse):
    proto = model([node("Relu", "x", "y", domain="ai.onnx")], imports=[("ai.onnx", 20)])
    assert parse(proto).only.kind == "Activation"


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (model([node("Neg", "b", "a", "p"), node("Neg", "a", "b", "q"), node("Neg", "b", "y", "r")]),
         r"cycle: node 'q' \(Neg, #1\) -> node 'p' \(Neg, #0\) -> node 'q'"),
        (model([node("Neg", "y", "y", "self")]), "cycle: node 'self'"),
        (model([node("Neg", "x", "y", "p"), node("Abs", "x", "y", "q")]),
         r"node 'q' \(Abs, #1\) writes 'y', which node 'p' \(Neg, #0\) defines already"),
        (model([node("Neg", "x", "x")]), "writes 'x', which an input or initializer defines"),
        (model([node("Neg", "nothing", "y", "n")]), r"node 'n' \(Neg, #0\) reads 'nothing', which nothing defines"),
        (model([node("Neg", "x", "y")], outputs="z"), "output 'z' is written by no node"),
        (model([node("Neg", "x", "y")], outputs="y y"), "output 'y' is given twice"),
        (model([node("Neg", "x", "y")], [value("x"), value("x")]), "input 'x' is given twice"),
        (model([node("Neg", "x", "y")], [value("x", None)]), "input 'x': has no shape"),
        (model([node("Neg", "x", "y")], [value("x", (-1, 3))]), "input 'x': has dim -1 at axis 0"),
        (model([node("Neg", "x", "y")], [value("x", (1,), 99)]), "input 'x': data type 99"),
        (model([node("Neg", "x", "y")], [onnx.ValueInfoProto(name="x")]), "input 'x': has no element type"),
        (model([node("Neg", "x", "y")], [SPARSE]), "is a sparse_tensor"),
        (model([node("Neg", "x", "y")], opset=0), "opset 0 .*1 to 28"),
        (model([node("Neg", "x", "y")], opset=99), "opset 99"),
        (model([node("Neg", "x", "y")], imports=[("other", 1)]), "imports no version of the standard operators"),
        (model([node("Neg", "x", "y")], imports=[("", 20), ("", 21)]), "versions 20 and 21"),
        (onnx.ModelProto(ir_version=8), "has no graph"),
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "is not ONNX.*byte 0"),
        (b"\x08\x08\x3a\xff\x01abc", "cut short or damaged.*byte 2"),
    ],
)  # fmt: skip
def test_refusals(parse, proto, message):
    with pytest.raises(ParseError, match=rf"model\.onnx: .*{message}"):
        parse(proto)


def test_duplicate_and_nameless_initializers(parse):
    proto = model([node("Add", "x w", "y")], initializers={"w": np.ones(3, np.float32)})
    proto.graph.initializer.append(proto.graph.initializer[0])
    with pytest.raises(ParseError, match="initializer 'w' is given twice"):
        parse(proto)


def test_sparse_initializers_are_refused(parse):
    proto = model([node("Neg", "x", "y")])
    proto.graph.sparse_initializer.add().values.name = "s"
    with pytest.raises(ParseError, match="initializer 's' is sparse"):
        parse(proto)


def test_a_missing_file(tmp_path, new_builder):
    with pytest.raises(ParseError, match=r"absent\.onnx: cannot be read"):
        OnnxParser().parse(tmp_path / "absent.onnx", new_builder())


def test_names_that_are_not_utf8(parse):
    data = model([node("Neg", "x", "y", "NAME")]).SerializeToString()
    for old, new in ((b"NAME", b"N\xff\xfeE"), (b"Neg", b"N\xffg")):
        with pytest.raises(ParseError, match="not UTF-8"):
            parse(data.replace(old, new))


def test_errors_of_layers_name_the_node(parse, monkeypatch):
    from onnx_recording_builder import RecordingBuilder

    def refuse(*args: Any, **options: Any) -> Any:
        raise GraphError("rank 2 where 4 is expected")

    monkeypatch.setattr(RecordingBuilder, "add", refuse)
    with pytest.raises(ParseError, match=r"model\.onnx: node 'n' \(Neg, #0\): rank 2 where 4"):
        parse(model([node("Neg", "x", "y", "n")]))


def test_mappings_with_too_few_outputs(parse):
    extra = {"onnx:acme:Two": lambda builder, node, inputs: []}
    proto = model([node("Two", "x", "y", "n", domain="acme")], imports=[("", 20), ("acme", 3)])
    with pytest.raises(ParseError, match="has 0 outputs; the model uses output 0, 'y'"):
        parse(proto, extra=extra)


# --- attributes ------------------------------------------------------------------------------------------------------


def with_attribute(**fields: Any) -> onnx.ModelProto:
    proto = model([node("Softmax", "x", "y", "n")])
    proto.graph.node[0].attribute.append(AttributeProto(name="axis", **fields))
    return proto


def test_a_zero_that_was_left_out(parse):
    assert parse(with_attribute(type=AttributeProto.INT)).only.attrs["axis"] == 0


def test_an_attribute_without_type(parse):
    assert parse(with_attribute(i=1)).only.attrs["axis"] == 1


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (with_attribute(), "no type and 0 values"),
        (with_attribute(i=1, f=1.0), "no type and 2 values"),
        (with_attribute(type=AttributeProto.INT, f=1.0), "declared to hold its value in field 'i', but has one in 'f'"),
        (with_attribute(type=AttributeProto.FLOAT, f=1.0), "must be an integer, not 1.0"),
        (with_attribute(type=AttributeProto.INTS, ints=[1]), "must be an integer, not"),
        (with_attribute(type=AttributeProto.TENSOR), "has no value"),
        (with_attribute(type=AttributeProto.GRAPH), "has no value"),
        (with_attribute(type=AttributeProto.TYPE_PROTO, tp=onnx.TypeProto()), "is of no type"),
        (with_attribute(type=AttributeProto.SPARSE_TENSOR, sparse_tensor=onnx.SparseTensorProto()), "does not read"),
        (with_attribute(type=AttributeProto.STRING, s=b"\xff"), "not UTF-8"),
        (with_attribute(type=AttributeProto.TENSOR, t=TensorProto(data_type=99)), "data type 99"),
        (with_attribute(ref_attr_name="k", type=AttributeProto.INT), "outside of any function"),
    ],
)
def test_attribute_refusals(parse, proto, message):
    with pytest.raises(ParseError, match=rf"node 'n' \(Softmax, #0\): .*attribute 'axis'.*{message}"):
        parse(proto)


def test_an_attribute_given_twice(parse):
    proto = with_attribute(i=1)
    proto.graph.node[0].attribute.append(AttributeProto(name="axis", i=1))
    with pytest.raises(ParseError, match="'axis' is given twice"):
        parse(proto)


# --- operators that nobody maps --------------------------------------------------------------------------------------


def test_all_unsupported_operators_are_listed_with_the_remedy(parse):
    inner = helper.make_graph([node("Rot13", "x", "z", "deep")], "then", [], [value("z")])
    nodes = [
        node("Swish6", "x", "a", "s1", domain="acme"),
        node("Swish6", "a", "b", "s2", domain="acme"),
        node("Unheard", "b", "c", "u"),
        node("If", "cond", "y", "choice", then_branch=inner, else_branch=inner),
    ]
    proto = model(nodes, [value("x"), value("cond", (), TensorProto.BOOL)], imports=[("", 17), ("acme", 3)])
    with pytest.raises(UnsupportedError) as caught:
        parse(proto)
    text = str(caught.value)
    assert caught.value.operators == (":Rot13", ":Unheard", "acme:Swish6")
    assert "model.onnx: " in text
    for used in ("'s1' (acme:Swish6, #0)", "'s2' (acme:Swish6, #1)", "'u' (Unheard, #2)", "'deep'"):
        assert used in text
    for told in ("ai.onnx:Unheard (opset 17)", "acme:Swish6 (opset 3)", "tenonrt.mappings", "'onnx:acme:Swish6'"):
        assert told in text


def test_a_strangers_mapping_gets_plain_values(parse):
    seen = []

    def swish6(builder, node, inputs):
        seen.append(node)
        return builder.add("Activation", inputs, {"function": "swish"}, name=node.name)

    tensor = numpy_helper.from_array(np.arange(3))
    attributes = {"i": 1, "f": 0.5, "s": "text", "ints": [1, 2], "floats": [0.5], "strings": ["a"], "t": tensor}
    proto = model(
        [node("Swish6", "x", "y z", "n", domain="acme", **attributes)], outputs="y", imports=[("", 20), ("acme", 3)]
    )
    proto.graph.node[0].output[1] = ""
    parse(proto, extra={"onnx:acme:Swish6": swish6})
    (got,) = seen
    assert (got.format, got.domain, got.type, got.name, got.version) == ("onnx", "acme", "Swish6", "n", 3)
    assert got.outputs == (True, False)
    np.testing.assert_array_equal(got.attrs["t"], np.arange(3))
    plain = {key: item for key, item in got.attrs.items() if key != "t"}
    assert plain == {"i": 1, "f": 0.5, "s": "text", "ints": (1, 2), "floats": (0.5,), "strings": ("a",)}


# --- functions -------------------------------------------------------------------------------------------------------


def function(
    name: str, inputs: str, outputs: str, nodes: list[onnx.NodeProto], *attributes: Any, **options: Any
) -> Any:
    imports = [helper.make_opsetid("", options.pop("opset", 20)), helper.make_opsetid("lib", 1)]
    return helper.make_function(
        "lib", name, inputs.split(), outputs.split(), nodes, imports,
        [a for a in attributes if isinstance(a, str)], [a for a in attributes if not isinstance(a, str)],
    )  # fmt: skip


def reference(kind: str, inputs: str, outputs: str, **references: tuple[str, int]) -> onnx.NodeProto:
    made = node(kind, inputs, outputs)
    for name, (outer, type_) in references.items():
        made.attribute.append(AttributeProto(name=name, ref_attr_name=outer, type=type_))
    return made


LIB = [("", 20), ("lib", 1)]


def test_functions_are_expanded(parse):
    inner = function("Inner", "p q", "r", [node("Add", "p q", "r", "add")])
    outer = function("Outer", "a", "c", [node("Inner", "a a", "b", "call", domain="lib"), node("Neg", "b", "c", "neg")])
    proto = model([node("Outer", "x", "y", "top", domain="lib")], imports=LIB, functions=[outer, inner])
    builder = parse(proto)
    assert [(layer.kind, layer.name) for layer in builder.layers] == [
        ("Elementwise", "top/call/add"),
        ("Unary", "top/neg"),
    ]
    assert builder.outputs["y"] is builder.layers[1].outputs[0]


def test_function_attributes(parse):
    body = [reference("LeakyRelu", "a", "b", alpha=("slope", 1)), reference("Softmax", "b", "c", axis=("axis", 2))]
    body[1].name = "soft"
    made = function("F", "a", "c", body, "slope", helper.make_attribute("axis", 1))
    calls = [
        node("F", "x", "t", "one", domain="lib", slope=0.5),
        node("F", "t", "y", "two", domain="lib", axis=0),
    ]
    builder = parse(model(calls, imports=LIB, functions=[made]))
    assert [layer.attrs.get("alpha") for layer in builder.layers[::2]] == [0.5, None]
    assert [layer.attrs["axis"] for layer in builder.layers[1::2]] == [1, 0]


def test_functions_have_their_own_opset(parse):
    made = function("F", "a", "b", [node("Softmax", "a", "b", "soft", axis=1)], opset=11)
    builder = parse(model([node("F", "x", "y", "call", domain="lib")], imports=LIB, functions=[made]))
    assert builder.only.attrs["axis"] == -1  # of rank 2: the old flattened rows are the last axis


def test_inputs_left_out_of_a_call(parse):
    made = function("F", "a low high", "b", [node("Clip", "a low high", "b", "clip")])
    builder = parse(model([node("F", "x", "y", "call", domain="lib")], imports=LIB, functions=[made]))
    assert builder.only.attrs == {"function": "clip"}


def test_a_function_that_returns_its_input(parse):
    made = function("F", "a", "a", [])
    assert parse(model([node("F", "x", "y", "call", domain="lib")], imports=LIB, functions=[made])).kinds == [
        "Identity"
    ]


def test_graphs_in_functions_capture_and_refer(parse):
    branch = helper.make_graph(
        [reference("Elu", "a", "z", alpha=("slope", 1))], "branch", [], [onnx.ValueInfoProto(name="z")]
    )
    made = function("F", "c a", "b", [node("If", "c", "b", "if", then_branch=branch, else_branch=branch)], "slope")
    proto = model(
        [node("F", "c x", "y", "call", domain="lib", slope=0.25)],
        [value("c", (), TensorProto.BOOL), value("x")], imports=LIB, functions=[made],
    )  # fmt: skip
    builder = parse(proto)
    (layer,) = builder.only.graphs[0].layers
    assert layer.attrs["alpha"] == 0.25
    assert layer.inputs[0] is builder.inputs[1]


def chain(count: int, fan: int) -> list[Any]:
    bottom = function("F0", "a", "b", [node("Neg", "a", "b")])
    layers = [
        function(f"F{i}", "a", f"t{fan}", [
            node(f"F{i - 1}", "a" if j == 0 else f"t{j}", f"t{j + 1}", domain="lib") for j in range(fan)
        ])
        for i in range(1, count)
    ]  # fmt: skip
    return [bottom, *layers]


@pytest.mark.parametrize(
    ("functions", "call", "message"),
    [
        ([function("F", "a", "b", [node("F", "a", "b", domain="lib")])], "F", "'F' calls itself: F -> F"),
        ([function("F", "a", "b", [node("G", "a", "b", domain="lib")]),
          function("G", "a", "b", [node("F", "a", "b", domain="lib")])], "F", "calls itself: F -> G -> F"),
        (chain(40, 2), "F39", "nodes, more than the 1000000 allowed"),
        (chain(100, 1), "F99", "nest deeper than 64"),
        (chain(2, 1) * 2, "F1", "is defined twice"),
        ([function("F", "", "b", [])], "F", "has 1 inputs, function 'F' takes 0"),
        ([function("F", "a", "b", [])], "F", "'F' does not define its output 0, 'y'"),
        ([function("F", "a", "b", [node("Neg", "z", "b", "n")])], "F", "function 'F': node 'n'.*reads 'z'"),
    ],
)  # fmt: skip
def test_function_refusals(parse, functions, call, message):
    with pytest.raises(ParseError, match=message):
        parse(model([node(call, "x", "y", "call", domain="lib")], imports=LIB, functions=functions))


# --- nested graphs ---------------------------------------------------------------------------------------------------


def branch(kind: str, name: str, *inputs: str) -> onnx.GraphProto:
    return helper.make_graph(
        [node(kind, " ".join(inputs), "z", f"{name}_node")], name, [], [onnx.ValueInfoProto(name="z")]
    )


def conditional(then: onnx.GraphProto, other: onnx.GraphProto, *before: onnx.NodeProto) -> onnx.ModelProto:
    nodes = [node("If", "c", "y", "choice", then_branch=then, else_branch=other), *before]
    return model(
        nodes, [value("c", (), TensorProto.BOOL), value("x")], initializers={"w": np.ones(3, np.float32)}
    )  # fmt: skip


def test_if_captures_outer_names_and_orders_by_them(parse):
    builder = parse(conditional(branch("Add", "then", "a", "w"), branch("Neg", "else", "x"), node("Abs", "x", "a")))
    assert builder.kinds == ["Unary", "If"]  # Abs is written last in the model
    then, other = builder.layers[1].graphs
    assert then.only.inputs[0] is builder.layers[0].outputs[0]
    assert then.only.inputs[1].constant is not None
    assert other.only.inputs[0] is builder.inputs[1]
    assert list(then.outputs) == ["z"]


def test_a_branch_that_returns_a_capture_copies_it(parse):
    passing = helper.make_graph([], "pass", [], [onnx.ValueInfoProto(name="x")])
    builder = parse(conditional(branch("Neg", "then", "x"), passing))
    assert builder.only.graphs[1].kinds == ["Identity"]


def test_graphs_in_graphs(parse):
    deep = helper.make_graph(
        [node("If", "c", "z", "inner", then_branch=branch("Neg", "t", "x"), else_branch=branch("Abs", "e", "w"))],
        "deep", [], [onnx.ValueInfoProto(name="z")],
    )  # fmt: skip
    builder = parse(conditional(deep, branch("Neg", "else", "x")))
    inner = builder.only.graphs[0].only
    assert inner.graphs[0].only.inputs[0] is builder.inputs[1]


def test_errors_in_nested_graphs_say_where(parse):
    with pytest.raises(
        ParseError, match=r"node 'choice' \(If, #0\): graph 'then': node 'then_node' \(Add, #0\): input 1"
    ):
        parse(conditional(branch("Add", "then", "x"), branch("Neg", "else", "x")))
    with pytest.raises(ParseError, match=r"node 'choice' \(If, #0\) reads 'nowhere', which nothing defines"):
        parse(conditional(branch("Neg", "then", "nowhere"), branch("Neg", "else", "x")))


def test_loop_bodies_may_leave_types_out(parse):
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Add", "carried x", "next"), node("Neg", "next", "scanned")],
        "body", [onnx.ValueInfoProto(name=n) for n in ("i", "go", "carried")],
        [onnx.ValueInfoProto(name=n) for n in ("on", "next", "scanned")],
    )  # fmt: skip
    proto = model([node("Loop", "n  x", "y all", "loop", body=body)], [value("x"), value("n", (), TensorProto.INT64)])
    proto.graph.node[0].input[:] = ["n", "", "x"]
    layer = parse(proto).only
    assert [t and t.name for t in layer.inputs] == ["n", None, "x"]
    inner = layer.graphs[0]
    assert [str(t.type) for t in inner.inputs] == ["int64[scalar]", "bool[scalar]", "float32[2x3]"]
    assert list(inner.outputs) == ["on", "next", "scanned"]


def test_scan(parse):
    body = helper.make_graph(
        [node("Add", "state item", "next"), node("Identity", "next", "out")],
        "body", [onnx.ValueInfoProto(name=n) for n in ("state", "item")],
        [onnx.ValueInfoProto(name=n) for n in ("next", "out")],
    )  # fmt: skip
    proto = model(
        [
            node(
                "Scan",
                "s x",
                "f y",
                "scan",
                body=body,
                num_scan_inputs=1,
                scan_input_axes=[-1],
                scan_output_directions=[1],
            )
        ],
        [value("s", (2,)), value("x", (2, 5))],
    )
    layer = parse(proto).only
    assert layer.attrs["scan_input_axes"] == (-1,)
    assert layer.attrs["scan_output_directions"] == (1,)
    assert [str(t.type) for t in layer.graphs[0].inputs] == ["float32[2]", "float32[2]"]


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size, length = len(payload), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


@pytest.mark.parametrize("depth", [40, 5000])
def test_deep_nesting_is_refused(parse, depth):
    graph = b""
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(4, b"If") + field(5, attribute))
    with pytest.raises(ParseError, match=r"model\.onnx: is not ONNX, cut short or damaged .*(depth|Depth|nested)"):
        parse(b"\x08\x08" + field(7, graph))


def test_ten_thousand_nodes_take_linear_time(parse):
    def seconds(count: int) -> float:
        nodes = [node("Add", f"t{i} w", f"t{i + 1}", f"n{i}") for i in range(count)][::-1]
        proto = model(nodes, [value("t0")], f"t{count}", {"w": np.ones(3, np.float32)})
        start = time.perf_counter()
        assert len(parse(proto).layers) == count
        return time.perf_counter() - start

    seconds(10)
    assert seconds(10_000) < 10
