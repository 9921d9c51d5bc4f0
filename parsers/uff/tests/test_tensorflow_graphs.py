"""What surrounds TensorFlow's operations: constants, edges, outputs, branches, errors and damage."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt import Network, ParseError, Registry, UnsupportedError
from tenonrt_parser_uff.tensorflow.conversion import Conversion
from tenonrt_parser_uff.tensorflow.options import TensorFlowOptions
from tenonrt_parser_uff.tensorflow.parser import TensorFlowParser, graph_of
from tenonrt_parser_uff.tensorflow.schema import graph_def
from tenonrt_parser_uff.tensorflow.selection import Selection, Wanted
from tenonrt_parser_uff.tensorflow.sniff import is_graph_def
from tenonrt_parser_uff.tensorflow.values import tensor as read_tensor
from tf_bytes import GraphDef, chunk, number, shape, tensor
from uff_damage import EXTREMES, damaged

rng = np.random.default_rng(5)
KERNEL = rng.standard_normal((3, 3, 2, 4)).astype(np.float32)
MATRIX = rng.standard_normal((4, 3)).astype(np.float32)
IMAGES = rng.standard_normal((2, 6, 5, 2)).astype(np.float32)


def read(content: bytes, registry: Registry, **options: Any) -> Network:
    network = Network(registry=registry)
    TensorFlowParser().parse_buffer(content, network, TensorFlowOptions(**options))
    return network


def classifier() -> GraphDef:
    """With what real writers leave in a file: names with slashes, control edges, checks, hints and devices."""
    graph = GraphDef()
    graph.placeholder("image", [-1, 6, 5, 2])
    graph.const("conv/weights", KERNEL)
    graph.node("conv/weights/read", "Identity", ["conv/weights"], T=("type", "float32"), _class=["loc:@conv/weights"])
    graph.node("conv/Conv2D", "Conv2D", ["image:0", "conv/weights/read"], strides=[1, 2, 2, 1], padding="SAME",
               use_cudnn_on_gpu=True, _output_shapes=("shapes", [-1, 3, 3, 4]))  # fmt: skip
    graph.const("conv/bias", np.arange(4, dtype=np.float32), "values")
    graph.node("conv/add", "BiasAdd", ["conv/Conv2D", "conv/bias"], data_format="NHWC")
    graph.node("relu", "Relu6", ["conv/add"])
    graph.node("assert", "Assert", ["image", "relu"])
    graph.node("checked", "Identity", ["relu", "^assert"])
    graph.const("axes", [1, 2])
    graph.node("mean", "Mean", ["checked", "axes"], keep_dims=False)
    graph.const("dense/kernel", MATRIX)
    graph.node("dense/MatMul", "MatMul", ["mean", "dense/kernel"], transpose_a=False, transpose_b=False)
    graph.node("prob", "Softmax", ["dense/MatMul"])
    graph.node("init", "NoOp", ["^conv/weights"])
    return graph


def expected() -> Any:
    from tf_cases import conv, softmax

    y = np.clip(conv(IMAGES, KERNEL, 2) + np.arange(4), 0, 6).mean((1, 2)) @ MATRIX
    return softmax(y)


def test_outputs_are_what_nobody_reads(registry: Registry, run: Any) -> None:
    network = read(classifier().encode(), registry)
    assert list(network.outputs) == ["prob"]
    np.testing.assert_allclose(run(network, image=IMAGES)["prob"], expected(), 1e-5)


def test_options(registry: Registry, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "graph.pb"
    file.write_bytes(classifier().encode())
    network = tenonrt.parse(file, registry=registry, options={"outputs": ["relu:0,prob"]})
    assert list(network.outputs) == ["relu", "prob"]
    options = {"input_shape": ["image=2x6x5x2"], "input_dtype": ["image=float64"]}
    network = tenonrt.parse(file, registry=registry, options=options | {"outputs": ["image"]})
    assert str(network.inputs[0].type) == str(network.outputs["image"].type)
    assert network.inputs[0].type.shape == (2, 6, 5, 2)
    replaced = tenonrt.parse(file, registry=registry, options={"input_shape": ["mean=-1x4"], "outputs": ["prob"]})
    assert [t.name for t in replaced.inputs] == ["mean"]
    graph = GraphDef()
    graph.placeholder("bytes", None, "string")
    graph.node("image", "Cast", ["bytes"], SrcT=("type", "uint8"), DstT=("type", "int32"))
    graph.node("y", "Abs", ["image"], T=("type", "int32"))
    (put,) = read(graph.encode(), registry, input_shape=("image=2x?",)).inputs
    assert (put.name, put.type.rank, put.type.dtype) == ("image", 2, "int32")
    for wrong in ("image", "image=2xax5", "=1x2"):
        with pytest.raises(ParseError, match="must be a name and a shape"):
            tenonrt.parse(file, registry=registry, options={"input_shape": [wrong]})
    with pytest.raises(ParseError, match="'nowhere' is no node of the file"):
        tenonrt.parse(file, registry=registry, options={"outputs": ["nowhere"]})
    with pytest.raises(ParseError, match="there is no node 'lost'"):
        tenonrt.parse(file, registry=registry, options={"input_shape": ["lost=1"]})


def test_found_by_its_first_bytes(registry: Registry, tmp_path: Path) -> None:
    content = classifier().encode()
    assert is_graph_def(content[:4096])
    assert is_graph_def(content[:20])
    assert not is_graph_def(b"\x08\x07" + chunk(2, "producer"))
    file = tmp_path / "graph"
    file.write_bytes(content)
    assert list(tenonrt.parse(file, registry=registry).outputs) == ["prob"]
    with pytest.raises(ParseError, match="SavedModel"):
        read(number(1, 1) + chunk(2, chunk(2, content)), registry)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["float32", "float16", "int32", "int64", "uint8", "int8", "int16", "bool"]),
    sizes=st.lists(st.integers(0, 4), max_size=3),
    encoding=st.sampled_from(["content", "values", "repeated"]),
    seed=st.integers(0, 99),
)
def test_encodings_of_constants(dtype: str, sizes: list[int], encoding: str, seed: int) -> None:
    array = np.random.default_rng(seed).integers(-100, 100, sizes).astype(dtype)
    if dtype == "int64" and encoding == "content":
        encoding = "int64"
    message = type(graph_def()().node.add().attr["value"].tensor).FromString(tensor(array, encoding))
    wanted = np.full(sizes, array.reshape(-1)[0]) if encoding == "repeated" and array.size else array
    found = read_tensor(message)
    assert found.dtype == (np.int32 if dtype == "int64" and encoding != "int64" else wanted.dtype)
    np.testing.assert_array_equal(found, wanted)


def proto(dtype: int, sizes: list[int] | None, rest: bytes = b"") -> Any:
    kind = type(graph_def()().node.add().attr["value"].tensor)
    return kind.FromString(number(1, dtype) + chunk(2, shape(sizes)) + rest)


def test_constants_that_are_short_or_wrong() -> None:
    values = b"".join(bytes([0x2D]) + np.float32(v).tobytes() for v in (1, 2))  # float_val, not packed
    np.testing.assert_array_equal(read_tensor(proto(1, [4], values)), [1, 2, 2, 2])
    np.testing.assert_array_equal(read_tensor(proto(1, [2, 2])), np.zeros((2, 2)))
    assert read_tensor(proto(7, [1], chunk(8, "text")))[0] == "text"
    for message, wrong in {
        "has 2 values": proto(1, [1], values),
        "has 3 bytes": proto(1, [1], chunk(4, b"abc")),
        "too few to repeat": proto(1, [2**40], values),
        "element type number 20": proto(20, []),
        "shape unknown": proto(1, None),
    }.items():
        with pytest.raises(ParseError, match=message):
            read_tensor(wrong)


def conditional(flag: str) -> GraphDef:
    """A dropout that is only for training, as Keras and slim leave it in frozen graphs."""
    graph = GraphDef()
    graph.placeholder("x", [2, 3])
    if flag == "placeholder":
        graph.node("flag", "Placeholder", dtype=("type", "bool"), shape=("shape", []))
    elif flag == "default":
        graph.const("off", np.array(False))
        graph.node("flag", "PlaceholderWithDefault", ["off"], dtype=("type", "bool"), shape=("shape", []))
    else:
        graph.const("on", np.array(True))
        graph.node("flag", "LogicalNot", ["on"])
    graph.node("cond/Switch", "Switch", ["flag", "flag"])
    graph.node("cond/switch_t", "Identity", ["cond/Switch:1"])
    graph.node("cond/switch_f", "Identity", ["cond/Switch"])
    graph.node("cond/pred", "Identity", ["flag"])
    graph.node("cond/left", "Switch", ["x", "cond/pred"])
    graph.node("cond/noise", "RandomUniform", ["cond/left:1", "^cond/switch_t"])
    graph.node("cond/mul", "Mul", ["cond/left:1", "cond/noise"])
    graph.node("cond/right", "Switch", ["x", "cond/pred"])
    graph.const("cond/two", np.float32(2))
    graph.nodes[-1] += chunk(3, "^cond/switch_f")
    graph.node("cond/double", "Mul", ["cond/right", "cond/two"])
    graph.node("cond/Merge", "Merge", ["cond/double", "cond/mul"], N=2)
    graph.node("y", "Relu", ["cond/Merge"])
    return graph


@pytest.mark.parametrize("flag", ["placeholder", "default", "constant"])
def test_branches_for_training_are_left_out(flag: str, registry: Registry, run: Any) -> None:
    x = np.array([[1, -2, 3], [0, 5, -6]], np.float32)
    network = read(conditional(flag).encode(), registry, outputs=("y",))
    assert [t.name for t in network.inputs] == ["x"]
    np.testing.assert_array_equal(run(network, x=x)["y"], np.maximum(2 * x, 0))


def test_constants_of_a_branch_go_with_it(registry: Registry, run: Any) -> None:
    """Each is bound to its branch by a control input alone."""
    graph = conditional("constant")
    graph.const("cond/one", np.float32(1))
    graph.nodes[-1] += chunk(3, "^cond/switch_t")
    graph.node("which", "Merge", ["cond/one", "cond/two"])
    graph.node("z", "Add", ["x", "which"])
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(run(read(graph.encode(), registry, outputs=("z",)), x=x)["z"], x + 2)


def test_shapes_that_are_computed(registry: Registry, run: Any) -> None:
    """Flatten as Keras writes it, for any batch; a resize to twice the size."""
    graph = GraphDef()
    graph.placeholder("x", [-1, -1, -1, 2])
    graph.node("shape", "Shape", ["x"])
    for name, value in {"zero": [0], "one": [1], "three": [3], "left": -1, "two": 2}.items():
        graph.const(name, value)
    graph.node("batch", "StridedSlice", ["shape", "zero", "one", "one"], shrink_axis_mask=1)
    graph.node("flat", "Pack", ["batch", "left"], N=2, axis=0)
    graph.node("y", "Reshape", ["x", "flat"])
    graph.node("size", "StridedSlice", ["shape", "one", "three", "one"])
    graph.node("twice", "Mul", ["size", "two"])
    graph.node("z", "ResizeNearestNeighbor", ["x", "twice"])
    found = run(read(graph.encode(), registry), x=IMAGES)
    np.testing.assert_array_equal(found["y"], IMAGES.reshape(2, -1))
    np.testing.assert_array_equal(found["z"], IMAGES.repeat(2, 1).repeat(2, 2))


def test_same_padding_follows_sizes_known_when_it_runs(registry: Registry, run: Any) -> None:
    from tf_cases import conv

    graph = GraphDef()
    graph.placeholder("x", [-1, -1, -1, 2])
    graph.const("k", KERNEL)
    graph.node("y", "Conv2D", ["x", "k"], strides=[1, 2, 2, 1], padding="SAME")
    np.testing.assert_allclose(run(read(graph.encode(), registry), x=IMAGES)["y"], conv(IMAGES, KERNEL, 2), 1e-4, 1e-5)


def test_unrolled_recurrence(registry: Registry, run: Any) -> None:
    """A cell of two steps as static_rnn unrolls BasicLSTMCell."""
    graph, x = GraphDef(), rng.standard_normal((3, 2, 4)).astype(np.float32)
    weights, bias = rng.standard_normal((7, 12)).astype(np.float32), rng.standard_normal(12).astype(np.float32)
    graph.placeholder("x", [3, 2, 4])
    for name, value in {"w": weights, "b": bias, "one": 1, "forget": np.float32(1)}.items():
        graph.const(name, value)
    graph.const("h", np.zeros((3, 3), np.float32), "repeated")
    graph.const("c", np.zeros((3, 3), np.float32), "repeated")
    graph.node("steps", "Unpack", ["x"], axis=1, num=2)
    h, c = "h", "c"
    state = [np.zeros((3, 3)), np.zeros((3, 3))]
    for step in range(2):
        p = f"cell_{step}"
        graph.node(f"{p}/in", "ConcatV2", [f"steps:{step}", h, "one"], N=2)
        graph.node(f"{p}/mat", "MatMul", [f"{p}/in", "w"])
        graph.node(f"{p}/sum", "BiasAdd", [f"{p}/mat", "b"])
        graph.node(f"{p}/gates", "Split", ["one", f"{p}/sum"], num_split=4)
        graph.node(f"{p}/i", "Sigmoid", [f"{p}/gates"])
        graph.node(f"{p}/j", "Tanh", [f"{p}/gates:1"])
        graph.node(f"{p}/shift", "Add", [f"{p}/gates:2", "forget"])
        graph.node(f"{p}/f", "Sigmoid", [f"{p}/shift"])
        graph.node(f"{p}/o", "Sigmoid", [f"{p}/gates:3"])
        graph.node(f"{p}/keep", "Mul", [c, f"{p}/f"])
        graph.node(f"{p}/new", "Mul", [f"{p}/i", f"{p}/j"])
        c = graph.node(f"{p}/c", "Add", [f"{p}/keep", f"{p}/new"])
        graph.node(f"{p}/tanh", "Tanh", [c])
        h = graph.node(f"{p}/h", "Mul", [f"{p}/tanh", f"{p}/o"])
        i, j, f, o = np.split(np.concatenate([x[:, step], state[0]], 1) @ weights + bias, 4, 1)
        sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
        cell = state[1] * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
        state = [np.tanh(cell) * sigmoid(o), cell]
    np.testing.assert_allclose(run(read(graph.encode(), registry, outputs=(h,)), x=x)[h], state[0], 1e-5, 1e-5)


WRONG: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    r"'y' \(Add\) reads 'z'": ("Add", ["x", "z"], {}),
    r"node 'y' \(Add\): 'y' reads output 1 of 'x' \(Placeholder\), which has 1": ("Add", ["x", "x:1"], {}),
    "cycle: 'y' reads 'y'": ("Add", ["x", "y"], {}),
    r"node 'y' \(Abs\): has 0 inputs": ("Abs", [], {}),
    r"node 'y' \(Softmax\): .*axis is -1": ("Softmax", ["x"], {}),
    "is in training mode": ("FusedBatchNorm", ["x"] * 5, {}),
    r"VariableV2: node 'y'\n.*freeze it": ("VariableV2", [], {}),
    r"RandomUniform: node 'y'\n.*export the graph for inference": ("RandomUniform", ["x"], {}),
    r"While: node 'y'\n.*loops are not supported": ("While", ["x"], {}),
    r"tensorflow|Mystery: node 'y'": ("Mystery", ["x"], {}),
}


@pytest.mark.parametrize("message", WRONG)
def test_errors_say_where(message: str, registry: Registry) -> None:
    operation, inputs, attrs = WRONG[message]
    graph = GraphDef()
    graph.placeholder("x", [])
    graph.node("y", operation, inputs, **attrs)
    with pytest.raises(ParseError, match=message):
        read(graph.encode(), registry, outputs=("y",))


def test_placeholder_without_a_shape(registry: Registry) -> None:
    for sizes, producer in ((None, 27), ([], 9)):
        graph = GraphDef(producer)
        graph.placeholder("x", sizes)
        graph.node("y", "Relu", ["x"])
        with pytest.raises(ParseError, match="--input-shape x="):
            read(graph.encode(), registry)
        assert read(graph.encode(), registry, input_shape=("x=2x3",)).inputs[0].type.shape == (2, 3)


def test_unsupported_operations_are_listed_together(registry: Registry) -> None:
    graph = GraphDef()
    graph.placeholder("x", [1])
    graph.node("a", "Mystery", ["x"])
    graph.node("b", "TensorArrayV3", ["a"])
    with pytest.raises(UnsupportedError) as caught:
        read(graph.encode(), registry)
    assert list(caught.value.operators) == ["tensorflow:Mystery", "tensorflow:TensorArrayV3"]


def mutated(content: bytes, random: Random) -> bytes:
    """Cut, overwritten or random bytes; or, every second time, another file of the same encoding."""
    if random.random() < 0.5:
        return damaged(content, random)
    file = graph_def().FromString(content)
    operations = [*(node.op for node in file.node), "StridedSlice", "Pad", "Conv2DBackpropInput", "Merge", "Switch",
                  "Split", "TopKV2", "Fill", "SpaceToBatchND", "OneHot", "Range", "Tile", ""]  # fmt: skip
    for _ in range(random.randint(1, 3)):
        _change(random.choice(file.node), [node.name for node in file.node], operations, random)
    encoded: bytes = file.SerializeToString()
    return encoded


def _change(node: Any, names: list[str], operations: list[str], random: Random) -> None:
    what = random.randrange(5)
    if what == 0:
        node.op = random.choice(operations)
    elif what == 1 and node.input:
        node.input[random.randrange(len(node.input))] = random.choice([*names, "", "^", f"{random.choice(names)}:3"])
    elif what == 2:
        node.input.extend(random.choices(names, k=random.choice((1, 2, 30))))
    elif node.attr:
        value = node.attr[random.choice(sorted(node.attr))]
        kind = value.WhichOneof("value")
        if kind == "list" and value.list.i:
            value.list.i[random.randrange(len(value.list.i))] = random.choice(EXTREMES)
        elif kind == "tensor" and what == 3:
            value.tensor.tensor_shape.dim.add().size = random.choice(EXTREMES)
        elif kind == "tensor":
            value.tensor.ClearField("tensor_content")
        elif kind == "shape" and value.shape.dim:
            random.choice(value.shape.dim).size = random.choice(EXTREMES)
        else:
            value.i = random.choice(EXTREMES)


def damage(registry: Registry, count: int, seed: int) -> tuple[int, int]:
    """How many files were read and refused; anything but ParseError gets through. UFF is written of each as well."""
    random, whole, refused = Random(seed), 0, 0
    files = [classifier().encode(), conditional("default").encode()]
    for _ in range(count):
        content = mutated(random.choice(files), random)
        try:
            read(content, registry)
            whole += 1
        except ParseError as error:
            refused += bool(str(error).strip())
        with suppress(ParseError):
            Conversion(Selection(graph_of(content), Wanted())).run()
    return whole, refused


def test_damaged_files(registry: Registry) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, refused = damage(registry, 300, 0)
    assert whole + refused == 300  # each refusal has a message
    assert whole > 20
    assert refused > 150
