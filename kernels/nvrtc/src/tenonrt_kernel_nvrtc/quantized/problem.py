"""Quantized products as problems: their parts, how their rows are gathered, and what follows the sums.

A problem has one product, or siblings that read one tensor and whose results are finished alike: their columns lie
beside each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tenonrt.contracts import BYTES, Array, ByteRegion, Problem, byte_problems, read_byte_region

from tenonrt_kernel_nvrtc.curves import CURVES
from tenonrt_kernel_nvrtc.products.problem import Geometry, rows_of
from tenonrt_kernel_nvrtc.windows import windows


def read_regions(problem: Problem) -> list[ByteRegion] | str:
    """The regions of a problem's results, or why it has none that are computed here."""
    problems = byte_problems(problem)
    if isinstance(problems, str):
        return problems
    found = list[ByteRegion]()
    for part in problems:
        region = read_byte_region(part, CURVES, BYTES)
        if isinstance(region, str):
            return region
        found.append(region)
    return found if len(found) == 1 else _siblings(problem, found) or found


def regions_of(problem: Problem) -> list[ByteRegion]:
    """Those of a problem that was found to have some."""
    found = read_regions(problem)
    assert not isinstance(found, str), found
    return found


def _siblings(problem: Problem, regions: Sequence[ByteRegion]) -> str:
    """Why regions cannot be computed as one; empty when they can."""
    first, types = regions[0], problem.types
    for region in regions:
        if region.source.inputs[:1] != first.source.inputs[:1] or region.product.attrs != first.product.attrs:
            return "products that do not read alike"
        if types[region.weights.inputs[0]].shape[1:] != types[first.weights.inputs[0]].shape[1:]:
            return "products of other windows or channels"
        if region.added is not None or region.limit is not None or region.curve is not None:
            return "siblings with sums, limits or curves"
        if region.rectified != first.rectified or (region.quantize is None) != (first.quantize is None):
            return "siblings that are finished in several ways"
    return "" if len({types[i].dtype for i in problem.outputs}) == 1 else "results of several types"


def columns_of(problem: Problem) -> list[int]:
    """Of each result."""
    return [int(problem.types[r.weights.inputs[0]].concrete({})[0]) for r in regions_of(problem)]


def geometry_of(problem: Problem) -> Geometry:
    """How rows are gathered."""
    region = regions_of(problem)[0]
    image, filters = (problem.types[layer.inputs[0]].concrete({}) for layer in (region.source, region.weights))
    if region.product.kind == "FullyConnected":
        return rows_of(image)
    rows, columns = windows(problem, filters[2:], region.product)
    return Geometry(image[0], rows, columns, image[1])


def finishing(problem: Problem, given: Mapping[int, Array]) -> Array:
    """Factors and offsets of the columns, the factor of what is added, the limit; in steps of the result.

    Before an activation that is a curve they are real, and its result's inverse step comes last.
    """
    regions = regions_of(problem)
    parts = [_factors(r, given, count) for r, count in zip(regions, columns_of(problem), strict=True)]
    region, (step, result) = regions[0], _steps(regions[0], given)
    added = 0.0 if region.added is None else _number(given, region.added.inputs[1]) / step
    ends = [added, (region.limit or 0.0) / step, *([] if region.curve is None else [1.0 / result])]
    return np.concatenate([*(f for f, _ in parts), *(o for _, o in parts), ends]).astype(np.float32)


def _number(given: Mapping[int, Array], scale: int) -> float:
    return float(given[scale].reshape(()))


def _steps(region: ByteRegion, given: Mapping[int, Array]) -> tuple[float, float]:
    """What sums are in steps of, and the step of the result."""
    result = 1.0 if region.quantize is None else _number(given, region.quantize.inputs[1])
    return (result if region.curve is None else 1.0), result


def _factors(region: ByteRegion, given: Mapping[int, Array], columns: int) -> tuple[Array, Array]:
    step, _ = _steps(region, given)
    scales = given[region.weights.inputs[1]].reshape(-1).astype(np.float64)
    offsets = np.zeros(columns) if region.bias < 0 else given[region.bias].reshape(-1).astype(np.float64) / step
    return np.broadcast_to(scales * _number(given, region.source.inputs[1]) / step, columns), offsets
