"""Local response normalization as exporters write it, in one pass over channels that are innermost.

x * x -> Reshape to [N, 1, C, ...] -> Padding of the channels by zeros -> average Pooling over the channels -> Squeeze
-> * scale -> + k -> ** beta -> x / that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tenonrt.contracts import GraphView, Layer, Problem, Tactic, Tensor, only_reader

from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.maps import BLOCK
from tenonrt_kernel_nvrtc.storage import CHANNELS_8

KINDS = (
    "Elementwise",
    "Reshape",
    "Padding",
    "Pooling",
    "Squeeze",
    "Elementwise",
    "Elementwise",
    "Elementwise",
    "Elementwise",
)
_POOLING = KINDS.index("Pooling")
_OPERATIONS = ("prod", "prod", "sum", "pow", "div")


@dataclass(frozen=True)
class Response:
    """x / (k + scale * sum of squares over ``before`` channels, its own, and ``after`` channels) ** beta."""

    before: int
    after: int
    scale: float
    k: float
    beta: float


class ResponseKernel(CudaKernel):
    """The chain around an average pooling over channels."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        region = _chain(view, layer)
        if region is not None:
            yield region

    def refuses(self, problem: Problem) -> str:
        if problem.kinds != KINDS:
            return "no local response normalization"
        found = read_response(problem)
        return found if isinstance(found, str) else ""

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic("nhwc", (CHANNELS_8,), (CHANNELS_8,), "float16", reads_strided=(0,), writes_strided=(0,)),)

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        response = read_response(problem)
        assert isinstance(response, Response)
        images, channels, height, width = problem.types[problem.outputs[0]].concrete({})
        groups = -(-channels // 8)
        count = images * height * width * groups
        r = response
        body = f"""
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= {count}) return;
    const int c = t % {groups} * 8; const long long pixel = t / {groups};
    const half_t *from = x + pixel * x_pitch;
    float v[24];
    #pragma unroll
    for (int g = 0; g < 3; ++g) {{
        const int at = c + (g - 1) * 8;
        Vec<half_t, 8> e{{}};
        if (at >= 0 && at < {groups * 8}) e = fetch<half_t, 8>(from + at);
        for (int j = 0; j < 8; ++j) v[g * 8 + j] = at + j < {channels} ? to_float(e.e[j]) : 0.f;
    }}
    Vec<half_t, 8> o;
    #pragma unroll
    for (int j = 0; j < 8; ++j) {{
        float s = 0.f;
        #pragma unroll
        for (int d = -{r.before}; d <= {r.after}; ++d) s += v[8 + j + d] * v[8 + j + d];
        o.e[j] = to_half(v[8 + j] * powf({r.k!r}f + {r.scale!r}f * s, -{r.beta!r}f));
    }}
    put(out + pixel * out_pitch + c, o);
"""
        text = (
            f'extern "C" __global__ void kernel(half_t *out, const half_t *x, int out_pitch, int x_pitch) {{{body}}}\n'
        )
        return text, {"grid": grid(count, BLOCK), "block": (BLOCK,), "pitches": (0, 1)}


def _chain(view: GraphView, pooling: Layer) -> list[Layer] | None:
    """The chain that a pooling is in the middle of; what it computes is checked later."""
    before: list[Layer] = []
    tensor: Tensor | None = pooling.inputs[0]
    for _ in range(_POOLING):
        producer = view.producer(tensor) if tensor is not None else None
        if producer is None:
            return None
        before.insert(0, producer)
        tensor = producer.inputs[0]
    region = [*before, pooling]
    while len(region) < len(KINDS):
        reader = only_reader(view, region[-1].outputs[0])
        if reader is None:
            return None
        region.append(reader)
    alone = all(only_reader(view, layer.outputs[0]) is not None for layer in region[:-1])
    return region if alone and tuple(layer.kind for layer in region) == KINDS else None


def read_response(problem: Problem) -> Response | str:
    """The normalization of a problem with these kinds, or what it is instead."""
    square, reshape, padding, pooling, _, scaled, added, raised, quotient = problem.layers
    operations = tuple(layer.attrs.operation for layer in (square, scaled, added, raised, quotient))
    source = square.inputs[0]
    if operations != _OPERATIONS or square.inputs != (source, source) or problem.activations != (source,):
        return "other operations"
    if quotient.inputs != (source, raised.outputs[0]) or problem.outputs != quotient.outputs:
        return "a quotient of something else"
    type = problem.types[source]
    if type.rank != 4 or type.dtype != "float32" or not type.size:
        return "no image of float32"
    images, channels, height, width = type.concrete({})
    if problem.types[reshape.outputs[0]].concrete({}) != (images, 1, channels, height, width):
        return "channels that are not taken apart"
    pads = problem.inputs[padding.inputs[1]].value if padding.inputs[1] < len(problem.inputs) else None
    window = pooling.attrs.window
    if pads is None or padding.attrs.mode != "constant" or any(i >= 0 for i in padding.inputs[2:]):
        return "another padding"
    if len(pads) != 10 or any(p for i, p in enumerate(pads) if i not in (2, 7)) or window[1:] != (1, 1):
        return "windows over more than the channels"
    before, after = int(pads[2]), int(pads[7])
    plain = not any((*pooling.attrs.pre_padding, *pooling.attrs.post_padding)) and set(pooling.attrs.stride) <= {1}
    if pooling.attrs.function != "average" or not plain or window[0] != before + after + 1 or max(before, after) > 8:
        return "another pooling"
    numbers = [_number(problem, layer.inputs[1]) for layer in (scaled, added, raised)]
    if any(n is None for n in numbers):
        return "parameters that are computed"
    alpha, k, beta = (float(n) for n in numbers if n is not None)
    return Response(before, after, alpha / window[0], k, beta)


def _number(problem: Problem, tensor: int) -> float | None:
    given = problem.inputs[tensor].value if tensor < len(problem.inputs) else None
    return float(given[0]) if given is not None and len(given) == 1 else None
