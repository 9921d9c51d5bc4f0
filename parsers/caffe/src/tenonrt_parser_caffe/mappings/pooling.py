"""Pooling, pyramid pooling and the normalization of local responses."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_caffe.mappings.operands import affine, binary, bottom, one, positive, rank, sizes

_FUNCTIONS = {"MAX": "max", "AVE": "average"}


def pooling(builder: GraphBuilder, node: SourceNode, inputs: Any) -> list[Tensor]:
    """Windows hang over the end by default; averages count the padding. A second top holds where maxima were."""
    x = bottom(inputs)
    if rank(x) != 4:
        raise ParseError(f"takes [N, C, H, W]; the bottom is {x.type}")
    attrs = _global(node, x) if node.attrs["global_pooling"] else _windows(node, x)
    if node.attrs["pool"] == "STOCHASTIC":
        return [_expected(builder, x, attrs)]
    attrs["function"] = _function(node)
    if attrs["function"] == "average" and any(attrs.get("pre_padding", ())):
        attrs["count_includes_padding"] = True
    if len(node.outputs) < 2:
        return [one(builder.add("Pooling", [x], attrs))]
    values, indices = builder.add("Pooling", [x], {**attrs, "with_indices": True})
    # The positions count from the beginning of each channel, as floats.
    plane = binary(builder, "mod", indices, np.array([max(prod(sizes(x, 2)), 1)], np.int64))
    return [values, one(builder.add("Cast", [plane], {"to": "float32"}))]


def _expected(builder: GraphBuilder, x: Tensor, attrs: dict[str, Any]) -> Tensor:
    """Stochastic pooling once trained: the mean of a window's elements, weighted by themselves; 0 where all are 0."""
    means = [
        one(builder.add("Pooling", [y], {**attrs, "function": "average"})) for y in (binary(builder, "prod", x, x), x)
    ]
    least = float(np.finfo(np.float32).tiny)
    return binary(builder, "div", means[0], affine(builder, means[1], shift=least))


def _function(node: SourceNode) -> str:
    pool = node.attrs["pool"]
    if pool not in _FUNCTIONS:
        raise ParseError(f"pool is {pool}; it is one of MAX, AVE and STOCHASTIC")
    return _FUNCTIONS[pool]


def _global(node: SourceNode, x: Tensor) -> dict[str, Any]:
    if any(node.attrs[name] for name in ("kernel_size", "kernel_h", "kernel_w", "pad", "pad_h", "pad_w")):
        raise ParseError("global_pooling excludes a kernel size and padding")
    if (node.attrs["stride_h"] or node.attrs["stride"]) != 1 or (node.attrs["stride_w"] or node.attrs["stride"]) != 1:
        raise ParseError("global_pooling needs stride 1")
    return {"window": sizes(x, 2)}


def _windows(node: SourceNode, x: Tensor) -> dict[str, Any]:
    window = tuple(_side(node, "kernel_size", f"kernel_{side}") for side in "hw")
    stride = tuple(_side(node, "stride", f"stride_{side}") for side in "hw")
    padding = tuple(node.attrs[f"pad_{side}"] or node.attrs["pad"] for side in "hw")
    ceil = not (node.attrs["round_mode"] == "FLOOR" or node.attrs["torch_pooling"] or not node.attrs["ceil_mode"])
    if min(window) < 1 or min(stride) < 1 or any(p >= k for p, k in zip(padding, window, strict=True)):
        raise ParseError(f"has windows {window}, stride {stride}, padding {padding}; padding must be less than windows")
    if ceil:
        window = _clipped(x, window, stride, padding)
    if ceil and not any(padding):
        _check_hanging(x, window, stride)
    ceil = ceil and not _fits(x, window, stride, padding)
    return {"window": window, "stride": stride, "pre_padding": padding, "post_padding": padding, "ceil": ceil}


def _clipped(x: Tensor, window: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> tuple[int, ...]:
    """Windows that hang over an input smaller than themselves by less than a stride, of which Caffe takes one, cut."""
    whole = [size + 2 * p if isinstance(size, int) else None for size, p in zip(x.type.shape[2:], padding, strict=True)]
    return tuple(
        size if size is not None and size < k < size + s else k
        for k, s, size in zip(window, stride, whole, strict=True)
    )


def _fits(x: Tensor, window: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> bool:
    """Whether the last window ends where the padded input does, so that rounding up and down is the same."""
    spans = zip(x.type.shape[2:], window, stride, padding, strict=True)
    return all(isinstance(size, int) and (size + 2 * p - k) % s == 0 for size, k, s, p in spans)


def _check_hanging(x: Tensor, window: tuple[int, ...], stride: tuple[int, ...]) -> None:
    """Without padding Caffe lets a last window begin behind the input, where it has no elements."""
    for size, k, s in zip(x.type.shape[2:], window, stride, strict=True):
        if isinstance(size, int) and -((k - size) // s) * s >= size:
            raise ParseError(f"with windows of {k} every {s}, the last one begins behind the {size} elements it pools")


def _side(node: SourceNode, name: str, apart: str) -> int:
    value = node.attrs[apart] if node.attrs[apart] is not None else node.attrs[name]
    if value is None:
        raise ParseError(f"{name} is not given")
    return int(value)


def spp(builder: GraphBuilder, node: SourceNode, inputs: Any) -> list[Tensor]:
    """Spatial pyramid pooling: 1, 2, 4, ... bins per side, each level flattened, all joined.

    A pyramid of one level is its pooling alone, [N, C, 1, 1].
    """
    x = bottom(inputs)
    if rank(x) != 4:
        raise ParseError(f"takes [N, C, H, W]; the bottom is {x.type}")
    height = positive(node, "pyramid_height")
    if height > 10:
        raise ParseError(f"pyramid_height is {height}; at most 10 levels are built")
    levels = []
    for level in range(height):
        windows = [-(-size // 2**level) for size in sizes(x, 2)]
        padding = tuple((k * 2**level - size + 1) // 2 for k, size in zip(windows, sizes(x, 2), strict=True))
        attrs = {"function": _function(node), "window": tuple(windows), "stride": tuple(windows), "ceil": True,
                 "pre_padding": padding, "post_padding": padding, "count_includes_padding": True}  # fmt: skip
        if attrs["function"] == "max":
            del attrs["count_includes_padding"]
        levels.append(one(builder.add("Pooling", [x], attrs)))
    if height == 1:
        return levels
    flat = [one(builder.add("Flatten", [level], {"axis": 1})) for level in levels]
    return [one(builder.add("Concatenation", flat, {"axis": 1}))]


def lrn(builder: GraphBuilder, node: SourceNode, inputs: Any) -> list[Tensor]:
    """Across channels, x / (k + alpha / n * sum x^2) ** beta; within one, x * (1 + alpha * mean x^2) ** -beta."""
    x, size = bottom(inputs), positive(node, "local_size")
    alpha, beta, k = node.attrs["alpha"], node.attrs["beta"], node.attrs["k"]
    if size % 2 == 0:
        raise ParseError(f"local_size is {size}; it must be odd")
    if node.attrs["norm_region"] == "ACROSS_CHANNELS":
        return [one(builder.add("LRN", [x], {"window": size, "alpha": alpha, "beta": beta, "k": k}))]
    if rank(x) != 4:
        raise ParseError(f"takes [N, C, H, W]; the bottom is {x.type}")
    half = (size - 1) // 2
    window: dict[str, Any] = {"window": (size, size), "pre_padding": (half, half), "post_padding": (half, half)}
    means = one(builder.add("Pooling", [binary(builder, "prod", x, x)],
                            {"function": "average", "count_includes_padding": True, **window}))  # fmt: skip
    return [binary(builder, "prod", x, affine(builder, means, 1.0, alpha, -beta))]
