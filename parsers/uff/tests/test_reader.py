"""What surrounds the operations: inputs, outputs, references, custom operations and damage."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt import Network, ParseError, Registry, UnsupportedError
from tenonrt.contracts import Tensor
from tenonrt_parser_uff.factory import CustomLayer, FieldCollection, FieldType
from tenonrt_parser_uff.parser import UffParser
from tenonrt_parser_uff.sniff import is_uff
from uff_bytes import File, chunk
from uff_damage import mutated

rng = np.random.default_rng(3)
KERNEL = rng.standard_normal((3, 3, 2, 4)).astype(np.float32)
MATRIX = rng.standard_normal((4, 3)).astype(np.float32)
IMAGES = rng.standard_normal((2, 6, 5, 2)).astype(np.float32)


def network_file() -> bytes:
    """A small classifier in the shape that converters give it."""
    file = File("tensorflow_extension")
    file.input("image", [-1, 6, 5, 2])
    file.const("kernel", KERNEL)
    file.const("bias", np.arange(4, dtype=np.float32))
    file.node("conv", "Conv", ["image", "kernel"], inputs_orders=["N+C", "+CK"], strides=[1, 1],
              implicit_padding="same")  # fmt: skip
    file.node("add", "Binary", ["conv", "bias"], func="add")
    file.node("relu", "Activation", ["add"], func="relu")
    file.node("mean", "Reduce", ["relu"], func="mean", axes=[1, 2], keepdims=False)
    file.const("weights", MATRIX)
    file.node("logits", "FullyConnected", ["mean", "weights"], inputs_orders=["NC", "CK"])
    file.node("prob", "Softmax", ["logits"], axis=0, inputs_orders=["N+C"])
    return file.encode("prob")


def read(content: bytes, registry: Registry, parser: UffParser | None = None) -> Network:
    network = Network(registry=registry)
    (parser or UffParser()).parse_buffer(content, network)
    return network


def test_registered_order_is_that_of_the_data(registry: Registry, run: Any) -> None:
    expected = run(read(network_file(), registry), image=IMAGES)["prob"]
    parser = UffParser()
    parser.register_input("image", (2, 6, 5), "NCHW")
    first = run(read(network_file(), registry, parser), image=IMAGES.transpose(0, 3, 1, 2))["prob"]
    np.testing.assert_allclose(first, expected, 1e-6)
    parser.register_input("image", (6, 5, 2), 1)
    np.testing.assert_allclose(run(read(network_file(), registry, parser), image=IMAGES)["prob"], expected, 1e-6)
    with pytest.raises(ValueError, match="NDHWC"):
        parser.register_input("image", (1, 2, 3), "NDHWC")  # type: ignore[arg-type]


def test_options_say_what_registration_says(registry: Registry, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "net.uff"
    file.write_bytes(network_file())
    expected = run(read(network_file(), registry), image=IMAGES)["prob"]
    for options in ({"uff_input": ["image,2,6,5"]}, {"uff_input": ["image,6,5,2"], "uff_nhwc": True}):
        network = tenonrt.parse(file, registry=registry, options=options)
        images = IMAGES if "uff_nhwc" in options else IMAGES.transpose(0, 3, 1, 2)
        np.testing.assert_allclose(run(network, image=images)["prob"], expected, 1e-6)
    network = tenonrt.parse(file, registry=registry, options={"uff_output": ["relu"], "uff_literal": True})
    assert list(network.outputs) == ["relu"]
    assert list(tenonrt.parse(file, registry=registry).outputs) == ["prob"], "what was said once is not kept"
    for wrong in ("image", "image,2,x,5", ",2,6,5", "image,0,1,1"):
        with pytest.raises(ParseError, match="separated by commas"):
            tenonrt.parse(file, registry=registry, options={"uff_input": [wrong]})


def test_registered_output_replaces_the_marked_one(registry: Registry) -> None:
    parser = UffParser()
    parser.register_output("relu")
    network = read(network_file(), registry, parser)
    assert list(network.outputs) == ["relu"]
    assert "Softmax" not in {layer.kind for layer in network.layers}
    parser.register_output("nowhere")
    with pytest.raises(ParseError, match="'nowhere' is no node of the file"):
        read(network_file(), registry, parser)


def test_sniffs_its_own(registry: Registry) -> None:
    assert is_uff(network_file()[:4096])
    assert is_uff(network_file()[:100])
    assert not is_uff(b"\x08\x07" + chunk(2, "producer"))


WRONG: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    r"'y' \(Binary\) reads 'z'": ("Binary", ["x", "z"], {"func": "add"}),
    r"node 'y' \(Binary\): 'func' is 'mod'": ("Binary", ["x", "x"], {"func": "mod"}),
    "cycle: 'y' reads 'y'": ("Binary", ["x", "y"], {"func": "add"}),
    r"node 'y' \(LRN\): field 'alpha': refers to 'lost'": ("LRN", ["x"], {"alpha": ("ref", "lost")}),
    r"node 'y' \(Unary\): has 0 inputs": ("Unary", [], {"func": "abs"}),
}


@pytest.mark.parametrize("message", WRONG)
def test_errors_say_where(message: str, registry: Registry) -> None:
    operation, inputs, fields = WRONG[message]
    file = File()
    file.input("x", [1, 2])
    file.node("y", operation, inputs, **fields)
    with pytest.raises(ParseError, match=message):
        read(file.encode("y"), registry)


class Leaky:
    """A classic factory."""

    def __init__(self) -> None:
        self.fields = FieldCollection(())

    def is_plugin(self, layer_name: str) -> bool:
        return layer_name == "custom"

    def create_plugin(self, layer_name: str, weights: Sequence[Any], fields: FieldCollection) -> CustomLayer:
        self.fields = fields
        return CustomLayer("ParametricRelu", {}, weights)


def custom_file() -> bytes:
    file = File("tensorflow_extension", "custom")
    file.input("x", [2, 4])
    file.const("slope", np.float32(0.5))
    file.node("custom", "_Leaky", ["x", "slope"], T=("dtype", "float32"), padding="b'SAME'", ksize=[1, 2, 2, 1],
              rate=0.25, count=3, mystery=("dtype", "nothing"))  # fmt: skip
    return file.encode("custom")


def test_factory_gets_weights_and_typed_fields(registry: Registry, run: Any) -> None:
    parser, factory = UffParser(), Leaky()
    parser.set_plugin_factory(factory)
    x = np.array([[1, -2, 3, -4], [0, 0, 0, 1]], np.float32)
    np.testing.assert_allclose(
        run(read(custom_file(), registry, parser), x=x)["custom"], np.where(x < 0, x / 2, x), 1e-6
    )
    types = {field.name: field.type for field in factory.fields}
    assert types == {"T": FieldType.DATATYPE, "padding": FieldType.CHAR, "ksize": FieldType.DIMS,
                     "rate": FieldType.FLOAT, "count": FieldType.INT32, "mystery": FieldType.UNKNOWN}  # fmt: skip
    assert factory.fields["padding"] == "SAME"
    assert factory.fields["ksize"].tolist() == [1, 2, 2, 1]


def test_custom_operations_by_type(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(builder: Any, node: Any, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        assert node.attrs["padding"] == "SAME"
        found: Sequence[Tensor] = builder.add("ParametricRelu", inputs)
        return found

    with pytest.raises(UnsupportedError, match="_Leaky: node 'custom'"):
        read(custom_file(), registry)
    network = Network(registry=registry)
    monkeypatch.setattr(
        network, "mapping", lambda format, domain, type: leaky if (domain, type) == ("custom", "Leaky") else None
    )
    UffParser().parse_buffer(custom_file(), network)
    assert [layer.kind for layer in network.layers] == ["ParametricRelu"]


def damage(registry: Registry, count: int, seed: int) -> tuple[int, int]:
    """How many files were read and refused; anything but ParseError gets through."""
    random, content, whole, refused = Random(seed), network_file(), 0, 0
    for _ in range(count):
        try:
            read(mutated(content, random), registry)
            whole += 1
        except ParseError as error:
            refused += bool(str(error).strip())
    return whole, refused


def test_damaged_files(registry: Registry) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, refused = damage(registry, 600, 0)
    assert whole + refused == 600  # each refusal has a message
    assert whole > 20
    assert refused > 300
