"""Convolutions, pooling, normalization and resizing: what layers compute with channels first."""

from __future__ import annotations

from typing import Any

from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor, known_values

from tenonrt_parser_uff.emit import (
    Inputs,
    cast,
    check_count,
    chosen,
    flag,
    given,
    integer,
    integers,
    number,
    numbers,
    shape_operand,
    single,
    transpose,
)
from tenonrt_parser_uff.tensorflow.mappings.arguments import (
    channels_last,
    spatial,
    to_first,
    to_last,
    with_channels_first,
)
from tenonrt_parser_uff.windows import Window, convolve, deconvolve, depthwise_kernel, groups_of, pool, static

_PADDINGS = {"SAME": "SAME", "VALID": "VALID", "EXPLICIT": "EXPLICIT"}


def window(node: SourceNode, rank: int) -> Window:
    """Strides, dilations and padding."""
    padding = chosen(node, "padding", _PADDINGS)
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    if padding == "EXPLICIT":
        pads = numbers(node, "explicit_paddings")
        if len(pads) != 2 * rank:
            raise ParseError(f"'explicit_paddings' has {len(pads)} numbers for an input of rank {rank}")
        inner = pads[2:-2] if channels_last(node) else pads[4:]
        before, after = inner[::2], inner[1::2]
    return Window(
        spatial(node, "strides", rank), spatial(node, "dilations", rank), before, after, padding == "SAME"
    )  # fmt: skip


def _operands(inputs: Inputs, x: int = 0, kernel: int = 1) -> tuple[Tensor, Tensor]:
    tensors = given(inputs, x, "input"), given(inputs, kernel, "filter")
    if tensors[0].type.rank != tensors[1].type.rank or not 3 <= tensors[0].type.rank <= 5:
        raise ParseError(f"input {tensors[0].type} and filter {tensors[1].type} need one rank, 3 to 5")
    return tensors


def conv(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Conv2D and Conv3D: filters are [*R, C / groups, K]."""
    check_count(inputs, 2)
    x, kernel = _operands(inputs)
    rank = x.type.rank
    stored, moves = transpose(builder, kernel, (rank - 1, rank - 2, *range(rank - 2))), window(node, rank)
    return [with_channels_first(builder, node, x, lambda t: convolve(builder, t, stored, groups_of(t, stored), moves))]


def depthwise(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """DepthwiseConv2dNative: filters are [R, S, C, M], M for each channel."""
    check_count(inputs, 2)
    x, kernel = _operands(inputs)
    channels = static(kernel, "the filter")[-2]
    rank = x.type.rank
    stored = depthwise_kernel(builder, transpose(builder, kernel, (rank - 1, rank - 2, *range(rank - 2))))
    return [with_channels_first(builder, node, x, lambda t: convolve(builder, t, stored, channels, window(node, rank)))]


def conv_transpose(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Conv2DBackpropInput and Conv3DBackpropInputV2: the output's shape, filters [*R, K, C], the input."""
    check_count(inputs, 3)
    x, kernel = _operands(inputs, 2)
    rank = x.type.rank
    stored = transpose(builder, kernel, (rank - 1, rank - 2, *range(rank - 2)))
    sizes, moves = _sizes(node, given(inputs, 0, "sizes"), rank), window(node, rank)
    if sizes is not None:
        return [
            with_channels_first(builder, node, x, lambda t: deconvolve(builder, t, stored, sizes, 1, moves))
        ]  # fmt: skip
    attrs = moves.attributes()
    return [with_channels_first(builder, node, x, lambda t: single(builder, "Deconvolution", [t, stored], attrs))]


def _sizes(node: SourceNode, sizes: Tensor, rank: int) -> tuple[int, ...] | None:
    """The spatial sizes of the output; None where they are computed, and follow from those of the input."""
    values = known_values(sizes.info) if sizes.constant is None else integers(sizes, "the output's shape")
    if values is None or len(values) not in (rank, rank - 2):
        if values is None:
            return None
        raise ParseError(f"the output's shape has {len(values)} sizes for an input of rank {rank}")
    inner = list(values) if len(values) < rank else list(values[1:-1] if channels_last(node) else values[2:])
    return tuple(int(v) for v in inner if isinstance(v, int)) if all(isinstance(v, int) for v in inner) else None


def pooling(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """MaxPool and AvgPool, in two or three dimensions. Padding counts for neither."""
    check_count(inputs, 1)
    x = given(inputs, 0, "value")
    size, moves = spatial(node, "ksize", x.type.rank), window(node, x.type.rank)
    function = "max" if node.type.startswith("Max") else "average"
    return [with_channels_first(builder, node, x, lambda t: pool(builder, function, t, size, moves))]


def max_pool_v2(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """MaxPoolV2, whose window and strides are inputs."""
    check_count(inputs, 3)
    x = given(inputs, 0, "input")
    size, stride = (
        spatial(node, what, x.type.rank, integers(given(inputs, i, what), what))
        for i, what in ((1, "ksize"), (2, "strides"))
    )
    moves = Window(stride, same=chosen(node, "padding", {"SAME": "SAME", "VALID": "VALID"}) == "SAME")
    return [with_channels_first(builder, node, x, lambda t: pool(builder, "max", t, size, moves))]


def lrn(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Over 2 radius + 1 channels, which are last. TensorFlow's alpha is not divided by the window, the layer's is."""
    check_count(inputs, 1)
    size = 2 * integer(node, "depth_radius", 5) + 1
    attrs = {"window": size, "alpha": number(node, "alpha", 1.0) * size, "beta": number(node, "beta", 0.5),
             "k": number(node, "bias", 1.0)}  # fmt: skip
    return [to_last(builder, single(builder, "LRN", [to_first(builder, given(inputs, 0, "input"))], attrs))]


def fused_batch_norm(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Versions 1 to 3, with the statistics of training; those are also further outputs."""
    check_count(inputs, 5)
    if flag(node, "is_training", True):
        raise ParseError("is in training mode; export the graph for inference (is_training=False)")
    x, gamma, beta, mean, variance = (
        given(inputs, i, what) for i, what in enumerate(("x", "scale", "offset", "mean", "variance"))
    )
    parameters = [cast(builder, t, x.type.dtype) for t in (gamma, beta, mean, variance)]
    attrs = {"epsilon": number(node, "epsilon", 1e-4)}
    y = with_channels_first(
        builder, node, x, lambda t: single(builder, "BatchNormalization", [t, *parameters], attrs)
    )  # fmt: skip
    return [y, mean, variance, mean, variance]


def resize(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """ResizeBilinear, ResizeNearestNeighbor and ResizeBicubic of [N, H, W, C] to the two sizes given."""
    check_count(inputs, 2)
    x, size = given(inputs, 0, "images"), shape_operand(builder, given(inputs, 1, "size"), "the size")
    if x.type.rank != 4:
        raise ParseError(f"the images are {x.type}, expected rank 4")
    corners, centres = flag(node, "align_corners"), flag(node, "half_pixel_centers")
    if corners and centres:
        raise ParseError("has both align_corners and half_pixel_centers, which TensorFlow refuses")
    attrs = _interpolation(node.type, corners, centres)
    if node.type != "ResizeNearestNeighbor":
        x = cast(builder, x, "float32")  # which the results are, whatever the images
    resized = single(builder, "Resize", [to_first(builder, x), None, None, size], {**attrs, "axes": (2, 3)})
    return [to_last(builder, resized)]


def _interpolation(operation: str, corners: bool, centres: bool) -> dict[str, Any]:
    """How TensorFlow's kernels place output pixels, in the layer's words."""
    where = "align_corners" if corners else "half_pixel" if centres else "asymmetric"
    if operation == "ResizeBilinear":
        return {"mode": "linear", "coordinate_transformation": where}
    if operation == "ResizeBicubic":
        more = {"cubic_coefficient": -0.5, "exclude_outside": True} if centres else {"cubic_coefficient": -0.75}
        return {"mode": "cubic", "coordinate_transformation": where, **more}
    where = "tf_half_pixel_for_nn" if centres else where
    rounding = "round_prefer_ceil" if corners else "floor"
    return {"mode": "nearest", "coordinate_transformation": where, "nearest_rounding": rounding}


def block_to_depth(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """SpaceToDepth."""
    check_count(inputs, 1)
    attrs = {"block_size": integer(node, "block_size")}
    x = given(inputs, 0, "input")
    return [with_channels_first(builder, node, x, lambda t: single(builder, "SpaceToDepth", [t], attrs))]


def patches(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """ExtractImagePatches, where the patches are square and do not overlap: SpaceToDepth by another name."""
    check_count(inputs, 1)
    size, stride, rates = (numbers(node, name) for name in ("ksizes", "strides", "rates"))
    if size != stride or len(size) != 4 or rates != (1, 1, 1, 1) or size[1] != size[2] or size[::3] != (1, 1):
        raise ParseError(f"patches of {list(size)} every {list(stride)} are not supported, only squares side by side")
    x = given(inputs, 0, "images")
    if x.type.rank != 4 or any(not isinstance(n, int) or n % size[1] for n in x.type.shape[1:3]):
        raise ParseError(f"patches of {list(size)} do not cut {x.type} without a remainder")
    attrs = {"block_size": size[1]}
    return [to_last(builder, single(builder, "SpaceToDepth", [to_first(builder, x)], attrs))]


def depth_to_block(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """DepthToSpace, the block's position outermost."""
    check_count(inputs, 1)
    attrs = {"block_size": integer(node, "block_size"), "mode": "DCR"}
    x = given(inputs, 0, "input")
    return [with_channels_first(builder, node, x, lambda t: single(builder, "DepthToSpace", [t], attrs))]
