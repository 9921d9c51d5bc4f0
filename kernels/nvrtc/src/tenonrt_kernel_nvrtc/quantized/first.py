"""The first convolution of a network on bytes: images of at most four channels, quantized on the way.

Their channels are too few for the products of `byte_product`. In half precision, which is what other kernels would
compute it in, it writes a result twice as large, and another kernel reads that to quantize it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    BYTES,
    FLOAT8,
    LINEAR,
    NHWC,
    Array,
    ByteRegion,
    Code,
    GraphView,
    Layer,
    Problem,
    ProblemLayer,
    Tactic,
    Weights,
    byte_regions,
    only_reader,
    read_byte_region,
)

from tenonrt_kernel_nvrtc.images.patches import PIXELS, Patch, Pixel
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.loading import architecture
from tenonrt_kernel_nvrtc.products.problem import Geometry
from tenonrt_kernel_nvrtc.quantized.finish import ByteFinish
from tenonrt_kernel_nvrtc.quantized.first_source import CHANNELS, TAPS, packed_filters, source
from tenonrt_kernel_nvrtc.quantized.problem import finishing, geometry_of
from tenonrt_kernel_nvrtc.quantized.tiles import GROUP, ByteTile
from tenonrt_kernel_nvrtc.storage import C_TYPES, Narrow, shape_of

_ROWS, _BLOCKS, _WIDEST = (4, 8), (2, 3), 128
_WORD, _SHARED = 4, 48 << 10  # bytes of a pixel, and of a block
_LONGEST = 7  # rows of a window whose weights registers hold
# What an instruction calls element types; what makes a word of four, and of quotients what is stored.
_KINDS = {"int8": "s8", "uint8": "u8", FLOAT8: "e4m3"}
_WORDS = {"int8": ("bytes<true>", "nearest"), "uint8": ("bytes<false>", "nearest"), FLOAT8: ("narrow", "")}
_UNIT = ByteTile(64, GROUP, 1, 1, 1, 0, 1, 64)  # what a warp finishes at once, as products see it


class FirstBytesKernel(CudaKernel):
    """Images [N, channels, H, W] in single precision or bytes; results of at most 64 channels in bytes."""

    begins_itself: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        """The whole quantized region, with the Quantize in front of it where nobody else reads that."""
        *_, whole = ((), *byte_regions(view, layer))
        if not whole or whole[-1].kind != "Quantize":
            return
        stored = whole[0].inputs[0]
        before = view.producer(stored) if stored is not None else None
        if before is not None and before.kind == "Quantize" and stored is not None and only_reader(view, stored):
            yield (before, *whole)
        else:
            yield whole

    def refuses(self, problem: Problem) -> str:
        if int(architecture().removeprefix("sm_").rstrip("a")) < 90:
            return f"{architecture()} has no kernels that wait for others"
        region = read_byte_region(problem, numbers=BYTES)
        if isinstance(region, str):
            return region
        entry, quantize = _entry(problem)
        types, attrs = problem.types, region.product.attrs
        filters = types[region.weights.inputs[0]].concrete({})
        if attrs.groups > 1 or any(d > 1 for d in attrs.dilation or ()) or region.added is not None:
            return "groups, a dilation or a sum"
        if filters[1] > CHANNELS or filters[0] > GROUP or filters[0] % PIXELS:
            return f"{filters[1]} channels to {filters[0]}"
        if filters[2] > _LONGEST or filters[3] > TAPS:
            return f"a window of {filters[2]} by {filters[3]}"
        if problem.activations != (entry,) or types[problem.outputs[0]].dtype == "float32":
            return "an operand is constant, or the result is not quantized"
        if quantize is not None and (types[entry].dtype != "float32" or not _plain(problem, quantize)):
            return "what quantizes the image has a zero point or several scales"
        return "" if _patches(problem) else "a patch that shared memory does not hold"

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        if _stored(problem) != FLOAT8:
            return [Tactic(patch.key, (LINEAR,), (NHWC,)) for patch in _patches(problem)]
        return [
            Tactic(n.key(patch.key), (LINEAR,), (NHWC,), n.dtype) for n in narrow[:1] for patch in _patches(problem)
        ]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        g, entry = geometry_of(problem), _entry(problem)[0]
        item = 4 if problem.types[entry].dtype == "float32" else 1
        moved = g.images * g.rows.size * g.columns.size * g.channels * item + g.m * GROUP
        return 5e-6 + max(moved / 3.5e12, g.m * g.rows.window / 2.5e11)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Words of the weights, then what `ByteFinish` reads, then the scale of the image."""
        problem, region = code.problem, ByteRegion.of(code.problem)
        given = dict(zip(problem.constants, weights.constants, strict=True))
        filters, (_, quantize) = given[region.weights.inputs[0]], _entry(problem)
        finish = finishing(problem, given)
        scale = np.ones(1) if quantize is None else given[quantize.inputs[1]].reshape(1)
        return [packed_filters(filters.view(np.int8)), np.concatenate([finish, scale]).astype(np.float32)]

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return "bytes"

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        patch, g, region = Patch.parsed(shape_of(tactic), TAPS), geometry_of(problem), ByteRegion.of(problem)
        n, result = problem.types[problem.outputs[0]].concrete({})[1], problem.types[problem.outputs[0]].dtype
        finish = ByteFinish(
            problem, _UNIT, g.m, (n,), result, None, region.rectified, region.limit is not None,
            row="row_of(h)",
        )  # fmt: skip
        entry, _ = _entry(problem)
        parameters = [
            f"{C_TYPES[result]} *__restrict__ out", f"const {C_TYPES[problem.types[entry].dtype]} *__restrict__ pixels",
            "const unsigned *__restrict__ filters", "const float *__restrict__ factors",
        ]  # fmt: skip
        text = source(finish, g, patch, _KINDS[_stored(problem)], pixel_of(problem, g), parameters)
        return text, {"grid": (patch.grid(g),), "block": (patch.threads,), "shared": _WORD * patch.pixels(g)}


def _stored(problem: Problem) -> str:
    """The element type of the image that is multiplied."""
    return problem.types[ByteRegion.of(problem).source.inputs[0]].dtype


def _entry(problem: Problem) -> tuple[int, ProblemLayer | None]:
    """The image, and what quantizes it in the region."""
    stored = ByteRegion.of(problem).source.inputs[0]
    for layer in problem.layers:
        if stored in layer.outputs:
            return layer.inputs[0], layer
    return stored, None


def _plain(problem: Problem, quantize: ProblemLayer) -> bool:
    scale, zero = quantize.inputs[1], quantize.inputs[2] if len(quantize.inputs) > 2 else -1
    one = scale in problem.constants and problem.types[scale].size == 1 and not quantize.attrs.block
    saturates = quantize.attrs.saturate or _stored(problem) != FLOAT8
    return one and zero < 0 and saturates and problem.types[scale].dtype == "float32"


def _patches(problem: Problem) -> list[Patch]:
    g = geometry_of(problem)
    across = min(_WIDEST, -(-g.columns.positions // PIXELS) * PIXELS)
    found = [Patch(rows, across, blocks, TAPS) for rows in _ROWS for blocks in _BLOCKS]
    return [patch for patch in found if _WORD * patch.pixels(g) <= _SHARED]


def pixel_of(problem: Problem, g: Geometry) -> Pixel:
    """The quotient is what a division gives: by the inverse, then by what that leaves. Infinities leave nothing."""
    entry, quantize = _entry(problem)
    real, kind = C_TYPES[problem.types[entry].dtype], _stored(problem)
    columns = problem.types[problem.outputs[0]].concrete({})[1]
    raw = [f"raw[b][{c}]" for c in range(g.channels)]
    if quantize is None:
        bits = [f"{v}.bits" if kind == FLOAT8 else v for v in raw]
        return Pixel(real, "", " | ".join(f"(unsigned)(unsigned char){v} << {8 * c}" for c, v in enumerate(bits)))
    word, rounded = _WORDS[kind]
    once = f"""const float step = factors[{2 * columns + 2}], inverse = 1.f / step;
    auto steps = [&](float x) {{
        const float near = x * inverse, exact = fmaf(fmaf(-near, step, x), inverse, near);
        return {rounded}(fabsf(near) < 1024.f ? exact : near);
    }};"""
    values = [*(f"steps({value})" for value in raw), *["0"] * (CHANNELS - g.channels)]
    return Pixel(real, once, f"{word}({', '.join(values)})")
