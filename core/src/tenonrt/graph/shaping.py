"""Fixing or bounding the symbolic dimensions of a network's inputs before it is optimized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tenonrt.dims import Dim, Dimension, Symbol, substitute, symbol, symbols
from tenonrt.errors import BuildError
from tenonrt.graph.graph import Graph, Tensor
from tenonrt.graph.inference import infer


def specialise_inputs(graph: Graph, max_batch: int | None, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give inputs the shapes asked for, bound the batch symbol by ``max_batch``, and infer everything anew."""
    values: dict[str, Dimension] = {**shape_sizes(graph, shapes)}
    if max_batch is not None:
        if not shapes:
            _require_batch_symbol(graph, max_batch)
        values.update(_bound_batch(graph, max_batch, values))
    if values:
        substitute_symbols(graph, values)


def shape_sizes(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The sizes of symbols at which inputs have these shapes; `BuildError` where they cannot."""
    values: dict[str, int] = {}
    known = {tensor.name: tensor for tensor in graph.inputs}
    for name, shape in shapes.items():
        if name not in known:
            raise BuildError(f"there is no input {name!r} to shape; the inputs are {', '.join(known)}")
        _add(values, _solve(known[name], shape), name)
    return values


def _add(values: dict[str, int], found: Mapping[str, int], name: str) -> None:
    """A symbol that two inputs share has one size."""
    for symbol_name, size in found.items():
        if values.setdefault(symbol_name, size) != size:
            raise BuildError(
                f"the shape given for input {name!r} makes {symbol_name} {size}, which another axis of that name makes "
                f"{values[symbol_name]}; give both the same size"
            )


def substitute_symbols(graph: Graph, values: Mapping[str, Dimension]) -> None:
    """Replace symbols in the inputs' types and infer every layer again."""
    for tensor in graph.inputs:
        tensor.info = msgspec.structs.replace(tensor.info, type=tensor.type.substitute(values))
    reinfer(graph)


def reinfer(graph: Graph) -> None:
    """Infer all layers in order; subgraphs first see the types of what they capture."""
    for layer in graph.layers:
        for subgraph in layer.graphs:
            for outer, inner in subgraph.captures:
                inner.info = outer.info
            reinfer(subgraph)
        for tensor, info in zip(layer.outputs, infer(layer), strict=True):
            tensor.info = info


def _solve(tensor: Tensor, shape: Sequence[int]) -> dict[str, int]:
    """The symbol values under which an input has this shape."""
    if len(shape) != tensor.type.rank:
        raise BuildError(f"input {tensor.name!r} is {tensor.type}; the shape {tuple(shape)} has another rank")
    values: dict[str, int] = {}
    for dimension, size in zip(tensor.type.shape, shape, strict=True):
        found = list(symbols(dimension))
        if len(found) == 1 and dimension == _plain(found[0]):
            _check_range(tensor, found[0], size)
            _add(values, {found[0].name: size}, tensor.name)
        elif dimension != size and substitute(dimension, values) != size:
            raise BuildError(f"input {tensor.name!r} is {tensor.type}; it cannot have the shape {tuple(shape)}")
    return values


def _plain(found: Symbol) -> Dimension:
    return found.renamed(found.name)


def _check_range(tensor: Tensor, found: Symbol, size: int) -> None:
    if size < found.lower or (found.upper is not None and size > found.upper):
        limits = f"{found.lower} to {found.upper if found.upper is not None else 'any'}"
        raise BuildError(f"input {tensor.name!r}: {found.name} = {size} is outside its range, {limits}")


def _require_batch_symbol(graph: Graph, max_batch: int) -> None:
    """`BuildError` where every input has a fixed first dimension, of another size: the bound would change nothing."""
    first = [tensor.type.shape[0] for tensor in graph.inputs if tensor.type.rank]
    if max_batch in first or any(isinstance(size, Dim) for size in first):
        return
    found = ", ".join(f"{tensor.name} {tensor.type}" for tensor in graph.inputs) or "none"
    raise BuildError(
        f"max_batch is {max_batch}, but no input has a batch that varies (inputs: {found}); leave max_batch out, "
        f"export the model with a symbolic first dimension, or see what its parser offers (tenonrt build MODEL --help)"
    )


def _bound_batch(graph: Graph, max_batch: int, fixed: Mapping[str, Dimension]) -> dict[str, Dimension]:
    values: dict[str, Dimension] = {}
    for tensor in graph.inputs:
        first = tensor.type.shape[0] if tensor.type.rank else 1
        if isinstance(first, Dim):
            for found in symbols(first):
                if found.name not in fixed:
                    values[found.name] = symbol(found.name, max(1, found.lower), max_batch)
    return values
