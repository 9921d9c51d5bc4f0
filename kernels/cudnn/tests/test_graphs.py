"""Graphs as they are stated to cuDNN's front end: by words that it has, in the element types that they are to have."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tenonrt_kernel_cudnn import byte_graphs, graphs
from tenonrt_kernel_cudnn.byte_graphs import ADDED_FACTOR, FACTORS, ByteDescription
from tenonrt_kernel_cudnn.graphs import ADDED, BIAS, FILTERS, IMAGE, LIMIT, RESULT, Description


class Value:
    """A tensor of a graph."""

    def __init__(self, kind: str, uid: int = 0) -> None:
        self.kind, self.uid = kind, uid

    def set_data_type(self, kind: str) -> Value:
        self.kind = kind
        return self

    def set_uid(self, uid: int) -> Value:
        self.uid = uid
        return self

    def set_output(self, given: bool) -> Value:
        return self

    set_dim = set_stride = set_output


class Graph:
    """What is used of the front end's graph, no more; it keeps the operands."""

    def __init__(self, io_data_type: str, intermediate_data_type: str, compute_data_type: str, handle: Any) -> None:
        self.types = (io_data_type, intermediate_data_type, compute_data_type)
        self.values: list[Value] = []

    def tensor(self, dim: Any, stride: Any, data_type: str, uid: int) -> Value:
        self.values.append(Value(data_type, uid))
        return self.values[-1]

    def made(self, **operands: Any) -> Value:
        self.values.append(Value(self.types[1]))
        return self.values[-1]

    conv_fprop = bias = add = mul = relu = min = swish = sigmoid = made

    def validate(self) -> None: ...
    def build_operation_graph(self) -> None: ...

    @property
    def operands(self) -> dict[int, str]:
        return {value.uid: value.kind for value in self.values if value.uid}


@pytest.fixture(autouse=True)
def front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HALF", "BFLOAT16", "FLOAT", "INT8", "INT32")
    found = SimpleNamespace(data_type=SimpleNamespace(**{name: name for name in names}), pygraph=Graph)
    for module in (graphs, byte_graphs):
        monkeypatch.setattr(module, "cudnn", lambda: found)
        monkeypatch.setattr(module, "handle", lambda: None)


SIZES = ((2, 16, 9, 7), (32, 16, 3, 3), (2, 32, 9, 7), (1, 1), (1, 1), (1, 1), (1, 1))


@pytest.mark.parametrize(("stored", "kind"), [("float16", "HALF"), ("bfloat16", "BFLOAT16")])
@pytest.mark.parametrize("activation", [("relu", 6.0), ("swish", None), ("sigmoid", None)])
def test_all_that_convolutions_read_and_write_is_of_their_type(
    stored: str, kind: str, activation: tuple[str, float | None]
) -> None:
    d = Description(*SIZES, bias=True, added=True, activation=activation, stored=stored)
    for description in (d, replace(d, added_first=True)):
        graph = description.stated()
        limit = {LIMIT: kind} if activation[1] else {}
        assert graph.operands == dict.fromkeys((IMAGE, FILTERS, BIAS, ADDED, RESULT), kind) | limit
        assert graph.types == (kind, "FLOAT", "FLOAT")


@pytest.mark.parametrize(("stored", "kind"), [("int8", "INT8"), ("float16", "HALF"), ("bfloat16", "BFLOAT16")])
def test_convolutions_of_bytes_are_stated(stored: str, kind: str) -> None:
    """A word of theirs was misspelt, and without a GPU nothing had said so."""
    graph = ByteDescription(*SIZES, stored, added=True, rectified=True, limited=True).stated()
    read = dict.fromkeys((IMAGE, FILTERS, ADDED), "INT8")
    factors = dict.fromkeys((FACTORS, BIAS, ADDED_FACTOR, LIMIT), "FLOAT")
    assert graph.operands == read | factors | {RESULT: kind}
