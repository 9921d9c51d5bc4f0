"""Examples of a layer: its cases with values drawn, other sizes put in, and its reference run on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Case, Dim, Dimension, LayerType, TensorInfo, TensorType, dtype_name, is_float
from tenonrt.dims import bounds
from tenonrt.graph.attributes import make_attrs
from tenonrt.graph.graph import constant_info


class SeededRun:
    """The `Run` of a layer without subgraphs."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)

    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        raise AssertionError("a layer without subgraphs asked to run one")


@dataclass(frozen=True)
class Example:
    """A case whose attributes are of the layer type's class; inputs are types, arrays or None."""

    name: str
    layer_type: LayerType
    attrs: Any
    inputs: tuple[Any, ...]

    @property
    def infos(self) -> list[TensorInfo | None]:
        """What `LayerType.infer` is given; arrays are constants, whose small values are known."""
        return [_info(value) for value in self.inputs]

    @property
    def types(self) -> list[TensorType | None]:
        return [None if info is None else info.type for info in self.infos]

    def infer(self) -> list[TensorInfo]:
        return self.layer_type.infer(self.attrs, self.infos)

    def arrays(self, seed: int = 0) -> list[Array | None]:
        """The inputs: arrays as given, the others drawn by `LayerType.sample`. All are read-only."""
        drawn = self.layer_type.sample(self.attrs, self.types, np.random.default_rng(seed))
        values = [given if isinstance(given, np.ndarray) else d for given, d in zip(self.inputs, drawn, strict=True)]
        return [None if value is None else _read_only(value) for value in values]

    def run(self, arrays: Sequence[Array | None]) -> list[Array]:
        with np.errstate(all="ignore"):
            return self.layer_type.reference(self.attrs, arrays, SeededRun())

    # other examples made from this one ------------------------------------------------------------------------------

    def sizes(self) -> list[int]:
        """The distinct sizes of dimensions of the inputs that are types."""
        types = [value for value in self.inputs if isinstance(value, TensorType)]
        return sorted({d for type in types for d in type.shape if isinstance(d, int)})

    def resized(self, sizes: Mapping[int, Dimension]) -> Example:
        """Every dimension of a size replaced by another dimension, in all inputs that are types."""
        inputs = [
            v.reshape([sizes.get(d, d) if isinstance(d, int) else d for d in v.shape])
            if isinstance(v, TensorType)
            else v
            for v in self.inputs
        ]
        return replace(self, inputs=tuple(inputs))

    def with_input(self, index: int, value: Any) -> Example:
        return replace(self, inputs=(*self.inputs[:index], value, *self.inputs[index + 1 :]))

    def widened(self) -> Example:
        """Floating-point inputs as float64, as the core judges kernels."""
        return replace(self, inputs=tuple(_widened(value) for value in self.inputs))


def examples(kind: str, layer_type: LayerType) -> list[Example]:
    """The cases of a layer type."""
    made = []
    for number, case in enumerate(layer_type.cases()):
        attrs = make_attrs(layer_type, kind, kind, case.attrs)
        made.append(Example(case.name or f"case {number}", layer_type, attrs, _padded(layer_type, case)))
    return made


def owns_subgraphs(layer_type: LayerType) -> bool:
    """Whether the core runs the layer (If, Loop, Scan) and no Case can hold one."""
    return type(layer_type).infer_control is not LayerType.infer_control


def disagreement(infos: Sequence[TensorInfo], results: Sequence[Any]) -> str:
    """How results differ from what was inferred (shape, element type, class); empty when they agree."""
    if len(infos) != len(results):
        return f"{len(infos)} outputs inferred, {len(results)} computed"
    for index, (info, result) in enumerate(zip(infos, results, strict=True)):
        if not isinstance(result, np.ndarray):
            return f"output {index} is a {type(result).__name__}, not an array"
        if not _fits(info, result):
            return f"output {index}: inferred {info.type}, computed {dtype_name(result.dtype)}{list(result.shape)}"
    return ""


def _fits(info: TensorInfo, result: Array) -> bool:
    same_rank = info.rank == result.ndim and info.dtype == dtype_name(result.dtype)
    return same_rank and all(_admits(d, n) for d, n in zip(info.shape, result.shape, strict=True))


def _admits(dimension: Dimension, size: int) -> bool:
    """Whether a dimension may have a size; one that depends on data need only admit it."""
    if not isinstance(dimension, Dim):
        return int(dimension) == size
    lower, upper = bounds(dimension)
    return (lower is None or lower <= size) and (upper is None or size <= upper)


def same_values(left: Sequence[Array], right: Sequence[Array]) -> bool:
    """Equal bit for bit; strings by value."""
    return len(left) == len(right) and all(
        a.shape == b.shape and a.dtype == b.dtype and (a.tolist() == b.tolist() if a.dtype.hasobject else _bits(a, b))
        for a, b in zip(left, right, strict=True)
    )


def _bits(a: Array, b: Array) -> bool:
    return a.tobytes() == b.tobytes()


def _padded(layer_type: LayerType, case: Case) -> tuple[Any, ...]:
    declared = layer_type.inputs
    if declared and declared[-1].endswith("*"):
        return tuple(case.inputs)
    return (*case.inputs, *[None] * (len(declared) - len(case.inputs)))


def _info(value: Any) -> TensorInfo | None:
    if value is None:
        return None
    return TensorInfo(value) if isinstance(value, TensorType) else constant_info(value)


def _widened(value: Any) -> Any:
    if isinstance(value, TensorType) and is_float(value.dtype):
        return TensorType(value.shape, "float64")
    if isinstance(value, np.ndarray) and is_float(dtype_name(value.dtype)):
        return value.astype(np.float64)
    return value


def _read_only(values: Array) -> Array:
    view = values.view()
    view.flags.writeable = False
    return view
