"""A detector as TensorRT's samples prepared it, with custom operations, against NumPy."""

from __future__ import annotations

import warnings
from random import Random
from typing import Any

import numpy as np
import pytest
from tenonrt import Network, ParseError, Registry
from tenonrt_parser_uff.parser import UffParser
from uff_bytes import File
from uff_damage import mutated

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(4)
MAPS, RATIOS, CLASSES = (4, 2), [1.0, 2.0, 0.5], 3
PER_CELL = (3, len(RATIOS) + 1)
KERNELS = {f"{what}{i}": rng.standard_normal((1, 1, 3 if i == 0 else 6, count * PER_CELL[i])).astype(np.float32)
           for i in range(2) for what, count in (("loc", 4), ("conf", CLASSES))}  # fmt: skip
DOWN = rng.standard_normal((2, 2, 3, 6)).astype(np.float32)
IMAGE = rng.standard_normal((1, 4, 4, 3)).astype(np.float32)
NEW = {
    "anchors": ("_GridAnchor_TRT", {"minSize": 0.2, "maxSize": 0.95, "aspectRatios": RATIOS,
                                    "variance": [0.1, 0.1, 0.2, 0.2], "featureMapShapes": list(MAPS), "numLayers": 2}),
    "join": "_FlattenConcat_TRT",
    "nms": ("_NMS_TRT", {"shareLocation": 1, "varianceEncodedInTarget": 0, "backgroundLabelId": 0,
                         "confidenceThreshold": 0.3, "nmsThreshold": 0.6, "topK": 100, "keepTopK": 20,
                         "numClasses": CLASSES, "inputOrder": [0, 2, 1], "confSigmoid": 1, "isNormalized": 1}),
}  # fmt: skip
OLD = {
    "anchors": ("_PriorBox", {"minScale": 0.2, "maxScale": 0.95, "aspectRatios": RATIOS,
                              "layerVariances": [0.1, 0.1, 0.2, 0.2], "featureMapShapes": list(MAPS), "numLayers": 2}),
    "join": None,
    "nms": ("_NMS", {"scoreThreshold": 0.3, "iouThreshold": 0.6, "maxDetectionsPerClass": 100,
                     "maxTotalDetections": 20, "numClasses": CLASSES, "scoreConverter": "SIGMOID"}),
}  # fmt: skip


def detector(words: dict[str, Any]) -> bytes:
    """Two feature maps. The input has the importer's order, which the convolutions do not have."""
    file = File("tensorflow_extension", "custom")
    file.input("Input", [1, 3, 4, 4])
    file.const("down", DOWN)
    file.node("small", "Conv", ["Input", "down"], inputs_orders=["N+C", "+CK"], strides=[2, 2])
    for what in ("loc", "conf"):
        for i, features in enumerate(("Input", "small")):
            file.const(f"{what}{i}/w", KERNELS[f"{what}{i}"])
            file.node(f"{what}{i}", "Conv", [features, f"{what}{i}/w"], inputs_orders=["N+C", "+CK"], strides=[1, 1],
                      implicit_padding="same")  # fmt: skip
            file.const(f"{what}{i}/shape", [1, -1, 1, 4] if what == "loc" else [1, -1, CLASSES])
            file.node(f"{what}{i}/Reshape", "Reshape", [f"{what}{i}", f"{what}{i}/shape"])
        joined = words["join"] or f"_concat_box_{what}"
        file.node(f"concat_box_{what}", joined, [f"{what}0/Reshape", f"{what}1/Reshape"])
    file.node("anchors", words["anchors"][0], [], **words["anchors"][1])
    if words["join"]:
        file.node("concat_priorbox", "Concat", ["anchors"], axis=2)
    else:
        file.node("concat_priorbox", "_concat_priorbox", ["anchors"], axis=2, dtype=("dtype", "float32"))
    file.node("NMS", words["nms"][0], ["concat_box_loc", "concat_priorbox", "concat_box_conf"], **words["nms"][1])
    return file.encode("NMS")


def anchors() -> Array:
    """[boxes, 4] of (y centre, x centre, height, width): TensorFlow's multiple grid anchors."""
    found = []
    for size, pairs in zip(MAPS, ([(0.1, 1), (0.2, 2), (0.2, 0.5)],
                                  [*((0.95, r) for r in RATIOS), (np.sqrt(0.95), 1)]), strict=True):  # fmt: skip
        for row in range(size):
            for column in range(size):
                found += [[(row + 0.5) / size, (column + 0.5) / size, scale / np.sqrt(r), scale * np.sqrt(r)]
                          for scale, r in pairs]  # fmt: skip
    return np.array(found)


def overlap(a: Array, b: Array) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = np.prod(np.maximum(high - low, 0))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


def expected() -> Array:
    """Rows in order of class and falling score."""
    patches = IMAGE.reshape(2, 2, 2, 2, 3).transpose(0, 2, 1, 3, 4).astype(np.float64)  # [row, column, r, s, c]
    features = [IMAGE[0].astype(np.float64), np.einsum("hwrsc,rsck->hwk", patches, DOWN)]
    loc, conf = (np.concatenate([(features[i] @ KERNELS[f"{what}{i}"][0, 0]).reshape(-1, count) for i in range(2)])
                 for what, count in (("loc", 4), ("conf", CLASSES)))  # fmt: skip
    scores, grid = 1 / (1 + np.exp(-conf)), anchors()
    centre = loc[:, :2] * 0.1 * grid[:, 2:] + grid[:, :2]
    half = np.exp(loc[:, 2:] * 0.2) * grid[:, 2:] / 2
    boxes = np.concatenate([(centre - half)[:, ::-1], (centre + half)[:, ::-1]], 1)
    rows: list[list[float]] = []
    for label in range(1, CLASSES):
        kept: list[int] = []
        for box in np.argsort(-scores[:, label], kind="stable"):
            if scores[box, label] > 0.3 and all(overlap(boxes[box], boxes[k]) <= 0.6 for k in kept):
                kept.append(int(box))
        rows += [[0, label, scores[k, label], *boxes[k]] for k in kept]
    best = sorted(sorted(rows, key=lambda row: -row[2])[:20], key=lambda row: (row[1], -row[2]))
    return np.array(best)


@pytest.mark.parametrize("words", [NEW, OLD], ids=["names of TensorRT 5", "names of TensorRT 4"])
@pytest.mark.parametrize("registered", [False, True])
def test_detector(words: dict[str, Any], registered: bool, registry: Registry, run: Any) -> None:
    parser, network = UffParser(), Network(registry=registry)
    if registered:
        parser.register_input("Input", (3, 4, 4), "NCHW")
        parser.register_output("NMS")
    parser.parse_buffer(detector(words), network)
    found = run(network, Input=np.ascontiguousarray(IMAGE.transpose(0, 3, 1, 2)))["NMS"]
    np.testing.assert_allclose(found[0, 0], expected(), 1e-4, 1e-5)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("featureMapShapes", [2**31], "featureMapShapes"),
        ("aspectRatios", [-1.0], "aspect ratios"),
        ("minSize", "small", "'minSize' is 'small', expected a number"),
        ("variance", [0.1], "four variances"),
    ],
)
def test_anchors_that_make_no_sense(field: str, value: Any, message: str, registry: Registry) -> None:
    name, fields = NEW["anchors"]
    with pytest.raises(ParseError, match=message):
        UffParser().parse_buffer(
            detector({**NEW, "anchors": (name, {**fields, field: value})}), Network(registry=registry)
        )


def test_damaged_files(registry: Registry) -> None:
    """Nothing but ParseError; structure-aware every second time."""
    random, refused = Random(0), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(150):
            try:
                UffParser().parse_buffer(
                    mutated(detector(random.choice((NEW, OLD))), random), Network(registry=registry)
                )
            except ParseError as error:
                refused += bool(str(error).strip())
    assert refused > 75
