"""Models of formats that are dead, rescued: written as ONNX, they compute the same in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt import Builder, BuilderConfig, PluginSet, Registry

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
REGISTRY = Registry(PluginSet(deny=("tenonrt-kernel-llvm",)))

CAFFE = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 17 dim: 15 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 8 kernel_size: 3 pad: 1 stride: 2 dilation: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "scale" top: "scale" relu_param { negative_slope: 0.1 } }
layer { name: "lrn" type: "LRN" bottom: "scale" top: "lrn" lrn_param { local_size: 3 alpha: 0.1 } }
layer { name: "pool" type: "Pooling" bottom: "lrn" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "mean" type: "Pooling" bottom: "lrn" top: "mean" pooling_param {
  pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "power" type: "Power" bottom: "mean" top: "power" power_param { power: 2 scale: 0.5 shift: 1 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up" convolution_param {
  num_output: 4 kernel_size: 4 stride: 2 pad: 1 } }
layer { name: "prelu" type: "PReLU" bottom: "up" top: "prelu" }
layer { name: "slice" type: "Slice" bottom: "power" top: "a" top: "b" slice_param { axis: 1 slice_point: 3 } }
layer { name: "concat" type: "Concat" bottom: "b" bottom: "a" top: "concat" }
layer { name: "fc" type: "InnerProduct" bottom: "concat" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def test_caffe(tmp_path: Path) -> None:
    source, target = tmp_path / "net.prototxt", tmp_path / "net.onnx"
    source.write_text(CAFFE)
    options = {"random_weights": 3}
    tenonrt.convert(source, target, registry=REGISTRY, options=options)
    onnx.checker.check_model(onnx.load(target), full_check=True)
    x = np.random.default_rng(0).standard_normal((2, 3, 17, 15)).astype(np.float32)
    network = tenonrt.parse(source, registry=REGISTRY, options=options)
    config = BuilderConfig(optimization_level=0, plugins=REGISTRY.plugins)
    expected = Builder(config).build(network).create_context().execute({"data": x})
    session = ort.InferenceSession(target, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found: dict[str, Any] = dict(zip(names, session.run(None, {"data": x}), strict=True))
    assert set(found) == set(expected) == {"prelu", "prob"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, 1e-4, 1e-5)
