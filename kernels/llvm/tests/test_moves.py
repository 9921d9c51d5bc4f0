"""Layers that move elements against their references: copies, picked rows, resized images, on what can run here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llvm_judging import REGISTRY, TARGETS, compiles, judge, problem_of
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import ExecutionError, Problem, symbol
from tenonrt.plugins.registry import using
from tenonrt_kernel_llvm import target as targets
from tenonrt_kernel_llvm.copies import CopyKernel
from tenonrt_kernel_llvm.gather import GatherKernel
from tenonrt_kernel_llvm.kernel import LlvmKernel
from tenonrt_kernel_llvm.resize import ResizeKernel

_QUICK = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
_DTYPES = st.sampled_from(["float32", "int64", "bool", "float16"])


def _posed(kind: str, inputs: Sequence[Any], attrs: dict[str, Any] | None = None, dtype: str = "float32") -> Problem:
    """One layer; tuples are shapes of computed inputs, arrays are constants."""

    def define(network: tenonrt.Network) -> Any:
        operands = [
            network.add_input(f"x{i}", shape, dtype) if isinstance(shape, tuple) else shape
            for i, shape in enumerate(inputs)
        ]
        return network.add(kind, operands, attrs or {})[0]

    return problem_of(define)


def _judge(kernel: LlvmKernel, problem: Problem, sizes: tuple[int, ...] = (1,)) -> list[str]:
    return [key for target in TARGETS for key in judge(kernel, problem, target, sizes)]


@_QUICK
@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.randoms(use_true_random=False), _DTYPES)
def test_any_permutation(shape: list[int], random: Any, dtype: str) -> None:
    order = list(range(len(shape)))
    random.shuffle(order)
    _judge(CopyKernel(), _posed("Transpose", [tuple(shape)], {"permutation": tuple(order)}, dtype))


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((1, 128, 12, 64), (0, 2, 3, 1)),
        ((1, 197, 3, 64), (0, 2, 1, 3)),
        ((33, 1000), (1, 0)),
        ((2, 3, 57, 57), (0, 2, 3, 1)),
        ((1, 120, 120, 3), (0, 3, 1, 2)),
        ((1500, 20), (1, 0)),
    ],
)
def test_large_permutations(shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    _judge(CopyKernel(), _posed("Transpose", [shape], {"permutation": order}))


@_QUICK
@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(0, 3), _DTYPES)
def test_any_concatenation(lengths: list[int], axis: int, dtype: str) -> None:
    shapes = [tuple(length if i == axis else 3 + i for i in range(4)) for length in lengths]
    keys = _judge(CopyKernel(), _posed("Concatenation", shapes, {"axis": axis}, dtype))
    whole = axis != 1 or all(length % 16 == 0 for length in lengths[:-1])
    assert any("16c" in key for key in keys) == (whole and dtype == "float32")


def test_constants_are_joined_too() -> None:
    values = np.arange(2 * 32 * 5 * 5, dtype=np.float32).reshape(2, 32, 5, 5)
    _judge(CopyKernel(), _posed("Concatenation", [(2, 16, 5, 5), values], {"axis": 1}))


def test_a_batch_given_at_run_time() -> None:
    batch = symbol("batch", 1, 8)
    problem = _posed("Concatenation", [(batch, 16, 5, 7), (batch, 32, 5, 7)], {"axis": 1})
    assert CopyKernel().supports(problem).runtime_symbols == "all"
    assert len(set(_judge(CopyKernel(), problem, (1, 3)))) == 2
    _judge(CopyKernel(), _posed("Transpose", [(batch, 17, 33)], {"permutation": (0, 2, 1)}), (1, 3))
    first = _posed("Concatenation", [(batch, 5), (3, 5)], {"axis": 0})
    assert CopyKernel().supports(first).runtime_symbols == ()


@_QUICK
@given(
    start=st.integers(-12, 12), step=st.sampled_from([-3, -1, 1, 2, 5]), axis=st.integers(0, 3), dtype=_DTYPES
)  # fmt: skip
def test_any_slice(start: int, step: int, axis: int, dtype: str) -> None:
    end = 2**31 - 1 if step > 0 else -(2**31)
    vectors = [np.array([v], np.int64) for v in (start, end, axis, step)]
    shape = (3, 33, 9, 11)
    if len(range(shape[axis])[slice(max(start, -shape[axis]), None, step)]):
        _judge(CopyKernel(), _posed("Slice", [shape, *vectors], {}, dtype))


@pytest.mark.parametrize(("start", "end", "blocked"), [(16, 48, True), (32, 99, True), (8, 24, False), (0, 20, False)])
def test_slices_of_whole_blocks(start: int, end: int, blocked: bool) -> None:
    vectors = [np.array([v], np.int64) for v in (start, end, 1)]
    keys = _judge(CopyKernel(), _posed("Slice", [(2, 50, 6, 5), *vectors]))
    assert any("16c" in key for key in keys) == blocked


@_QUICK
@given(pads=st.lists(st.integers(-2, 4), min_size=8, max_size=8), value=st.floats(-9, 9, width=32), dtype=_DTYPES)
def test_any_padding(pads: list[int], value: float, dtype: str) -> None:
    fill = np.array(value).astype(dtype)
    _judge(CopyKernel(), _posed("Padding", [(4, 16, 5, 9), np.array(pads, np.int64), fill], {}, dtype))


def test_padding_of_rows_and_columns_in_blocks() -> None:
    pads = np.array([0, 0, 1, 2, 0, 0, 3, 1], np.int64)
    keys = _judge(CopyKernel(), _posed("Padding", [(2, 19, 7, 9), pads]))
    assert any("16c" in key for key in keys)
    ragged = _judge(CopyKernel(), _posed("Padding", [(2, 19, 7, 9), pads, np.float32(2)]))
    assert not any("16c" in key for key in ragged)


def test_repeated_axes() -> None:
    _judge(CopyKernel(), _posed("Expand", [(3, 1, 7), np.array([3, 65, 7], np.int64)]))
    _judge(CopyKernel(), _posed("Expand", [(3, 7, 1), np.array([3, 7, 100], np.int64)], {}, "bool"))
    _judge(CopyKernel(), _posed("Tile", [(3, 5, 2), np.array([2, 3, 4], np.int64)]))
    _judge(CopyKernel(), _posed("DepthToSpace", [(2, 64, 6, 7)], {"block_size": 2}))
    _judge(CopyKernel(), _posed("SpaceToDepth", [(2, 4, 6, 8)], {"block_size": 2}))


def test_long_rows_are_cut() -> None:
    for length in (100_003, 1 << 17):
        _judge(CopyKernel(), _posed("Concatenation", [(2, length), (2, 17)], {"axis": 1}))


def test_other_paddings_are_refused() -> None:
    problem = _posed("Padding", [(3, 5), np.array([1, 2, 0, 3], np.int64)], {"mode": "reflect"})
    assert "reflect" in CopyKernel().supports(problem).why


@_QUICK
@given(
    shape=st.lists(st.integers(1, 20), min_size=1, max_size=3), axis=st.integers(0, 2),
    count=st.integers(1, 90), wide=st.booleans(),
)  # fmt: skip
def test_any_gather(shape: list[int], axis: int, count: int, wide: bool) -> None:
    axis %= len(shape)
    size = shape[axis]
    indices = np.random.default_rng(count).integers(-size, size, (count,)).astype(np.int64 if wide else np.int32)
    _judge(GatherKernel(), _posed("Gather", [tuple(shape), indices], {"axis": axis}))


def test_gather_by_computed_indices() -> None:
    table = np.random.default_rng(0).standard_normal((50, 96)).astype(np.float32)
    batch = symbol("batch", 1, 8)

    def define(network: tenonrt.Network) -> Any:
        return network.add("Gather", [table, network.add_input("i", (batch, 24), "int64")], {"axis": 0})[0]

    _judge(GatherKernel(), problem_of(define), (1, 3))


def test_vectors_of_indices() -> None:
    grid = np.stack(np.broadcast_arrays(np.zeros((1, 1, 1, 128), np.int64), np.arange(128)), -1)
    _judge(GatherKernel(), _posed("GatherND", [(1, 128), grid], {}, "bool"))
    _judge(GatherKernel(), _posed("GatherND", [(3, 5, 7), np.full((3, 2, 1), -2, np.int32)], {"batch_dims": 1}))


def test_an_index_outside_fails_the_step() -> None:
    problem, kernel, device = _posed("Gather", [(4, 3), np.array([1, 4])], {}), GatherKernel(), REGISTRY.device("cpu")
    with using(REGISTRY):
        (tactic,) = kernel.tactics(problem)
        code = kernel.generate(problem, tactic, targets.host_target())
        layer = REGISTRY.layer_type
        inside = Sample.draw(_posed("Gather", [(5, 3), np.array([1, 4])], {}), layer, 1, 0)
        launch = bind_sample(kernel, code, inside, device).launch
        with pytest.raises(ExecutionError):
            device.bind([launch], 1).run(None)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    "transformation",
    ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"],
)
@pytest.mark.parametrize("size", [(14, 26), (5, 30), (7, 20), (1, 1)])
def test_any_size(mode: str, transformation: str, size: tuple[int, int]) -> None:
    attrs = {"mode": mode, "coordinate_transformation": transformation}
    problem = _posed("Resize", [(2, 19, 7, 13), None, None, np.array([2, 19, *size], np.int64)], attrs)
    assert len(set(judge(ResizeKernel(), problem, TARGETS[0]))) == 2


def test_twice_the_size_is_a_copy() -> None:
    batch = symbol("batch", 1, 8)
    attrs = {"mode": "nearest", "coordinate_transformation": "asymmetric", "nearest_rounding": "floor"}
    scales = np.array([1, 1, 2, 2], np.float32)
    problem = _posed("Resize", [(batch, 32, 13, 13), None, scales], attrs)
    _judge(ResizeKernel(), problem, (1, 3))
    linear = _posed("Resize", [(batch, 20, 13, 9), None, scales], {"mode": "linear"})
    _judge(ResizeKernel(), linear, (1, 3))
    cubic = _posed("Resize", [(1, 32, 13, 13), None, scales], {"mode": "cubic"})
    assert not ResizeKernel().supports(cubic).ok


@pytest.mark.parametrize("target", targets.TARGETS.values(), ids=lambda target: target.name)
def test_every_target_compiles(target: targets.Target) -> None:
    scales = np.array([1, 1, 2, 2], np.float32)
    compiles(ResizeKernel(), _posed("Resize", [(1, 32, 13, 13), None, scales], {"mode": "linear"}), target)
    for dtype in ("float32", "int64", "bool", "float16"):
        compiles(CopyKernel(), _posed("Transpose", [(2, 65, 130)], {"permutation": (0, 2, 1)}, dtype), target)
    compiles(CopyKernel(), _posed("Concatenation", [(2, 16, 9, 9), (2, 32, 9, 9)], {"axis": 1}), target)
    compiles(GatherKernel(), _posed("Gather", [(9, 40), np.array([1, -2], np.int64)]), target)
