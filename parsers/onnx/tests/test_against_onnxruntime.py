"""Operators whose layers are younger than onnx's cases for them are thorough: random ones against onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenonrt import PluginSet, Registry

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import helper  # noqa: E402 - needs onnx

Array = np.ndarray[Any, Any]
# References alone: what the operators mean is asked here, and no kernel is compiled.
REGISTRY = Registry(
    PluginSet(deny=("tenonrt-kernel-llvm", "tenonrt-kernel-numpy:cpu/[CF]*", "tenonrt-layer-onnx-reference"))
)
several = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
sizes = st.integers(1, 6)
seeds = st.integers(0, 2**31 - 1)


def compare(
    kind: str, inputs: Sequence[Array | None], version: int = 20, tolerance: float = 2e-5, **attrs: Any
) -> None:
    """Build a model of one node, inputs that are None left out, and run it in both."""
    names = [f"x{i}" if given is not None else "" for i, given in enumerate(inputs)]
    feed = {name: given for name, given in zip(names, inputs, strict=True) if given is not None}
    graph = helper.make_graph(
        [helper.make_node(kind, names, ["y"], "node", **attrs)],
        "graph",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feed.items()],
        [onnx.ValueInfoProto(name="y")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(model.SerializeToString())
        network = tenonrt.parse(path, registry=REGISTRY)
    found = tenonrt.compile(network, optimization_level=0).create_context().execute(feed)["y"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feed)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@several
@given(
    shape=st.tuples(sizes, sizes, sizes, sizes), grid=st.tuples(sizes, sizes), seed=seeds, align=st.booleans(),
    mode=st.sampled_from(["linear", "nearest", "cubic"]), padding=st.sampled_from(["zeros", "border", "reflection"]),
)  # fmt: skip
def test_grid_sample(
    shape: tuple[int, ...], grid: tuple[int, int], seed: int, align: bool, mode: str, padding: str
) -> None:
    """Where cubic samples lie outside of a border, onnxruntime does otherwise than onnx's own reference."""
    if padding == "reflection" and align and min(shape[2:]) == 1:
        return  # the reflection at a single pixel with itself has no period
    furthest = 1.0 if (mode, padding) == ("cubic", "border") else 1.4
    places = np.random.default_rng(seed).uniform(-furthest, furthest, (shape[0], *grid, 2))
    compare("GridSample", [normal(seed, *shape), places.astype(np.float32)], mode=mode, padding_mode=padding,
            align_corners=int(align), tolerance=2e-4)  # fmt: skip


@several
@given(
    images=st.integers(1, 2), boxes=st.integers(1, 9), classes=st.integers(1, 3), seed=seeds,
    most=st.none() | st.integers(0, 5), overlap=st.none() | st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    least=st.none() | st.sampled_from([-1.0, 0.0, 0.5]), centered=st.booleans(),
)  # fmt: skip
def test_non_max_suppression(
    images: int, boxes: int, classes: int, seed: int, most: int | None, overlap: float | None, least: float | None,
    centered: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    corners = rng.random((images, boxes, 2, 2)).astype(np.float32)
    if not centered:  # corners in any order, as the operator allows
        corners = rng.permuted(corners, axis=2)
    limits = [None if most is None else np.array([most]), *(
        None if value is None else np.array([value], np.float32) for value in (overlap, least))]  # fmt: skip
    while limits and limits[-1] is None:
        limits.pop()
    scores = rng.random((images, classes, boxes)).astype(np.float32)
    compare("NonMaxSuppression", [corners.reshape(images, boxes, 4), scores, *limits], center_point_box=int(centered))


EQUATIONS = (
    "ij,jk->ik", "bij,bjk->bik", "ij->ji", "ii->i", "ij->", "i,j->ij", "...ij,...jk->...ik", "ij,ij->i",
    "bhqd,bhkd->bhqk", "ijk,jil->kl", "ij,jk", "i,i->", "...ii->...i", "ij,jk,kl->il",
)  # fmt: skip


@several
@given(equation=st.sampled_from(EQUATIONS), extents=st.lists(st.integers(1, 4), min_size=26, max_size=26), seed=seeds)
def test_einsum(equation: str, extents: list[int], seed: int) -> None:
    terms = equation.partition("->")[0].split(",")

    def shape(term: str) -> list[int]:
        return [extents[ord(c) - ord("a")] for c in term.replace("...", "yz")]

    compare("Einsum", [normal(seed + i, *shape(term)) for i, term in enumerate(terms)], equation=equation)


@several
@given(shape=st.tuples(sizes, sizes, sizes), seed=seeds, batch_first=st.booleans())
def test_reverse_sequence(shape: tuple[int, ...], seed: int, batch_first: bool) -> None:
    batch, time = (0, 1) if batch_first else (1, 0)
    lengths = np.random.default_rng(seed).integers(0, shape[time] + 1, shape[batch])
    compare("ReverseSequence", [normal(seed, *shape), lengths], batch_axis=batch, time_axis=time)


@several
@given(
    shape=st.lists(st.integers(0, 4), max_size=3), seed=seeds,
    types=st.sampled_from([(np.float32, 6), (np.float32, 12), (np.int64, 11), (np.uint8, 3), (np.float64, 13)]),
)  # fmt: skip
def test_bit_cast(shape: list[int], seed: int, types: tuple[type, int]) -> None:
    """onnxruntime has no kernel for it: NumPy's view of the same bytes says what it means."""
    source, target = types
    values = np.random.default_rng(seed).integers(0, 250, shape).astype(source)
    wanted = values.view(helper.tensor_dtype_to_np_dtype(target))
    graph = helper.make_graph(
        [helper.make_node("BitCast", ["x"], ["y"], to=target)], "graph",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(values.dtype), shape)],
        [onnx.ValueInfoProto(name="y")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 26)], ir_version=10)
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(model.SerializeToString())
        engine = tenonrt.compile(tenonrt.parse(path, registry=REGISTRY), optimization_level=0)
    found = engine.create_context().execute({"x": values})["y"]
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@several
@given(shape=st.lists(sizes, min_size=1, max_size=3), seed=seeds, axis=st.integers(-3, 2), exclusive=st.booleans(),
       reverse=st.booleans())  # fmt: skip
def test_running_sums_and_products(shape: list[int], seed: int, axis: int, exclusive: bool, reverse: bool) -> None:
    """onnxruntime has sums; products are those of NumPy, moved by one place where they leave out their own term."""
    axis = max(-len(shape), min(axis, len(shape) - 1))
    x, flags = normal(seed, *shape), {"exclusive": int(exclusive), "reverse": int(reverse)}
    compare("CumSum", [x, np.array(axis)], **flags)
    network = tenonrt.Network("products", REGISTRY)
    source = network.add_input("x", shape)
    product = network.add_cumulative_product(source, np.array(axis), exclusive=exclusive, reverse=reverse)
    network.mark_output(product, "y")
    found = tenonrt.compile(network, optimization_level=0).create_context().execute({"x": x})["y"]
    turned = np.flip(x, axis) if reverse else x
    wanted = np.cumprod(turned.astype(np.float64), axis)
    if exclusive:
        ones = np.ones_like(wanted.take([0], axis))
        wanted = np.concatenate([ones, wanted.take(range(shape[axis] - 1), axis)], axis)
    np.testing.assert_allclose(found, np.flip(wanted, axis) if reverse else wanted, rtol=1e-5)


@several
@given(
    shape=st.tuples(st.integers(1, 2), sizes, st.integers(2, 9), st.integers(2, 9)), count=st.integers(0, 4),
    seed=seeds, pooled=st.tuples(st.integers(1, 3), st.integers(1, 3)), scale=st.sampled_from([0.25, 1.0, 2.0]),
    samples=st.integers(0, 3), half=st.booleans(),
)  # fmt: skip
def test_roi_align(
    shape: tuple[int, ...], count: int, seed: int, pooled: tuple[int, int], scale: float, samples: int, half: bool
) -> None:
    """Means; of the largest onnxruntime takes something else than onnx's own cases do."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(-2, max(shape[2:]), (count, 2)) / scale
    regions = np.concatenate([low, low + rng.uniform(0.1, max(shape[2:]), (count, 2)) / scale], 1).astype(np.float32)
    attrs = {"output_height": pooled[0], "output_width": pooled[1], "spatial_scale": scale, "sampling_ratio": samples}
    numbers = rng.integers(0, shape[0], count)
    place = "half_pixel" if half else "output_half_pixel"
    compare("RoiAlign", [normal(seed, *shape), regions, numbers], coordinate_transformation_mode=place, tolerance=1e-4,
            **attrs)  # fmt: skip
    compare("RoiAlign", [normal(seed, *shape), regions, numbers], version=10, tolerance=1e-4, **attrs)


@several
@given(shape=st.tuples(st.integers(1, 2), sizes, sizes, sizes), count=st.integers(0, 4), seed=seeds,
       pooled=st.tuples(st.integers(1, 3), st.integers(1, 3)), scale=st.sampled_from([0.5, 1.0]))  # fmt: skip
def test_max_roi_pool(shape: tuple[int, ...], count: int, seed: int, pooled: tuple[int, int], scale: float) -> None:
    """Corners off the middle between pixels, where rounding could go either way."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, max(shape[2:]), (count, 2)) + 0.2
    high = low + rng.integers(0, max(shape[2:]), (count, 2))
    regions = np.concatenate([rng.integers(0, shape[0], (count, 1)), low / scale, high / scale], 1).astype(np.float32)
    compare("MaxRoiPool", [normal(seed, *shape), regions], pooled_shape=pooled, spatial_scale=scale)


@several
@given(
    batch=st.integers(1, 2), groups=st.integers(1, 2), offset_groups=st.integers(1, 2), plane=st.tuples(sizes, sizes),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.integers(1, 2), dilation=st.integers(1, 2),
    seed=seeds, bias=st.booleans(), mask=st.booleans(),
)  # fmt: skip
def test_deform_conv(
    batch: int, groups: int, offset_groups: int, plane: tuple[int, int], window: tuple[int, int], stride: int,
    dilation: int, seed: int, bias: bool, mask: bool,
) -> None:  # fmt: skip
    channels, outputs, pads = 4, 2 * groups, 2
    places = [(n + 2 * pads - (w - 1) * dilation - 1) // stride + 1 for n, w in zip(plane, window, strict=True)]
    taps = offset_groups * window[0] * window[1]
    inputs = [
        normal(seed, batch, channels, *plane),
        normal(seed + 1, outputs, channels // groups, *window),
        1.5 * normal(seed + 2, batch, 2 * taps, *places),
        normal(seed + 3, outputs) if bias else None,
        normal(seed + 4, batch, taps, *places) if mask else None,
    ]
    while inputs[-1] is None:
        inputs.pop()
    compare("DeformConv", inputs, version=22, tolerance=2e-4, group=groups, offset_group=offset_groups, pads=[pads] * 4,
            strides=[stride] * 2, dilations=[dilation] * 2, kernel_shape=window)  # fmt: skip
