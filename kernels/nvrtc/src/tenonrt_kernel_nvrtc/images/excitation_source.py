"""The source of two small products: weights are read before earlier kernels end, numbers between go to all blocks."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from tenonrt.contracts import Problem, ProblemLayer

from tenonrt_kernel_nvrtc.clusters import dimensions, together
from tenonrt_kernel_nvrtc.expressions import QUICK
from tenonrt_kernel_nvrtc.images.excitation_problem import Pair
from tenonrt_kernel_nvrtc.pointwise import chain
from tenonrt_kernel_nvrtc.reductions.rows import REDUCTIONS

_AHEAD = 64  # weights of a result that a thread reads before it can use them


@dataclass(frozen=True)
class Shape:
    """Blocks of a cluster, which have an image, and threads of each."""

    blocks: int
    threads: int

    @classmethod
    def parsed(cls, key: str) -> Shape:
        return cls(*(int(text) for text in key.split("x")))

    @property
    def key(self) -> str:
        return f"{self.blocks}x{self.threads}"

    def shared(self, pair: Pair) -> int:
        """Bytes: what is given, the numbers between, and of images the sums of threads and of all blocks."""
        padded = pair.given + -pair.given % 8
        sums = 8 * max(self.threads, padded // 8) + self.blocks * padded if pair.pixels else 0
        return 4 * (padded + pair.middle + -pair.middle % 4 + sums)


def source(problem: Problem, pair: Pair, shape: Shape) -> str:
    """What reductions take, and the function ``kernel``."""
    image = problem.layer.inputs[0]
    names = [
        "narrow_t *out", f"const narrow_t *x{image}", "const narrow_t *weights", "const float *bias",
        "const narrow_t *weights_back", "const float *bias_back", *([f"int x{image}_pitch"] if pair.pixels else []),
    ]  # fmt: skip
    given = _means(pair, shape, image) if pair.pixels else _read(pair, shape, image)
    body = f"{_start(pair, shape)}{given}{_first(problem, pair, shape)}{_second(problem, pair, shape)}"
    head = f'extern "C" __global__ void {dimensions(shape.blocks)}__launch_bounds__({shape.threads}) kernel('
    return f"{REDUCTIONS}{head}{', '.join(names)}) {{{body}\n}}\n"


def _groups(pair: Pair) -> int:
    return -(-pair.given // 8)


def _pieces(pair: Pair) -> str:
    """For each piece of 8 weights that a lane has of a row."""
    groups = _groups(pair)
    return f'_Pragma("unroll") for (int i = 0; i < {-(-groups // 32)}; ++i) if (i * 32 + lane < {groups})'


def _weights(pair: Pair) -> str:
    return (
        f"{_pieces(pair)} w[i] = fetch<narrow_t, 8>(weights + ((long long)row * {_groups(pair)} + i * 32 + lane) * 8);"
    )


def _ahead(pair: Pair, shape: Shape) -> bool:
    """Whether a thread has one result at most, so that it can read all weights of it early."""
    return -(-(pair.made + -pair.made % 8) // shape.blocks) <= shape.threads and pair.middle <= _AHEAD


def _start(pair: Pair, shape: Shape) -> str:
    """Places; all blocks are there before one writes into another's memory; weights of a warp's first row, and back."""
    groups, made = _groups(pair), pair.made + -pair.made % 8
    rows, share = -(-pair.middle // shape.blocks), -(-made // shape.blocks)
    back = f"""narrow_t back[{pair.middle}]; float y_bias = 0.f;
    if (c0 < most) {{
        y_bias = bias_back[c0];
        _Pragma("unroll") for (int i = 0; i < {pair.middle}; ++i) back[i] = weights_back[i * {made} + c0];
    }}""" if _ahead(pair, shape) else ""  # fmt: skip
    return f"""
    extern __shared__ unsigned char raw[];
    float *const given = (float *)raw, *const middle = given + {groups * 8};
    begin_next();
    const int t = threadIdx.x, lane = t % 32, rank = blockIdx.x % {shape.blocks}, n = blockIdx.x / {shape.blocks};
    const int first = rank * {rows} + t / 32, last = min((rank + 1) * {rows}, {pair.middle});
    const int c0 = rank * {share} + t, most = min((rank + 1) * {share}, {made});
    Vec<narrow_t, 8> w[{-(-groups // 32)}]; float w_bias = 0.f;
    {{ const int row = first; if (row < last) {{ w_bias = bias[row]; {_weights(pair)} }} }}
    {back}
    {"cluster_sync();" if shape.blocks > 1 else ""}
    wait_before();"""


def _read(pair: Pair, shape: Shape, image: int) -> str:
    groups = _groups(pair)
    return f"""
    for (int i = t; i < {groups}; i += {shape.threads}) {{
        const auto e = fetch<narrow_t, 8>(x{image} + ((long long)n * {groups} + i) * 8);
        for (int j = 0; j < 8; ++j) given[i * 8 + j] = to_float(e.e[j]);
    }}
    __syncthreads();"""


def _means(pair: Pair, shape: Shape, image: int) -> str:
    """The sums of a block's pixels go to all blocks; neighbouring threads have neighbouring channels."""
    groups = _groups(pair)
    beside, wide = max(1, shape.threads // groups), 8 * groups
    place = f"{pair.pixels} * rank / {shape.blocks}"
    tell = "".join(f"peer(met, {k})[rank * {wide} + c] = s; " for k in range(shape.blocks))
    return f"""
    float *const own = middle + {pair.middle + -pair.middle % 4}, *const met = own + {8 * max(shape.threads, groups)};
    for (int at = t; at < {beside * groups}; at += {shape.threads}) {{
        const int last = {pair.pixels} * (rank + 1) / {shape.blocks};
        float s[8] = {{}};
        _Pragma("unroll 8") for (int i = {place} + at / {groups}; i < last; i += {beside}) {{
            const long long pixel = (long long)n * {pair.pixels} + i;
            const auto e = fetch<narrow_t, 8>(x{image} + pixel * x{image}_pitch + at % {groups} * 8);
            for (int j = 0; j < 8; ++j) s[j] += to_float(e.e[j]);
        }}
        for (int j = 0; j < 8; ++j) own[at * 8 + j] = s[j];
    }}
    __syncthreads();
    for (int c = t; c < {wide}; c += {shape.threads}) {{
        float s = 0.f;
        for (int k = 0; k < {beside}; ++k) s += own[k * {wide} + c];
        {tell if shape.blocks > 1 else "met[c] = s;"}
    }}
    {together(shape.blocks)}
    for (int c = t; c < {wide}; c += {shape.threads}) {{
        float s = 0.f;
        for (int k = 0; k < {shape.blocks}; ++k) s += met[k * {wide} + c];
        given[c] = s * {1 / pair.pixels!r}f;
    }}
    __syncthreads();"""


def _first(problem: Problem, pair: Pair, shape: Shape) -> str:
    """A warp to each number between."""
    lines, value = _activated(problem, pair.first, pair.between)
    peers = "".join(f"peer(middle, {k})[row] = found; " for k in range(shape.blocks))
    return f"""
    for (int row = first; row < last; row += {shape.threads // 32}) {{
        if (row != first) {{ w_bias = bias[row]; {_weights(pair)} }}
        float a = 0.f;
        {_pieces(pair)}
            for (int j = 0; j < 8; ++j) a += to_float(w[i].e[j]) * given[(i * 32 + lane) * 8 + j];
        a = row_sum<32>(a);
        if (lane) continue;
        const float y{pair.first.outputs[0]} = a + w_bias; {lines} const float found = {value};
        {peers if shape.blocks > 1 else "middle[row] = found;"}
    }}"""


def _second(problem: Problem, pair: Pair, shape: Shape) -> str:
    """A thread to each result."""
    made, ahead = pair.made + -pair.made % 8, _ahead(pair, shape)
    lines, value = _activated(problem, pair.second, pair.behind)
    stored = f"to_narrow({value})" if made == pair.made else f"c < {pair.made} ? to_narrow({value}) : (narrow_t)0"
    weight = "back[i]" if ahead else f"weights_back[i * {made} + c]"
    return f"""
    {together(shape.blocks)}
    for (int c = c0; c < most; c += {shape.threads}) {{
        float y{pair.second.outputs[0]} = {"y_bias" if ahead else "bias_back[c]"};
        _Pragma("unroll{"" if ahead else " 16"}") for (int i = 0; i < {pair.middle}; ++i)
            y{pair.second.outputs[0]} += to_float({weight}) * middle[i];
        {lines}
        out[(long long)n * {made} + c] = {stored};
    }}"""


def _activated(problem: Problem, product: ProblemLayer, tail: tuple[ProblemLayer, ...]) -> tuple[str, str]:
    """Lines of the activations behind a product, whose sum is in ``y<its result>``, and the last one's value."""
    number = product.outputs[0]
    if not tail:
        return "", f"y{number}"
    part = msgspec.structs.replace(problem, layers=tail, outputs=(tail[-1].outputs[0],))
    lines, value = chain(part, {f"x{number}": f"y{number}"}, skip=frozenset(problem.constants), instead=QUICK)
    return " ".join(lines), value
