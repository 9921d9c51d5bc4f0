"""Layers and whole networks against OpenCV's reading of the same files."""

# ruff: noqa: E501 - networks and tables keep their lines
from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
if not hasattr(cv2, "dnn") or not hasattr(cv2.dnn, "readNetFromCaffe"):
    pytest.skip("this OpenCV reads no Caffe networks", allow_module_level=True)

DATA = Path(__file__).parents[4] / "shared" / "data" / "caffe"
RNG = np.random.default_rng(6)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def layer(kind: str, parameters: str = "", bottoms: tuple[str, ...] = ("x",), tops: tuple[str, ...] = ("y",)) -> str:
    names = " ".join(f'bottom: "{b}"' for b in bottoms) + " " + " ".join(f'top: "{t}"' for t in tops)
    return f'layer {{ name: "made" type: "{kind}" {names} {parameters} }}'


IMAGE = (2, 6, 9, 11)
CASES: dict[str, tuple[str, tuple[int, ...], list[Any]]] = {
    "convolution": (layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 }"),
                    IMAGE, [normal(4, 6, 3, 3), normal(4)]),
    "convolution h and w": (
        layer("Convolution", "convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 0 stride_w: 2 group: 3 "
              "stride_h: 1 bias_term: false }"), IMAGE, [normal(6, 2, 3, 2)]),
    "convolution dilated": (layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 dilation: 2 }"),
                            IMAGE, [normal(2, 6, 3, 3), normal(2)]),
    "deconvolution": (layer("Deconvolution", "convolution_param { num_output: 4 kernel_size: 4 pad: 1 stride: 2 }"),
                      IMAGE, [normal(6, 4, 4, 4), normal(4)]),
    "deconvolution groups": (
        layer("Deconvolution", "convolution_param { num_output: 6 kernel_size: 4 stride: 2 pad: 1 group: 6 "
              "bias_term: false }"), IMAGE, [normal(6, 1, 4, 4)]),
    "max pooling": (layer("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"), (1, 3, 10, 12), []),
    "max pooling padded": (layer("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }"),
                           (1, 3, 10, 11), []),
    "average pooling": (layer("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"),
                        (1, 3, 10, 11), []),
    "average pooling global": (layer("Pooling", "pooling_param { pool: AVE global_pooling: true }"), IMAGE, []),
    "lrn": (layer("LRN", "lrn_param { local_size: 5 alpha: 0.3 beta: 0.6 }"), IMAGE, []),
    "lrn within": (layer("LRN", "lrn_param { local_size: 3 alpha: 0.3 norm_region: WITHIN_CHANNEL }"), IMAGE, []),
    "inner product": (layer("InnerProduct", "inner_product_param { num_output: 5 }"), (3, 4, 2, 2),
                      [normal(5, 16), normal(5)]),
    "batch norm": (layer("BatchNorm", "batch_norm_param { eps: 0.001 }"), IMAGE,
                   [normal(6), np.abs(normal(6)) + 1, np.array([2], np.float32)]),
    "scale": (layer("Scale", "scale_param { bias_term: true }"), IMAGE, [normal(6), normal(6)]),
    "relu": (layer("ReLU"), IMAGE, []),
    "relu with slope": (layer("ReLU", "relu_param { negative_slope: 0.2 }"), IMAGE, []),
    "prelu": (layer("PReLU"), IMAGE, [normal(6)]),
    "elu": (layer("ELU"), IMAGE, []),
    "bnll": (layer("BNLL"), IMAGE, []),
    "sigmoid": (layer("Sigmoid"), IMAGE, []),
    "tanh": (layer("TanH"), IMAGE, []),
    "absval": (layer("AbsVal"), IMAGE, []),
    "power": (layer("Power", "power_param { power: 2 scale: 0.5 shift: -0.3 }"), IMAGE, []),
    "softmax": (layer("Softmax"), (3, 7, 2, 2), []),
    "flatten": (layer("Flatten", "flatten_param { axis: 2 }"), IMAGE, []),
    "reshape": (layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }"), IMAGE, []),
    "permute": (layer("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"), IMAGE, []),
    "normalize": (layer("Normalize", "norm_param { across_spatial: false channel_shared: false }"), IMAGE, [normal(6)]),
    "eltwise": (layer("Eltwise", "eltwise_param { coeff: 2 coeff: -1 }", ("x", "x")), IMAGE, []),
    "eltwise max": (layer("Eltwise", "eltwise_param { operation: MAX }", ("x", "x")), IMAGE, []),
    "concat": (layer("Concat", "concat_param { axis: 1 }", ("x", "x")), IMAGE, []),
    "dropout": (layer("Dropout"), IMAGE, []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_layer(networks: ModuleType, tmp_path: Path, name: str) -> None:
    text, shape, blobs = CASES[name]
    (tmp_path / "net.prototxt").write_text(networks.prototxt(text, x=shape))
    (tmp_path / "net.caffemodel").write_bytes(networks.caffemodel({"made": blobs}))
    x = normal(*shape)
    found = networks.run(tmp_path / "net.prototxt", {"x": x}, weights=str(tmp_path / "net.caffemodel"))
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    net.setInput(x, "x")
    expected = net.forward()
    assert found["y"].shape == expected.shape
    np.testing.assert_allclose(found["y"], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_lenet_with_its_trained_weights(networks: ModuleType) -> None:
    if not DATA.exists():
        pytest.skip("no networks beside the checkout")
    deploy, trained = DATA / "lenet_iter_10000.prototxt", DATA / "lenet_iter_10000.caffemodel"
    x = RNG.random((64, 1, 28, 28)).astype(np.float32)
    net = cv2.dnn.readNetFromCaffe(str(deploy), str(trained))
    net.setInput(x, "data")
    found = networks.run(deploy, {"data": x}, weights=str(trained))
    np.testing.assert_allclose(found["prob"], net.forward("prob"), rtol=1e-4, atol=1e-6)


def convolution(name: str, bottom: str, parameters: str) -> str:
    """As AlexNet has it: a ReLU in place."""
    return (
        layer("Convolution", f"convolution_param {{ {parameters} }}", (bottom,), (name,)).replace("made", name)
        + layer("ReLU", "", (name,), (name,)).replace("made", f"{name}/relu")
    )  # fmt: skip


ALEX = "".join((
    convolution("conv1", "x", "num_output: 24 kernel_size: 11 stride: 4"),
    layer("LRN", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }", ("conv1",), ("n1",)).replace("made", "norm1"),
    layer("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", ("n1",), ("p1",)).replace("made", "pool1"),
    convolution("conv2", "p1", "num_output: 64 kernel_size: 5 pad: 2 group: 2"),
    layer("LRN", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }", ("conv2",), ("n2",)).replace("made", "norm2"),
    layer("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", ("n2",), ("p2",)).replace("made", "pool2"),
    convolution("conv3", "p2", "num_output: 48 kernel_size: 3 pad: 1 group: 2"),
    layer("InnerProduct", "inner_product_param { num_output: 40 }", ("conv3",), ("fc",)).replace("made", "fc"),
    layer("Dropout", "dropout_param { dropout_ratio: 0.5 }", ("fc",), ("fc",)).replace("made", "drop"),
    layer("Softmax", "", ("fc",), ("prob",)).replace("made", "prob"),
))  # fmt: skip


@pytest.mark.parametrize("native", [False, True], ids=["references", "native kernels"])
def test_alexnet_in_small(networks: ModuleType, tmp_path: Path, native: bool) -> None:
    """Grouped convolutions, local responses and pooling that hangs over the end, in one network."""
    (tmp_path / "net.prototxt").write_text(networks.prototxt(ALEX, x=(2, 3, 99, 91)))
    (tmp_path / "net.caffemodel").write_bytes(networks.caffemodel(networks.made_up(tmp_path / "net.prototxt", seed=5)))
    x = 50 * normal(2, 3, 99, 91)
    found = networks.run(tmp_path / "net.prototxt", {"x": x}, native=native, weights=str(tmp_path / "net.caffemodel"))
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    net.setInput(x, "x")
    expected = net.forward("prob")
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found["prob"], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("name", "size"), [("cifar10_full", 32), ("bvlc_googlenet", 224)])
def test_network_with_made_up_weights(networks: ModuleType, tmp_path: Path, name: str, size: int) -> None:
    """An error is measured against how far the reference moves between two inputs."""
    if not DATA.exists():
        pytest.skip("no networks beside the checkout")
    text = (DATA / f"{name}.prototxt").read_text().replace("dim: 10 ", "dim: 1 ")
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(networks.caffemodel(networks.made_up(tmp_path / "net.prototxt", seed=3)))
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    references, found = [], []
    for x in (normal(1, 3, size, size), np.kron(normal(1, 3, 4, 4), np.ones((size // 4, size // 4), np.float32))):
        net.setInput(x, "data")
        references.append(net.forward("prob"))
        found.append(networks.run(tmp_path / "net.prototxt", {"data": x}, random_weights=3)["prob"])
    signal = np.abs(references[0] - references[1]).max()
    assert max(np.abs(f - r).max() for f, r in zip(found, references, strict=True)) < 2e-3 * signal
