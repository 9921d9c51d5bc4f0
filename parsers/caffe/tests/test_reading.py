"""Files: older formats, what other branches write, rules of phases, and refusals that say where."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt import ParseError, UnsupportedError
from tenonrt_parser_caffe.classic import register_factory, unregister_factory
from tenonrt_parser_caffe.network import read_network, read_weights
from tenonrt_parser_caffe.options import CaffeOptions
from tenonrt_parser_caffe.parser import CaffeParser, UnknownFieldWarning, read
from tenonrt_parser_caffe.schema import new

V0 = """input: "data" input_dim: 1 input_dim: 2 input_dim: 5 input_dim: 5
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "padded" }
layers { layer { name: "conv" type: "conv" num_output: 3 kernelsize: 3 biasterm: false stride: 2 }
         bottom: "padded" top: "conv" }
layers { layer { name: "relu" type: "relu" } bottom: "conv" top: "conv" }
layers { layer { name: "pool" type: "pool" pool: AVE kernelsize: 2 } bottom: "conv" top: "pool" }
"""
V1 = """input: "data" input_shape { dim: 1 dim: 2 dim: 5 dim: 5 }
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 param: "shared"
         convolution_param { num_output: 3 kernel_size: 3 pad: 1 stride: 2 bias_term: false } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "pool" type: POOLING bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 2 } }
"""
WEIGHTS = np.random.default_rng(1).standard_normal((3, 2, 3, 3)).astype(np.float32)


def varint(value: int) -> bytes:
    made = b""
    while value > 127:
        made, value = made + bytes([value & 127 | 128]), value >> 7
    return made + bytes([value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def model(blob: bytes) -> bytes:
    return field(1, b"net") + field(100, field(1, b"conv") + field(2, b"Convolution") + field(7, blob))


SHAPE = field(7, field(1, b"".join(map(varint, WEIGHTS.shape))))
LEGACY = b"".join(field(i, size) for i, size in enumerate(WEIGHTS.shape, 1))
FORMS = {
    "packed": SHAPE + field(5, WEIGHTS.tobytes()),
    "legacy shape": LEGACY + field(5, WEIGHTS.tobytes()),
    "unpacked": LEGACY + b"".join(b"\x2d" + v.tobytes() for v in WEIGHTS.ravel()),
    "double": SHAPE + field(8, WEIGHTS.astype(np.float64).tobytes()),
    "raw fp32": SHAPE + field(10, 1) + field(12, WEIGHTS.tobytes()),
    "raw fp16": SHAPE + field(10, 2) + field(12, WEIGHTS.astype(np.float16).tobytes()),
    "raw fp64": SHAPE + field(10, 0) + field(12, WEIGHTS.astype(np.float64).tobytes()),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_blobs(tmp_path: Path, form: str) -> None:
    (tmp_path / "net.caffemodel").write_bytes(model(FORMS[form]))
    (blob,) = read_weights(tmp_path / "net.caffemodel")["conv"]
    assert blob.array().dtype == np.float32
    np.testing.assert_allclose(blob.array(), WEIGHTS, atol=2e-3 if "16" in form else 0)


@pytest.mark.parametrize("text", [V0, V1], ids=["V0", "V1"])
def test_older_formats(networks: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(model(FORMS["packed"]))
    x = np.random.default_rng(2).standard_normal((1, 2, 5, 5)).astype(np.float32)
    found = networks.run(tmp_path / "net.prototxt", {"data": x}, weights=str(tmp_path / "net.caffemodel"))
    padded = np.pad(x.astype(float), ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    conv = np.maximum(np.einsum("nchwij,kcij->nkhw", patches, WEIGHTS), 0)
    means = sum(conv[:, :, i : i + 2, j : j + 2] for i in (0, 1) for j in (0, 1)) / 4
    np.testing.assert_allclose(found["pool"], means, rtol=1e-5, atol=1e-6)


def test_numbers_that_branches_share_are_told_apart(tmp_path: Path) -> None:
    nvidia = field(1, b"a") + field(2, b"ReLU") + field(145, 2) + field(148, 1)
    bvlc = field(1, b"b") + field(2, b"Swish") + field(147, b"\x0d" + np.float32(2).tobytes())
    tensorrt = field(1, b"c") + field(2, b"Permute") + field(8781, field(1, 1) + field(1, 0))
    (tmp_path / "net.caffemodel").write_bytes(b"".join(field(100, layer) for layer in (nvidia, bvlc, tensorrt)))
    first, second, third = (spec.message for spec in read_network(tmp_path / "net.caffemodel").layers)
    assert (first.forward_type, first.HasField("parameter_param")) == (2, False)
    assert second.swish_param.beta == 2
    assert list(third.permute_param.order) == [1, 0]


RULES = {
    "": True, "include { phase: TRAIN }": False, "include { phase: TEST }": True, "exclude { phase: TEST }": False,
    "include { min_level: 1 }": False, "include { max_level: 0 }": True, 'include { stage: "deploy" }': True,
    'include { stage: "other" }': False, 'include { not_stage: "deploy" }': False, "phase: TRAIN": True,
    "include { phase: TRAIN } include { phase: TEST max_level: 0 }": True,
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_rules(tmp_path: Path, rule: str) -> None:
    (tmp_path / "net.prototxt").write_text(f'state {{ stage: "deploy" }} layer {{ name: "a" type: "ReLU" {rule} }}')
    assert bool(read_network(tmp_path / "net.prototxt").layers) == RULES[rule]


INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'


def parse(tmp_path: Path, text: str, **options: Any) -> tenonrt.Network:
    (tmp_path / "net.prototxt").write_text(text)
    return tenonrt.parse(tmp_path / "net.prototxt", options=options)


REFUSED = {
    "a": "line 1",
    "": "has no layers that compute anything",
    INPUT: "has no layers that compute anything",
    "layer { name: 3 }": "line 1: layer\\[0\\].name is '3'",
    "layer { name: 'a' convolution_param { pad: -1 } }": "convolution_param.pad is '-1'",
    "layer {" * 100: "nested more than 64",
    INPUT + "layer { name: 'a' type: 'ReLU' bottom: 'z' top: 'y' }": "layer 'a'.*reads the blob 'z'",
    INPUT + "layer { name: 'a' type: 'Softmax' bottom: 'x' top: 'y' softmax_param { axis: 7 } }": "axis is 7",
    INPUT + "layer { name: 'a' type: 'InnerProduct' bottom: 'x' top: 'y' inner_product_param { num_output: 2 } }":
        "layer 'a'.*no trained blobs.*weights",
    "layer { name: 'a'\n type: 'ReLU'\n type: 'Sigmoid' }": "line 3: layer\\[0\\].type is given a second time",
    "layer { relu_param { }\n relu_param { negative_slope: 1 } }": "line 2: layer\\[0\\].relu_param is given a second",
    "layer { name: '\\377' }": "line 1: layer\\[0\\].name is .*encode",
    "layer { name: 'x' type: 'DummyData' top: 'x' top: 'z' dummy_data_param { num: 1 channels: 2 height: 1 width: 3\n"
    "width: 4 width: 5 } } layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'y' }": "2 tops; num, channels.*3 times",
    "layers { name: 'a' type: RELU } layer { name: 'b' type: 'ReLU' }": "both 'layers'",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(tmp_path: Path, text: str) -> None:
    with pytest.raises(ParseError, match=f"net.prototxt: .*{REFUSED[text]}"):
        parse(tmp_path, text)


def test_escapes_are_bytes_of_utf_8(tmp_path: Path) -> None:
    """As protobuf writes names of other scripts: the binary form has the same."""
    (tmp_path / "net.prototxt").write_text(r"layer { name: 'gr\303\274n \xe7\xba\xa2 \n' type: 'ReLU' }")
    (layer,) = read_network(tmp_path / "net.prototxt").layers
    assert layer.name == "grün 红 \n"


def test_dummy_data_of_several_tops(tmp_path: Path) -> None:
    """A size that is given once is that of every top."""
    dummy = "dummy_data_param { num: 2 channels: 3 channels: 5 height: 1 width: 4 width: 6 }"
    text = f"layer {{ name: 'd' type: 'DummyData' top: 'a' top: 'b' {dummy} }}"
    text += "".join(f"layer {{ name: '{n}' type: 'ReLU' bottom: '{n}' top: '{n}{n}' }}" for n in "ab")
    assert [tuple(t.type.shape) for t in parse(tmp_path, text).graph.inputs] == [(2, 3, 1, 4), (2, 5, 1, 6)]


def test_blobs_that_a_layer_does_not_take(networks: ModuleType, tmp_path: Path) -> None:
    """As in Caffe an error: a bias that is left out changes what the network computes."""
    blobs = [np.ones((2, 3), np.float32), np.ones(2, np.float32)]
    (tmp_path / "net.caffemodel").write_bytes(networks.caffemodel({"a": blobs}))
    text = INPUT + (
        "layer { name: 'a' type: 'InnerProduct' bottom: 'x' top: 'y' inner_product_param { num_output: 2 %s } }"
    )
    parse(tmp_path, text % "", weights=str(tmp_path / "net.caffemodel"))
    with pytest.raises(
        ParseError, match=r"layer 'a'.*has 2 blobs in the trained model; with its parameters it takes 1"
    ):
        parse(tmp_path, text % "bias_term: false", weights=str(tmp_path / "net.caffemodel"))


def test_a_bias_over_a_free_batch(networks: ModuleType, tmp_path: Path) -> None:
    """A second bottom may span the batch, learned values cannot: their shape lost the axis."""
    (tmp_path / "net.caffemodel").write_bytes(networks.caffemodel({"a": [np.ones(3, np.float32)]}))
    text = INPUT + INPUT.replace('"x"', '"z"')
    text += "layer { name: 'a' type: 'Scale' bottom: 'x' bottom: 'z' top: 'y' scale_param { axis: 0 bias_term: true } }"
    with pytest.raises(ParseError, match=r"layer 'a'.*needs fixed sizes"):
        parse(tmp_path, text, weights=str(tmp_path / "net.caffemodel"), free_batch=True)


def test_every_unknown_type_is_named(tmp_path: Path) -> None:
    text = INPUT + "".join(f"layer {{ name: '{n}' type: '{n}Kind' bottom: 'x' top: '{n}' }}" for n in "AB")
    with pytest.raises(UnsupportedError, match=r"AKind.*BKind") as caught:
        parse(tmp_path, text)
    assert caught.value.operators == ("AKind", "BKind")


def test_unknown_fields_are_told(tmp_path: Path) -> None:
    text = INPUT + "layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'y' relu_param { novelty: 3 } }"
    with pytest.warns(UnknownFieldWarning, match="relu_param.novelty \\(line 2\\)"):
        parse(tmp_path, text)


def test_an_unknown_type_is_a_kind_of_the_registry(tmp_path: Path) -> None:
    """Its parameters are the attributes: here LpNormalization, which Caffe does not have."""
    text = INPUT + "layer { name: 'a' type: 'LpNormalization' bottom: 'x' top: 'y' lp_param { p: 1 axis: 0 } }"
    with pytest.warns(UnknownFieldWarning):
        (layer,) = parse(tmp_path, text).layers
    assert (layer.kind, layer.attrs.p, layer.attrs.axis) == ("LpNormalization", 1, 0)


class Doubling:
    """A plugin factory in TensorRT's form."""

    def isPlugin(self, layer: str) -> bool:  # noqa: N802
        return layer == "twice"

    def createPlugin(self, layer: str, weights: Any, count: int) -> Any:  # noqa: N802
        return self

    def getNbOutputs(self) -> int:  # noqa: N802
        return 1

    def getOutputDimensions(self, index: int, inputs: Any, count: int) -> Any:  # noqa: N802
        return inputs[0]

    def enqueue(self, batch: int, inputs: Any, outputs: Any, workspace: Any, stream: Any) -> int:
        outputs[0][:] = 2 * inputs[0]
        return 0


def test_classic_plugin_factory(networks: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(INPUT + "layer { name: 'twice' type: 'Own' bottom: 'x' top: 'y' }")
    register_factory("test", Doubling())
    try:
        x = np.ones((2, 3), np.float32)
        np.testing.assert_array_equal(networks.run(tmp_path / "net.prototxt", {"x": x})["y"], 2 * x)
    finally:
        unregister_factory("test")


class Clamping:
    """A factory of the Ext form, for plugins that IPluginExt describes; ``calls`` has what was asked of them."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def isPluginExt(self, layer: str) -> bool:  # noqa: N802
        return layer == "clamp"

    def createPlugin(self, layer: str, given: Any, count: int) -> Any:  # noqa: N802
        if isinstance(given, bytes):  # of a plan
            return _Clamp(self, np.frombuffer(given, np.float32))
        (limits,) = given
        return _Clamp(self, limits)


class _Clamp:
    def __init__(self, factory: Clamping, limits: Any) -> None:
        self.calls, self.limits = factory.calls, limits

    def getNbOutputs(self) -> int:  # noqa: N802
        return 2

    def getOutputDimensions(self, index: int, inputs: Any, count: int) -> Any:  # noqa: N802
        return inputs[0] if index == 0 else (1,)

    def supportsFormat(self, type: int, format: int) -> bool:  # noqa: N802
        return (type, format) == (0, 0)

    def configureWithFormat(  # noqa: N802
        self, inputs: Any, count: int, outputs: Any, made: int, type: int, format: int, batch: int
    ) -> None:
        self.calls.append(("configureWithFormat", tuple(inputs[0]), tuple(outputs[1]), batch))

    def initialize(self) -> int:
        return 0

    def getWorkspaceSize(self, batch: int) -> int:  # noqa: N802
        return 8 * batch

    def getSerializationSize(self) -> int:  # noqa: N802
        return int(self.limits.nbytes)

    def serialize(self, data: Any) -> None:
        data[:] = self.limits.tobytes()

    def enqueue(self, batch: int, inputs: Any, outputs: Any, workspace: Any, stream: Any) -> int:
        assert workspace.nbytes == 8 * batch
        outputs[0][:] = np.clip(inputs[0], *self.limits)
        outputs[1][:] = outputs[0].sum(1, keepdims=True)
        return 0

    def terminate(self) -> None:
        self.calls.append("terminate")


def test_classic_plugin_factory_in_the_ext_form(networks: ModuleType, tmp_path: Path) -> None:
    """Its plugin is made of the layer's blobs when parsing, and of what it serialized when a plan is loaded."""
    text = INPUT + "layer { name: 'clamp' type: 'Own' bottom: 'x' top: 'y' top: 'total' }"
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(networks.caffemodel({"clamp": [np.array([-1, 2], np.float32)]}))
    x = np.array([[-5, 1, 7], [0, 3, -2]], np.float32)
    first, second = Clamping(), Clamping()
    register_factory("test", first)
    try:
        network = parse(tmp_path, text, weights=str(tmp_path / "net.caffemodel"))
        tenonrt.compile(network, optimization_level=0).save(tmp_path / "net.plan")
        register_factory("test", second)  # as another process would
        found = tenonrt.Engine.load(tmp_path / "net.plan").create_context().execute({"x": x})
    finally:
        unregister_factory("test")
    np.testing.assert_array_equal(found["y"], np.clip(x, -1, 2))
    np.testing.assert_array_equal(found["total"], np.clip(x, -1, 2).sum(1, keepdims=True))
    assert ("configureWithFormat", (3,), (1,), 2) in second.calls
    assert second.calls[-1] == "terminate"


def test_shared_parameters_outputs_mean_and_blobs(networks: ModuleType, tmp_path: Path) -> None:
    image = "layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 1 dim: 2 dim: 2 dim: 2 } } }"
    text = image + "".join(
        f"layer {{ name: '{n}' type: 'InnerProduct' bottom: 'x' top: '{n}' param {{ name: 'w' }} param {{ name: 'b' }} "
        f"inner_product_param {{ num_output: 3 weight_filler {{ type: 'xavier' }} }} }}" for n in "ab"
    )  # fmt: skip
    mean = new("BlobProto")
    mean.num, mean.channels, mean.height, mean.width = 1, 2, 2, 2
    mean.data.extend([1.0] * 8)
    (tmp_path / "mean.binaryproto").write_bytes(mean.SerializeToString())
    (tmp_path / "net.prototxt").write_text(text)
    x, path = np.ones((1, 2, 2, 2), np.float32), tmp_path / "net.prototxt"
    found = networks.run(path, {"x": 2 * x}, random_weights=4)
    np.testing.assert_array_equal(found["a"], found["b"])
    shifted = networks.run(
        path, {"x": 3 * x}, random_weights=4, mean=str(tmp_path / "mean.binaryproto"), output_blob=["b"]
    )
    assert list(shifted) == ["b"]
    np.testing.assert_allclose(shifted["b"], found["b"], rtol=1e-6)
    network = tenonrt.Network("blobs")
    tensors = read(path, network, CaffeOptions(random_weights=4, free_batch=True))
    assert set(tensors) == {"x", "a", "b"}
    assert str(tensors["a"].type) == "float32[Nx3]"


def test_sniff() -> None:
    parser = CaffeParser()
    assert parser.sniff(V1.encode())
    assert parser.sniff(model(FORMS["packed"])[:60])
    assert not parser.sniff(b"node { name: 'a' }")
    assert not parser.sniff(b"\x08\x07\x12\x04onnx")
