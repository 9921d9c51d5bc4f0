"""Conv and ConvTranspose."""

from __future__ import annotations

from typing import Any

from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_onnx.mappings.arguments import (
    Inputs,
    emit,
    integer,
    integers,
    optional_integers,
    present,
    required,
    text,
)

_MODES = {"NOTSET": "explicit", "SAME_UPPER": "same_upper", "SAME_LOWER": "same_lower", "VALID": "valid"}


def window_attributes(node: SourceNode, spatial: int) -> dict[str, Any]:
    """Stride, dilation and padding, checked against the number of spatial axes."""
    mode = _MODES[text(node, "auto_pad", "NOTSET", tuple(_MODES))]
    attrs: dict[str, Any] = {
        "stride": _per_axis(node, "strides", spatial),
        "dilation": _per_axis(node, "dilations", spatial),
        "padding_mode": mode,
    }
    pads = _per_axis(node, "pads", 2 * spatial)
    if pads and mode == "explicit":
        attrs["pre_padding"], attrs["post_padding"] = pads[:spatial], pads[spatial:]
    return attrs


def _per_axis(node: SourceNode, name: str, count: int) -> tuple[int, ...]:
    values = integers(node, name, ())
    if values and len(values) != count:
        raise ParseError(f"attribute {name!r} has {len(values)} values, {list(values)[:8]}; {count} are needed")
    return values


def spatial_axes(node: SourceNode, weights: Tensor) -> int:
    """The number of spatial axes; kernel_shape must say what the weights do."""
    window = optional_integers(node, "kernel_shape")
    actual = weights.info.shape[2:]
    matches = window is None or (
        len(window) == len(actual)
        and all(w == a or not isinstance(a, int) for w, a in zip(window, actual, strict=True))
    )
    if not matches:
        raise ParseError(f"kernel_shape {window} differs from the weights, {weights.info.type}")
    return len(actual)


def conv(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Input [N, C, ...], weights [K, C/group, ...], bias [K]."""
    x, weights = required(inputs, 0, "X"), required(inputs, 1, "W")
    attrs = window_attributes(node, spatial_axes(node, weights)) | {"groups": integer(node, "group", 1)}
    return list(emit(builder, node, "Convolution", [x, weights, present(inputs, 2)], attrs))


def conv_transpose(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Input [N, C, ...], weights [C, K/group, ...], bias [K]."""
    x, weights = required(inputs, 0, "X"), required(inputs, 1, "W")
    spatial = spatial_axes(node, weights)
    attrs = window_attributes(node, spatial) | {
        "groups": integer(node, "group", 1),
        "output_padding": _per_axis(node, "output_padding", spatial),
        "output_shape": integers(node, "output_shape", ())[-spatial:],
    }
    return list(emit(builder, node, "Deconvolution", [x, weights, present(inputs, 2)], attrs))
