"""Convolutions on bytes as cuDNN graphs: sums in int32, then one factor and one offset for each channel.

NVIDIA, "cuDNN", graph API: an integer convolution with pointwise operations behind it is one engine, which rounds
to the nearest integer and saturates where it stores bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenonrt_kernel_cudnn.graphs import ADDED, BIAS, FILTERS, IMAGE, LIMIT, Window, channels_innermost, element_type
from tenonrt_kernel_cudnn.library import cudnn, handle

# What the factors of channels and of what is added are called in a graph.
FACTORS, ADDED_FACTOR = 7, 8


@dataclass(frozen=True)
class ByteDescription(Window):
    """result = convert(clip(factors * convolution + bias + added_factor * added)).

    stored: the element type of the result, int8 or a float of 16 bits. added: whether a tensor of int8 is added.
    rectified: negative values are zero; limited: large ones are an upper limit.
    """

    stored: str
    added: bool
    rectified: bool
    limited: bool

    def stated(self) -> Any:
        """The graph, validated."""
        cu = cudnn()
        single, byte = cu.data_type.FLOAT, element_type("int8")
        graph = cu.pygraph(io_data_type=byte, intermediate_data_type=single, compute_data_type=single,
                           handle=handle())  # fmt: skip

        def tensor(sizes: Sequence[int], uid: int, kind: Any) -> Any:
            return graph.tensor(dim=list(sizes), stride=channels_innermost(sizes), data_type=kind, uid=uid)

        value = graph.conv_fprop(
            image=tensor(self.image, IMAGE, byte), weight=tensor(self.filters, FILTERS, byte),
            pre_padding=list(self.before), post_padding=list(self.after), stride=list(self.stride),
            dilation=list(self.dilation), compute_data_type=cu.data_type.INT32,
        )  # fmt: skip
        value.set_data_type(cu.data_type.INT32)
        channels, one = (1, self.result[1], 1, 1), (1, 1, 1, 1)
        value = graph.mul(a=value, b=tensor(channels, FACTORS, single))
        value.set_data_type(single)
        value = graph.add(a=value, b=tensor(channels, BIAS, single))
        if self.added:
            other = tensor(self.result, ADDED, byte)
            scaled = graph.mul(a=other, b=tensor(one, ADDED_FACTOR, single))
            scaled.set_data_type(single)
            value = graph.add(a=value, b=scaled)
        if self.rectified:
            value = graph.relu(input=value)
        if self.limited:
            value = graph.min(input0=value, input1=tensor(one, LIMIT, single))
        return self.finished(graph, value, element_type(self.stored))
