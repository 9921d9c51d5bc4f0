"""Convolutions as cuDNN graphs, and the plans that its heuristics offer for them.

NVIDIA, "cuDNN front end", graph API: a graph of operations is validated, heuristics list engine configurations, and a
configuration is built into a plan that can be serialised.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from tenonrt_kernel_cudnn.library import cudnn, handle, lock

# What the operands are called in a graph.
IMAGE, FILTERS, BIAS, ADDED, RESULT, LIMIT = 1, 2, 3, 4, 5, 6

_ELEMENT_TYPES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT", "int8": "INT8"}
_TEXT_OF_PLAN = b"cudnn_backend_dataS"
_LENGTHS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}  # types of UBJSON as struct names them


@dataclass(frozen=True)
class Window:
    """The sizes of a convolution with channels innermost, as cuDNN orders them, NCHW, and its padding."""

    image: tuple[int, ...]
    filters: tuple[int, ...]
    result: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    def finished(self, graph: Any, value: Any, kind: Any) -> Any:
        """The graph with this value as its result, of an element type, validated."""
        value.set_output(True).set_data_type(kind).set_uid(RESULT)
        value.set_dim(list(self.result)).set_stride(channels_innermost(self.result))
        graph.validate()
        graph.build_operation_graph()
        return graph


@dataclass(frozen=True)
class Description(Window):
    """A convolution, sums in single precision, and what follows.

    added: a tensor of the result's shape is added, before the bias where ``added_first``. activation: its name and
    upper limit. stored: the element type, float16, bfloat16, or
    float32 that is multiplied as TF32, which engines on tensor cores do.
    """

    bias: bool
    added: bool
    activation: tuple[str, float | None] | None
    added_first: bool = False
    stored: str = "float16"

    def stated(self) -> Any:
        """The graph, validated."""
        return stated(self)


class Stated(Protocol):
    """What a graph is made from: a value that is equal for equal graphs."""

    def stated(self) -> Any: ...
    def __hash__(self) -> int: ...


def channels_innermost(sizes: Sequence[int]) -> list[int]:
    """Strides of NCHW sizes whose channels follow each other."""
    _, channels, height, width = sizes
    return [channels * height * width, 1, channels * width, channels]


def element_type(name: str) -> Any:
    """What the front end calls an element type."""
    return getattr(cudnn().data_type, _ELEMENT_TYPES[name])


def stated(description: Description) -> Any:
    """The graph, validated."""
    cu, d = cudnn(), description
    narrow, single = element_type(d.stored), cu.data_type.FLOAT
    graph = cu.pygraph(io_data_type=narrow, intermediate_data_type=single, compute_data_type=single, handle=handle())

    def tensor(sizes: Sequence[int], uid: int) -> Any:
        return graph.tensor(dim=list(sizes), stride=channels_innermost(sizes), data_type=narrow, uid=uid)

    value = graph.conv_fprop(
        image=tensor(d.image, IMAGE), weight=tensor(d.filters, FILTERS), pre_padding=list(d.before),
        post_padding=list(d.after), stride=list(d.stride), dilation=list(d.dilation),
    )  # fmt: skip
    steps = [("bias", d.bias), ("added", d.added)]
    for step, wanted in reversed(steps) if d.added_first else steps:
        if wanted and step == "bias":
            value = graph.bias(input=value, bias=tensor((1, d.result[1], 1, 1), BIAS))
        elif wanted:
            value = graph.add(a=value, b=tensor(d.result, ADDED))
    if d.activation is not None:
        value = _activated(graph, value, *d.activation, tensor)
    return d.finished(graph, value, narrow)


def _activated(graph: Any, value: Any, name: str, limit: float | None, tensor: Any) -> Any:
    """An activation. A clip is a minimum: engines that fuse know no ReLU with an upper bound."""
    if name == "relu":
        value = graph.relu(input=value)
        return value if limit is None else graph.min(input0=value, input1=tensor((1, 1, 1, 1), LIMIT))
    return graph.sigmoid(input=value) if name == "sigmoid" else _swish(graph, value)


def _swish(graph: Any, value: Any) -> Any:
    """SiLU; in parts for front ends whose binding of it (1.18) takes none of the arguments that it names."""
    try:
        return graph.swish(input=value)
    except TypeError:
        return graph.mul(a=value, b=graph.sigmoid(input=value))


# A worker is asked about one problem after the other, with a few variants of each.
@lru_cache(maxsize=8)
def planned(description: Stated, workspace: int) -> tuple[Any, Mapping[str, int]]:
    """The graph with its engine configurations: their names, best guess first, and their numbers."""
    cu = cudnn()
    with lock:
        graph = description.stated()
        graph.deselect_workspace_greater_than(workspace)
        graph.create_execution_plans([cu.heur_mode.A, cu.heur_mode.B, cu.heur_mode.FALLBACK])
        names: dict[str, int] = {}
        for number in range(graph.get_execution_plan_count()):
            names.setdefault(graph.get_plan_name_at_index(number), number)
    return graph, names


def offered(description: Stated, workspace: int) -> list[str]:
    """Names of the engine configurations, best guess first; none where no engine of this GPU takes the graph."""
    try:
        return list(planned(description, workspace)[1])
    except cudnn().cudnnGraphNotSupportedError:
        return []


def built(description: Stated, workspace: int, name: str) -> tuple[bytes, int]:
    """The text of a configuration's plan, and its workspace in bytes; `ValueError` where it is no longer offered."""
    graph, names = planned(description, workspace)
    if name not in names:
        raise ValueError(f"cuDNN no longer offers the engine configuration {name}")
    with lock:
        graph.build_plan_at_index(names[name])
        workspace = int(graph.get_workspace_size_plan_at_index(names[name]))
        return plan_text(bytes(graph.serialize())), workspace


def plan_text(serialised: bytes) -> bytes:
    """The backend's own text of a plan, JSON, in what the front end makes of a graph; `ValueError` where it has none.

    That is UBJSON (ubjson.org, draft 12), in which a name is followed by S, the type and value of a length, and a text.
    """
    start = serialised.find(_TEXT_OF_PLAN) + len(_TEXT_OF_PLAN)
    size = struct.Struct(_LENGTHS.get(serialised[start : start + 1], "x"))
    begin = start + 1 + size.size
    if start < len(_TEXT_OF_PLAN) or size.format == "x" or len(serialised) < begin:
        raise ValueError("cuDNN's front end serialises plans in a form that is not known here")
    (length,) = size.unpack_from(serialised, start + 1)
    return serialised[begin : begin + length]
