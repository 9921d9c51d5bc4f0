"""Layers that slide windows, multiply matrices, or look at an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tenonrt.contracts import UnsupportedError, share_padding, window_axes

from tenonrt_parser_onnx.exporting.node import Writer, code, flag

_POOLS = {"max": "MaxPool", "average": "AveragePool", "lp": "LpPool"}
_MODES = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}


def _pads(w: Writer, window: Sequence[int]) -> dict[str, Any]:
    """Padding in numbers where the sizes are known, else by its rule."""
    attrs = w.attrs
    axes = window_axes(window, attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding, attrs.padding_mode)
    sizes = w.tensor(0).type.shape[2:]
    moves = {
        "strides": [axis.stride for axis in axes],
        "dilations": [axis.dilation for axis in axes],
    }
    if attrs.padding_mode.startswith("same") and not all(isinstance(size, int) for size in sizes):
        return {**moves, "auto_pad": _MODES[attrs.padding_mode]}
    sides = [axis.padding(size if isinstance(size, int) else 1) for axis, size in zip(axes, sizes, strict=True)]
    return {**moves, "pads": [side[0] for side in sides] + [side[1] for side in sides]}


def _window(w: Writer) -> tuple[int, ...]:
    sizes = w.tensor(1).type.shape[2:]
    if not all(isinstance(size, int) for size in sizes):
        raise UnsupportedError(f"its weights are {w.tensor(1).type}, of unknown size", [])
    return tuple(size for size in sizes if isinstance(size, int))


def _convolution(w: Writer) -> None:
    window = _window(w)
    w.node("Conv", w.inputs, kernel_shape=window, group=w.attrs.groups, **_pads(w, window))


def deconvolution(w: Writer) -> None:
    """Padding in numbers: rules for a given output size are read differently from runtime to runtime."""
    window, attrs, sizes = _window(w), w.attrs, w.tensor(0).type.shape[2:]
    axes = window_axes(window, attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding, attrs.padding_mode)
    extra = list(attrs.output_padding or (0,) * len(window))
    same = attrs.padding_mode.startswith("same")
    sides = [(axis.pre, axis.post) for axis in axes]
    for i, (axis, size) in enumerate(zip(axes, sizes, strict=True)):
        if not same and not attrs.output_shape:
            continue
        if attrs.output_shape and not isinstance(size, int):
            raise UnsupportedError(f"its output's size is given, that of its input, {w.tensor(0).type}, unknown", [])
        # Without a given size the output is input times stride: what is cropped does not depend on the input.
        given = size if isinstance(size, int) else 1
        wanted = attrs.output_shape[i] if attrs.output_shape else given * axis.stride
        total = (given - 1) * axis.stride + axis.extent + extra[i] - wanted
        sides[i] = share_padding(max(total, 0), attrs.padding_mode)
        extra[i] += max(-total, 0)
    if any(padding >= max(axis.stride, axis.dilation) for padding, axis in zip(extra, axes, strict=True)):
        raise UnsupportedError(
            f"its output has {extra} rows and columns that no window reaches, more than a stride", []
        )
    w.node(
        "ConvTranspose", w.inputs, kernel_shape=window, group=attrs.groups, output_padding=extra,
        strides=[axis.stride for axis in axes], dilations=[axis.dilation for axis in axes],
        pads=[side[0] for side in sides] + [side[1] for side in sides],
    )  # fmt: skip


def _pooling(w: Writer) -> None:
    if w.attrs.function != "max_average_blend":
        operator, attrs = _pool(w, w.attrs.function)
        if w.output.dtype.startswith("float8"):  # MaxPool takes none; half precision holds all of them
            half = w.part("Cast", w.inputs, to=code("float16"))
            w.node("Cast", [w.part(operator, [half], **attrs)], to=code(w.output.dtype))
            return
        w.node(operator, w.inputs, **attrs)
        return
    parts = []
    for function, share in (("max", 1 - w.attrs.blend), ("average", w.attrs.blend)):
        operator, attrs = _pool(w, function)
        parts.append(w.part("Mul", [w.part(operator, w.inputs, **attrs), w.constant(share, w.output)]))
    w.node("Add", parts)


def _pool(w: Writer, function: str) -> tuple[str, dict[str, Any]]:
    attrs = {"kernel_shape": w.attrs.window, **_pads(w, w.attrs.window)}
    # The "same" modes have no windows that hang over.
    attrs["ceil_mode"] = flag(w.attrs.ceil and not w.attrs.padding_mode.startswith("same"))
    if all(step == 1 for step in attrs["dilations"]):
        del attrs["dilations"]  # which averages have since operator set 19
    if function == "average":
        attrs["count_include_pad"] = flag(w.attrs.count_includes_padding)
    elif function == "lp":
        attrs["p"] = w.attrs.p
    else:
        attrs["storage_order"] = w.attrs.storage_order
    if function != "max" and "dilations" in attrs:
        attrs["since"] = 19
    return _POOLS[function], attrs


def fully_connected(w: Writer) -> None:
    """x W^T + b."""
    if w.tensor(0).type.rank == 2:
        w.node("Gemm", w.inputs, transB=1)
        return
    weights = w.tensor(1).constant
    transposed = w.part("Transpose", [w.input(1)], perm=[1, 0]) if weights is None else w.constant(weights.T, w.output)
    operands = [w.input(0), transposed]
    if w.input(2):
        w.node("Add", [w.part("MatMul", operands), w.input(2)])
    else:
        w.node("MatMul", operands)


def _matrix_multiply(w: Writer) -> None:
    w.node("MatMul", [_swapped(w, 0, w.attrs.transpose_a), _swapped(w, 1, w.attrs.transpose_b)])


def _swapped(w: Writer, index: int, wanted: bool) -> str:
    rank = w.tensor(index).type.rank
    if not wanted or rank < 2:
        return w.input(index)
    return w.part("Transpose", [w.input(index)], perm=[*range(rank - 2), rank - 1, rank - 2])


def _resize(w: Writer) -> None:
    a = w.attrs
    attrs: dict[str, Any] = {
        "mode": a.mode, "coordinate_transformation_mode": a.coordinate_transformation, "axes": a.axes,
        "antialias": flag(a.antialias), "exclude_outside": flag(a.exclude_outside),
    }  # fmt: skip
    if a.mode == "nearest":
        attrs["nearest_mode"] = a.nearest_rounding
    if a.mode == "cubic":
        attrs["cubic_coeff_a"] = a.cubic_coefficient
    if a.coordinate_transformation == "tf_crop_and_resize":
        attrs["extrapolation_value"] = a.extrapolation
    if w.input(3):
        attrs["keep_aspect_ratio_policy"] = a.keep_aspect
    since = 19 if a.coordinate_transformation == "half_pixel_symmetric" else 18
    w.node("Resize", w.inputs, since=since, **attrs)


def grid_sample(w: Writer) -> None:
    """With the names of modes that operator set 20 brought."""
    w.node("GridSample", w.inputs, since=20, mode=w.attrs.mode, padding_mode=w.attrs.padding,
           align_corners=flag(w.attrs.align_corners))  # fmt: skip


def _lrn(w: Writer) -> None:
    w.node("LRN", w.inputs, size=w.attrs.window, alpha=w.attrs.alpha, beta=w.attrs.beta, bias=w.attrs.k)


def non_max_suppression(w: Writer) -> None:
    """Limits in the types that ONNX wants: int64, then float32."""
    limits = []
    for index, (number, dtype) in enumerate(((7, "int64"), (1, "float32"), (1, "float32")), start=2):
        tensor = w.given(index)
        if tensor is None or tensor.type.dtype == dtype:
            limits.append(w.input(index))
        elif tensor.constant is not None:
            limits.append(w.constant(tensor.constant, dtype))
        else:
            limits.append(w.part("Cast", [w.input(index)], to=number))
    w.node("NonMaxSuppression", [w.input(0), w.input(1), *limits], center_point_box=flag(w.attrs.centered))


def _roi_pooling(w: Writer) -> None:
    w.node("MaxRoiPool", w.inputs, pooled_shape=w.attrs.pooled, spatial_scale=w.attrs.scale)


def recurrent(w: Writer) -> None:
    """LSTM, GRU and RNN, whose layers take ONNX's operands."""
    a = w.attrs
    attrs: dict[str, Any] = {
        "hidden_size": a.hidden_size, "direction": a.direction, "activations": a.activations or None,
        "activation_alpha": a.alphas or None, "activation_beta": a.betas or None, "clip": a.clip, "layout": a.layout,
    }  # fmt: skip
    for name in ("input_forget", "linear_before_reset"):
        if getattr(a, name, False):
            attrs[name] = 1
    w.node(w.kind, w.inputs, **attrs)


RULES: dict[str, Callable[[Writer], None]] = {
    "Convolution": _convolution,
    "Deconvolution": deconvolution,
    "Einsum": lambda w: w.node("Einsum", w.inputs, equation=w.attrs.equation),
    "FullyConnected": fully_connected,
    "GRU": recurrent,
    "GridSample": grid_sample,
    "LRN": _lrn,
    "LSTM": recurrent,
    "MatrixMultiply": _matrix_multiply,
    "NonMaxSuppression": non_max_suppression,
    "Pooling": _pooling,
    "RNN": recurrent,
    "Resize": _resize,
    "RoiPooling": _roi_pooling,
}
