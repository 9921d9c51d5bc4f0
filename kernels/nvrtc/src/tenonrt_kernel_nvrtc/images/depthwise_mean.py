"""Depthwise convolution with the mean of each channel's image as a second result, as squeeze-and-excitation wants it.

The blocks of a cluster have some channels of an image together: each adds up what it stores, and the first of them puts
the sums together, in an order that depends on no timing. The image is not read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

import msgspec
from tenonrt.contracts import Array, Code, GraphView, Layer, Problem, ProblemLayer, Tactic, Weights

from tenonrt_kernel_nvrtc.clusters import CLUSTERS, dimensions
from tenonrt_kernel_nvrtc.growing import grow
from tenonrt_kernel_nvrtc.images.depthwise import DepthwiseKernel
from tenonrt_kernel_nvrtc.images.depthwise_source import Strip
from tenonrt_kernel_nvrtc.images.excitation_problem import is_mean
from tenonrt_kernel_nvrtc.storage import Narrow, shape_of

_TAIL = 4  # layers of a region, the convolution included, but for the mean
_MOST, _ALIKE = 12, 4  # tactics, and of so many positions each
_PARTS = 8  # threads that add up what the others of a block have found for a channel
# Of one H200: multiprocessors, instructions of one and bytes of all in a second, seconds until a thread has what it
# reads, and until the blocks of a cluster have met.
_PROCESSORS, _INSTRUCTIONS, _BYTES, _LATENCY, _MEETING = 132, 2.2e11, 3e12, 8e-7, 8e-7


@dataclass(frozen=True)
class _Tile:
    """Positions of a thread's strips, groups of 8 channels of a block of ``threads``, and blocks of a cluster."""

    positions: int
    groups: int
    blocks: int
    threads: int

    @classmethod
    def parsed(cls, key: str) -> _Tile:
        return cls(*(int(text) for text in key.split("x")))

    @property
    def key(self) -> str:
        return f"{self.positions}x{self.groups}x{self.blocks}x{self.threads}"

    def seconds(self, strip: Strip) -> float:
        """Expected time; it ranks."""
        blocks = strip.images * ceil(strip.groups / self.groups) * self.blocks
        used = min(_PROCESSORS, blocks)
        strips = strip.images * strip.groups * strip.count
        turns = ceil(ceil(strip.count / self.blocks) * self.groups / self.threads)
        waves = max(1.0, blocks * self.threads / (_PROCESSORS * 1024))
        apart = 2 if self.groups == 1 else 1  # 16 bytes of sectors of 32
        moved = 16 * strips * self.positions * (1 + strip.rows.stride * strip.columns.stride) * apart
        computing = strips * strip.instructions / (used * _INSTRUCTIONS)
        moving = moved / (_BYTES * min(1.0, used / 100))
        return 2e-6 + max(computing, moving, turns * waves * _LATENCY) + _MEETING * (self.blocks > 1)


class DepthwiseMeanKernel(DepthwiseKernel):
    """What `DepthwiseKernel` takes, and behind it a mean over both axes of the image, which others read too."""

    begins_itself: ClassVar[bool] = True
    library: ClassVar[str] = CLUSTERS

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        region = grow(view, [layer], _TAIL)
        readers = {id(reader): reader for reader in view.consumers(region[-1].outputs[0])}.values()
        for reader in readers:
            if reader.kind == "Reduce" and len(readers) > 1:
                yield (*region, reader)

    def refuses(self, problem: Problem) -> str:
        found = _parted(problem)
        return found if isinstance(found, str) else super().refuses(found[0])

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        plain, _ = _checked(problem)
        strided = tuple(range(len(problem.activations)))
        image = (problem.outputs.index(plain.outputs[0]),)
        return [
            Tactic(
                n.key(tile.key), (n.channels_8,) * len(strided), (n.channels_8,) * 2, n.dtype,
                reads_strided=strided, writes_strided=image,
            )
            for n in narrow for tile in _tiles(plain)
        ]  # fmt: skip

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        tile = _Tile.parsed(shape_of(tactic))
        return tile.seconds(Strip.of(_checked(problem)[0], tile.positions))

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        return super().pack(msgspec.structs.replace(code, problem=_checked(code.problem)[0]), weights)

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        tile, (plain, _) = _Tile.parsed(shape_of(tactic)), _checked(problem)
        strip, image = Strip.of(plain, tile.positions), problem.outputs.index(plain.outputs[0])
        inputs = [f"const narrow_t *x{n}" for n in problem.activations]
        results = ["narrow_t *out", "narrow_t *mean"] if image == 0 else ["narrow_t *mean", "narrow_t *out"]
        pitches = ["int out_pitch", *(f"int x{n}_pitch" for n in problem.activations)]
        names = ", ".join([*results, *inputs, "const narrow_t *weights", "const float *bias", *pitches])
        head = f'extern "C" __global__ void {dimensions(tile.blocks)}__launch_bounds__({tile.threads}) kernel({names})'
        channels = problem.types[plain.outputs[0]].concrete({})[1]
        return f"{head} {{{_body(strip, tile, channels)}\n}}\n", {
            "grid": (strip.images * ceil(strip.groups / tile.groups) * tile.blocks,), "block": (tile.threads,),
            "shared": 4 * 8 * (tile.threads + _PARTS * tile.groups + tile.blocks * tile.groups),
            "pitches": (image, *(2 + k for k in range(len(inputs)))),
        }  # fmt: skip


def _parted(problem: Problem) -> tuple[Problem, ProblemLayer] | str:
    """The problem without the mean at its end, and that; or why there is none."""
    last = problem.layers[-1]
    if len(problem.layers) < 2 or not is_mean(problem, last):
        return "no mean over images at its end"
    image = last.inputs[0]
    if set(problem.outputs) != {image, last.outputs[0]} or image != problem.layers[-2].outputs[0]:
        return "other results than the image and its mean"
    return msgspec.structs.replace(problem, layers=problem.layers[:-1], outputs=(image,)), last


def _checked(problem: Problem) -> tuple[Problem, ProblemLayer]:
    found = _parted(problem)
    assert not isinstance(found, str), found
    return found


def _tiles(plain: Problem) -> list[_Tile]:
    """The most promising."""
    strips = {positions: Strip.of(plain, positions) for positions in (1, 2, 4, 7)}
    found = [
        _Tile(positions, groups, blocks, threads)
        for positions, strip in strips.items()
        for groups in (1, 2, 4, 8)
        for blocks in (1, 2, 4, 8)
        for threads in (256, 512, 1024)
        if groups < 2 * strip.groups
        and (blocks == 1 or strip.count * groups >= threads // 2 * blocks)
        and threads * positions <= 2048  # more do not fit into a thread's registers
    ]
    # Of equals those first whose neighbours read the most beside each other.
    found.sort(key=lambda tile: (tile.seconds(strips[tile.positions]), -min(tile.groups, 4), tile.threads))
    kept = [[tile for tile in found if tile.positions == positions][:_ALIKE] for positions in strips]
    return sorted((tile for alike in kept for tile in alike), key=found.index)[:_MOST]


def _body(strip: Strip, tile: _Tile, channels: int) -> str:
    """The strips of a block in turns, the sums of its threads, then those of the cluster."""
    across, wide, step = ceil(strip.groups / tile.groups), 8 * tile.groups, tile.threads // tile.groups
    also = "for (int j = 0; j < 8; ++j) sum[j] += to_float(o.e[j]);"
    return f"""
    extern __shared__ unsigned char raw[];
    float *const own = (float *)raw, *const part = own + {8 * tile.threads}, *const met = part + {_PARTS * wide};
    begin_next();
    const int t = threadIdx.x, rank = blockIdx.x % {tile.blocks}, block = blockIdx.x / {tile.blocks};
    const int n = block / {across}, group = block % {across} * {tile.groups} + t % {tile.groups}, c = group * 8;
    const int last = {strip.count} * (rank + 1) / {tile.blocks};
    {"cluster_sync();" if tile.blocks > 1 else ""}
    wait_before();
    float sum[8] = {{}};
    if (group < {strip.groups})
    for (int strip = {strip.count} * rank / {tile.blocks} + t / {tile.groups}; strip < last; strip += {step}) {{
    {strip.lines(also)}
    }}
    for (int j = 0; j < 8; ++j) own[t / {tile.groups} * {wide} + t % {tile.groups} * 8 + j] = sum[j];
    __syncthreads();
    for (int i = t; i < {_PARTS * wide}; i += {tile.threads}) {{
        float s = 0.f;
        for (int k = i / {wide}; k < {step}; k += {_PARTS}) s += own[k * {wide} + i % {wide}];
        part[i] = s;
    }}
    __syncthreads();
    if (t < {wide}) {{
        float s = 0.f;
        for (int k = 0; k < {_PARTS}; ++k) s += part[k * {wide} + t];
        {f"peer(met, 0)[rank * {wide} + t] = s;" if tile.blocks > 1 else "met[t] = s;"}
    }}
    {"cluster_sync();" if tile.blocks > 1 else "__syncthreads();"}
    if (rank == 0 && t < {wide} && block % {across} * {wide} + t < {8 * strip.groups}) {{
        const int channel = block % {across} * {wide} + t;
        float s = 0.f;
        for (int k = 0; k < {tile.blocks}; ++k) s += met[k * {wide} + t];
        s *= {1 / (strip.rows.positions * strip.columns.positions)!r}f;
        mean[n * {8 * strip.groups} + channel] = channel < {channels} ? to_narrow(s) : (narrow_t)0;
    }}"""
