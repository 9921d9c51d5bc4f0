"""Quantized convolutions as problems: their parts, how their rows are gathered, and what follows the sums."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tenonrt.contracts import Array, ByteRegion, Problem

from tenonrt_kernel_nvrtc.product_problem import Geometry
from tenonrt_kernel_nvrtc.windows import windows


def geometry_of(problem: Problem) -> Geometry:
    """How rows are gathered."""
    region = ByteRegion.of(problem)
    image, filters = (problem.types[layer.inputs[0]].concrete({}) for layer in (region.source, region.weights))
    rows, columns = windows(problem, filters[2:], region.convolution)
    return Geometry(image[0], rows, columns, image[1])


def finishing(region: ByteRegion, given: Mapping[int, Array], columns: int) -> Array:
    """Factors and offsets of the columns, the factor of what is added, the limit; in steps of the result."""

    def number(scale: int) -> float:
        return float(given[scale].reshape(()))

    step = 1.0 if region.quantize is None else number(region.quantize.inputs[1])
    scales = given[region.weights.inputs[1]].reshape(-1).astype(np.float64) * number(region.source.inputs[1]) / step
    offsets = np.zeros(columns) if region.bias < 0 else given[region.bias].reshape(-1).astype(np.float64) / step
    added = 0.0 if region.added is None else number(region.added.inputs[1]) / step
    ends = [added, (region.limit or 0.0) / step]
    return np.concatenate([np.broadcast_to(scales, columns), offsets, ends]).astype(np.float32)
