"""Signals, images, random numbers, and what native layers refuse: training modes and other rare forms."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import Dimension, TensorInfo, TensorType, normalize_axis, required, unknown

from tenonrt_layer_onnx_reference.nodes import Operator
from tenonrt_layer_onnx_reference.types import element_type

Inputs = Sequence[TensorInfo | None]


def _fourier(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """DFT: the axis is an attribute before opset 20, then an input. One-sided keeps half and one of the bins."""
    (x,) = required(inputs, 1)
    axis = operator.attributes.get("axis", 1) if operator.version < 20 else _known_scalar(inputs, 2, -2)
    length = _known_scalar(inputs, 1, None) if len(inputs) > 1 and inputs[1] is not None else None
    one_sided, inverse = operator.attributes.get("onesided", 0), operator.attributes.get("inverse", 0)
    shape: list[Dimension] = list(x.shape)
    if axis is None:
        shape = [unknown() for _ in shape]
    else:
        axis = normalize_axis(axis, x.rank)
        given = len(inputs) > 1 and inputs[1] is not None
        size: Dimension = unknown() if given and length is None else length if length is not None else shape[axis]
        if inverse and one_sided and not given:
            size = (size - 1) * 2  # the bins of a real signal of even length
        shape[axis] = size if not one_sided or inverse else size // 2 + 1
    shape[-1] = 1 if one_sided and inverse else 2
    return [TensorType(tuple(shape), x.dtype)]


def _known_scalar(inputs: Inputs, index: int, default: int | None) -> int | None:
    """An input of one integer, where it is known; the default where it is absent."""
    info = inputs[index] if index < len(inputs) else None
    if info is None:
        return default
    if info.value is None:
        return None
    value = info.value.reshape(-1)[0]
    return int(value) if isinstance(value, int) else None


def _short_time_fourier(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (signal,) = required(inputs, 1)
    return [TensorType((signal.shape[0], unknown(), unknown(), 2), signal.dtype)]


def _mel(operator: Operator, inputs: Inputs) -> list[TensorType]:
    required(inputs, 5)
    dtype = element_type(operator.attributes.get("output_datatype", 1))
    return [TensorType((unknown(), unknown()), dtype)]


def _image(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (data,) = required(inputs, 1)
    if data.dtype != "uint8" or data.rank != 1:
        raise ValueError(f"expected the bytes of an image file, found {data.type}")
    channels = 1 if operator.attributes.get("pixel_format", "RGB") == "Grayscale" else 3
    return [TensorType((unknown(), unknown(), channels), "uint8")]


def _drawn(operator: Operator, inputs: Inputs) -> list[TensorType]:
    dtype = element_type(operator.attributes.get("dtype", 1))
    return [TensorType(tuple(operator.attributes["shape"]), dtype)]


def _drawn_like(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    number = operator.attributes.get("dtype")
    return [TensorType(x.shape, x.dtype if number is None else element_type(number))]


def _dropout(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    return [x.type, TensorType(x.shape, "bool")]


def _batch_normalization(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """In training mode: the result, and the running mean and variance."""
    x, _, _, mean, variance = required(inputs, 5)
    return [x.type, mean.type, variance.type]


def _space_to_depth(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    size = operator.attributes["blocksize"]
    if x.rank != 4 or size < 1:
        raise ValueError(f"expected an image batch and a positive block size, found {x.type} and {size}")
    batch, channels, height, width = x.shape
    return [TensorType((batch, channels * (size * size), height // size, width // size), x.dtype)]


def _unique(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """The distinct elements or slices, then three vectors: first places, places among the distinct, counts."""
    (x,) = required(inputs, 1)
    axis = operator.attributes.get("axis")
    count = unknown()
    shape = [count] if axis is None else list(x.shape)
    if axis is not None:
        shape[normalize_axis(axis, x.rank)] = count
    inverse = x.type.size if axis is None else x.shape[normalize_axis(axis, x.rank)]
    return [TensorType(tuple(shape), x.dtype), *(TensorType((d,), "int64") for d in (unknown(), inverse, unknown()))]


def _unknown_image(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """Col2Im and MaxUnpool: the sizes of the image are inputs or follow from windows."""
    (x,) = required(inputs, 1)
    spatial = x.rank - 2
    if operator.type == "Col2Im":
        (shape,) = required(inputs[1:], 1)
        if shape.rank != 1 or not isinstance(shape.shape[0], int):
            raise ValueError(f"expected a vector of sizes of known length, found {shape.type}")
        spatial = shape.shape[0]
    channels = x.shape[1] if operator.type == "MaxUnpool" else unknown()
    return [TensorType((x.shape[0], channels, *(unknown() for _ in range(spatial))), x.dtype)]


def _deformed(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """The offsets have the positions of the result."""
    x, weights, offsets = required(inputs, 3)
    return [TensorType((x.shape[0], weights.shape[0], *offsets.shape[2:]), x.dtype)]


def _determinant(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    return [TensorType(x.shape[:-2], x.dtype)]


def _regions(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """RoiAlign: each region of interest as an image of one size."""
    x, regions, _ = required(inputs, 3)
    size = (operator.attributes.get("output_height", 1), operator.attributes.get("output_width", 1))
    return [TensorType((regions.shape[0], x.shape[1], *size), x.dtype)]


def _affine_grid(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """[N, H, W, 2] or [N, D, H, W, 3], for the sizes [N, C, ...] in the second input."""
    theta, size = required(inputs, 2)
    if size.shape not in {(4,), (5,)}:
        raise ValueError(f"expected 4 or 5 sizes, found {size.type}")
    spatial = 2 if size.shape == (4,) else 3
    return [TensorType((theta.shape[0], *(unknown() for _ in range(spatial)), spatial), theta.dtype)]


def _first(operator: Operator, inputs: Inputs) -> list[TensorType]:
    return [required(inputs, 1)[0].type]


RULES = {
    "DFT": _fourier, "STFT": _short_time_fourier, "MelWeightMatrix": _mel, "ImageDecoder": _image,
    "RandomNormal": _drawn, "RandomUniform": _drawn, "RandomNormalLike": _drawn_like,
    "RandomUniformLike": _drawn_like, "Dropout": _dropout, "BatchNormalization": _batch_normalization,
    "SpaceToDepth": _space_to_depth, "Unique": _unique, "Col2Im": _unknown_image, "MaxUnpool": _unknown_image,
    "DeformConv": _deformed, "Det": _determinant, "RoiAlign": _regions, "TensorScatter": _first,
    "AffineGrid": _affine_grid,
}  # fmt: skip
