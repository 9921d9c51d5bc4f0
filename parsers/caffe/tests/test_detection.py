"""Detection layers in Caffe's form: SSD's against OpenCV, regions against transcriptions of Faster R-CNN and R-FCN."""

# ruff: noqa: E501 - networks and tables keep their lines
from __future__ import annotations

from math import ceil, floor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(8)

PRIORS = """layer { name: "priors" type: "PriorBox" bottom: "features" bottom: "image" top: "priors"
  prior_box_param { min_size: 8 max_size: 14 aspect_ratio: 2 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2
                    clip: true } }
"""
SSD = (
    PRIORS
    + """layer { name: "out" type: "DetectionOutput" bottom: "location" bottom: "scores" bottom: "priors" top: "y"
  detection_output_param { num_classes: 3 share_location: true background_label_id: 0 code_type: CENTER_SIZE keep_top_k: 9 confidence_threshold: 0.3
                           nms_param { nms_threshold: 0.45 top_k: 20 } } }
"""
)


@pytest.mark.parametrize("native", [False, True], ids=["references", "native kernels"])
def test_ssd(networks: ModuleType, tmp_path: Path, native: bool) -> None:
    cv2 = pytest.importorskip("cv2")
    cells, boxes = (3, 4), 4
    count = cells[0] * cells[1] * boxes
    inputs: dict[str, Any] = {
        "features": np.zeros((1, 2, *cells), np.float32),
        "image": np.zeros((1, 3, 30, 40), np.float32),
        "location": RNG.standard_normal((1, count * 4)).astype(np.float32),
        "scores": RNG.permutation(count * 3).reshape(1, -1).astype(np.float32) / (count * 3),
    }
    (tmp_path / "net.prototxt").write_text(networks.prototxt(SSD, **{n: a.shape for n, a in inputs.items()}))
    found = networks.run(tmp_path / "net.prototxt", inputs, native=native)["y"]
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"))
    for name, values in inputs.items():
        net.setInput(values, name)
    expected = net.forward()
    assert found.shape == expected.shape
    # OpenCV orders the rows of an image in its own way.
    ours, theirs = (rows.reshape(-1, 7)[np.lexsort(rows.reshape(-1, 7).T[[2, 1]])] for rows in (found, expected))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def away(value: float) -> int:
    """C's round."""
    return floor(value + 0.5) if value >= 0 else ceil(value - 0.5)


def roi_pool(x: Any, rois: Any, size: int, scale: float) -> Any:
    out = np.zeros((len(rois), x.shape[1], size, size))
    for r, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (away(float(c) * scale) for c in corners)
        high, wide = max(y2 - y1 + 1, 1) / size, max(x2 - x1 + 1, 1) / size
        for i in range(size):
            for j in range(size):
                rows = [h for h in range(floor(i * high) + y1, ceil((i + 1) * high) + y1) if 0 <= h < x.shape[2]]
                columns = [w for w in range(floor(j * wide) + x1, ceil((j + 1) * wide) + x1) if 0 <= w < x.shape[3]]
                for h in rows:
                    for w in columns:
                        value = x[int(image), :, h, w]
                        first = h == rows[0] and w == columns[0]
                        out[r, :, i, j] = value if first else np.maximum(out[r, :, i, j], value)
    return out


def test_roi_pooling(networks: ModuleType, tmp_path: Path) -> None:
    text = """layer { name: "pool" type: "ROIPooling" bottom: "x" bottom: "rois" top: "y"
              roi_pooling_param { pooled_w: 3 pooled_h: 3 spatial_scale: 0.25 } }"""
    x = RNG.standard_normal((2, 3, 8, 9)).astype(np.float32)
    rois = np.array([[0, 0, 0, 35, 31], [1, 10, 6, 22, 30], [0, 30, 28, 60, 50]], np.float32)
    (tmp_path / "net.prototxt").write_text(networks.prototxt(text, x=x.shape, rois=rois.shape))
    found = networks.run(tmp_path / "net.prototxt", {"x": x, "rois": rois})["y"]
    np.testing.assert_allclose(found, roi_pool(x.astype(float), rois, 3, 0.25), rtol=1e-6)


def test_roi_align_is_that_of_onnx(networks: ModuleType, tmp_path: Path) -> None:
    onnxruntime, helper = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx.helper")
    text = """layer { name: "align" type: "ROIAlign" bottom: "x" bottom: "rois" top: "y"
              roi_align_param { pooled_w: 3 pooled_h: 2 spatial_scale: 0.25 sampling_ratio: 2 } }"""
    x = RNG.standard_normal((2, 3, 8, 9)).astype(np.float32)
    rois = np.array([[0, 0, 0, 35, 31], [1, 10, 6, 22, 30], [0, 30, 28, 60, 50], [1, 9, 9, 9, 9]], np.float32)
    (tmp_path / "net.prototxt").write_text(networks.prototxt(text, x=x.shape, rois=rois.shape))
    found = networks.run(tmp_path / "net.prototxt", {"x": x, "rois": rois})["y"]
    shapes = {"x": x.shape, "corners": (4, 4), "images": (4,), "y": (4, 3, 2, 3)}
    infos = [helper.make_tensor_value_info(n, 7 if n == "images" else 1, s) for n, s in shapes.items()]
    node = helper.make_node("RoiAlign", ["x", "corners", "images"], ["y"], output_height=2, output_width=3,
                            sampling_ratio=2, spatial_scale=0.25, coordinate_transformation_mode="output_half_pixel")  # fmt: skip
    model = helper.make_model(helper.make_graph([node], "g", infos[:3], infos[3:]), ir_version=8,
                              opset_imports=[helper.make_opsetid("", 16)])  # fmt: skip
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"x": x, "corners": rois[:, 1:].copy(), "images": rois[:, 0].astype(np.int64)}
    np.testing.assert_allclose(found, session.run(None, feeds)[0], rtol=1e-5, atol=1e-6)


def test_prior_boxes_are_constants(networks: ModuleType, tmp_path: Path) -> None:
    text = PRIORS + """layer { name: "more" type: "Power" bottom: "priors" top: "y" power_param { scale: 3 } }"""
    inputs: dict[str, Any] = {
        "features": np.zeros((1, 2, 3, 4), np.float32),
        "image": np.zeros((1, 3, 30, 40), np.float32),
    }
    (tmp_path / "net.prototxt").write_text(networks.prototxt(text, **{n: a.shape for n, a in inputs.items()}))
    network = networks.optimized(tmp_path / "net.prototxt")
    assert not network.layers or [layer.kind for layer in network.layers] == ["Identity"]


def test_psroi_pooling_takes_the_channels_of_each_part(networks: ModuleType, tmp_path: Path) -> None:
    text = """layer { name: "pool" type: "PSROIPooling" bottom: "x" bottom: "rois" top: "y"
              psroi_pooling_param { output_dim: 2 group_size: 2 spatial_scale: 1 } }"""
    x = RNG.standard_normal((1, 8, 4, 6)).astype(np.float32)
    rois = np.array([[0, 0, 0, 5, 3]], np.float32)  # the whole image: parts of 2 x 3
    (tmp_path / "net.prototxt").write_text(networks.prototxt(text, x=x.shape, rois=rois.shape))
    found = networks.run(tmp_path / "net.prototxt", {"x": x, "rois": rois})["y"]
    expected = [[[x[0, c * 4 + i * 2 + j, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].mean() for j in (0, 1)] for i in (0, 1)]
                for c in (0, 1)]  # fmt: skip
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def propose(scores: Any, shifts: Any, image: Any, least: int, after: int) -> Any:
    """Faster R-CNN's proposal layer, box by box. Its nine anchors are the published ones."""
    anchors = [(-84, -40, 99, 55), (-176, -88, 191, 103), (-360, -184, 375, 199), (-56, -56, 71, 71),
               (-120, -120, 135, 135), (-248, -248, 263, 263), (-36, -80, 51, 95), (-80, -168, 95, 183),
               (-168, -344, 183, 359)]  # fmt: skip
    boxes = []
    for a, (x1, y1, x2, y2) in enumerate(anchors):
        for i in range(scores.shape[2]):
            for j in range(scores.shape[3]):
                dx, dy, dw, dh = shifts[0, 4 * a : 4 * a + 4, i, j]
                w, h = x2 - x1 + 1, y2 - y1 + 1
                cx, cy = x1 + 16 * j + w / 2 + dx * w, y1 + 16 * i + h / 2 + dy * h
                w, h = np.exp(dw) * w, np.exp(dh) * h
                limits = np.array([image[0, 1], image[0, 0]] * 2) - 1
                box = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, limits)
                if (box[2:] - box[:2] + 1 >= least * image[0, 2]).all():
                    boxes.append((scores[0, 9 + a, i, j], box))
    boxes.sort(key=lambda item: -item[0])
    kept: list[Any] = []
    for _, box in boxes:
        if len(kept) < after and all(overlap(box, other) <= 0.7 for other in kept):
            kept.append(box)
    return np.array(kept)


def overlap(a: Any, b: Any) -> float:
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1, 0)
    areas = [np.prod(box[2:] - box[:2] + 1) for box in (a, b)]
    return float(np.prod(sides) / (sum(areas) - np.prod(sides)))


def test_proposals(networks: ModuleType, tmp_path: Path) -> None:
    text = """layer { name: "proposal" type: "Python" bottom: "scores" bottom: "shifts" bottom: "image" top: "rois"
              python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "'feat_stride': 16" } }"""
    inputs: dict[str, Any] = {
        "scores": RNG.permutation(18 * 5 * 6).reshape(1, 18, 5, 6).astype(np.float32) / 540,
        "shifts": 0.1 * RNG.standard_normal((1, 36, 5, 6)).astype(np.float32),
        "image": np.array([[80, 96, 1]], np.float32),
    }
    (tmp_path / "net.prototxt").write_text(networks.prototxt(text, **{n: a.shape for n, a in inputs.items()}))
    found = networks.run(tmp_path / "net.prototxt", inputs)["rois"]
    scores, shifts, image = (a.astype(float) for a in inputs.values())
    expected = propose(scores, shifts, image, 16, 300)
    assert (found[:, 0] == 0).all()
    np.testing.assert_allclose(found[:, 1:], expected, rtol=1e-5, atol=1e-3)
