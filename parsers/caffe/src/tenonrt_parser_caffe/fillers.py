"""Weights for networks that come without: what Caffe's fillers draw, from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod, sqrt
from typing import Any

import numpy as np
from tenonrt.contracts import Array, ParseError

MOST = 1 << 28  # elements that are made up: 1 GiB

_ASSUMED: dict[str, Any] = {"value": 0.0, "min": 0.0, "max": 1.0, "mean": 0.0, "std": 1.0, "variance_norm": "FAN_IN"}


def generate(filler: Mapping[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """float32 values as a FillerParameter describes; `ParseError` for an unknown type, or for more than `MOST`."""
    if prod(shape) > MOST:
        raise ParseError(f"weights of shape {'x'.join(map(str, shape))} are more than can be made up")
    given = {**_ASSUMED, **{name: value for name, value in filler.items() if value is not None}}
    kind = given.get("type", "constant")
    match kind:
        case "constant":
            return np.full(shape, given["value"], np.float32)
        case "uniform":
            return _uniform(rng, given["min"], given["max"], shape)
        case "gaussian":
            return _normal(rng, given["mean"], given["std"], shape)
        case "xavier":
            bound = sqrt(3 / _fan(given["variance_norm"], shape))
            return _uniform(rng, -bound, bound, shape)
        case "msra":
            return _normal(rng, 0.0, sqrt(2 / _fan(given["variance_norm"], shape)), shape)
        case "positive_unitball":
            values = rng.random((shape[0], prod(shape[1:])), np.float32)
            return np.asarray((values / values.sum(1, keepdims=True)).reshape(shape))
        case "bilinear":
            return _bilinear(shape)
    raise ParseError(f"filler type {kind!r} is unknown")


def _uniform(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> Array:
    return rng.random(shape, np.float32) * np.float32(high - low) + np.float32(low)


def _normal(rng: np.random.Generator, mean: float, std: float, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape, np.float32) * np.float32(std) + np.float32(mean)


def _fan(norm: str, shape: tuple[int, ...]) -> float:
    """How many numbers meet in one output or input, as Caffe counts them."""
    count = prod(shape)
    into, out = count / max(shape[0] if shape else 1, 1), count / max(shape[1] if len(shape) > 1 else 1, 1)
    return max({"FAN_IN": into, "FAN_OUT": out, "AVERAGE": (into + out) / 2}[norm], 1.0)


def _bilinear(shape: tuple[int, ...]) -> Array:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ParseError(f"the bilinear filler needs square windows, found weights of shape {shape}")
    half = ceil(shape[3] / 2)
    center = (2 * half - 1 - half % 2) / (2 * half)
    ramp = 1 - np.abs(np.arange(shape[3]) / half - center)
    return np.broadcast_to(np.outer(ramp, ramp), shape).astype(np.float32)
