"""Applying a patch: whole or not at all, with the types checked and the authorship recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tenonrt.contracts import NewTensor, Patch
from tenonrt.dims import Dim
from tenonrt.errors import GraphError
from tenonrt.graph.attributes import make_attrs
from tenonrt.graph.graph import Graph, Layer, Tensor
from tenonrt.graph.inference import infer
from tenonrt.patch import NewLayer
from tenonrt.plugins.registry import Registry
from tenonrt.types import TensorInfo


def apply_patch(graph: Graph, patch: Patch, author: str, registry: Registry) -> list[Layer]:
    """Change the graph as the patch says; returns the layers to look at again. `GraphError` leaves it as it was."""
    application = _Application(graph, patch, author, registry)
    try:
        application.add_layers()
        application.check()
        touched = application.replace()
    except BaseException:
        application.undo()
        raise
    return application.collect(touched)


class _Application:
    def __init__(self, graph: Graph, patch: Patch, author: str, registry: Registry) -> None:
        self.graph = graph
        self.patch = patch
        self.author = author
        self.registry = registry
        self.tensors: dict[NewTensor, Tensor] = {}
        self.added: list[Layer] = []
        self.named: set[Layer] = set()  # those that take the names of what they replace
        self.readers_before = {id(old): list(old.readers) for old, _ in self._replacements()}

    def _replacements(self) -> Iterator[tuple[Any, Any]]:
        yield from self.patch.replacements

    def add_layers(self) -> None:
        for new, values in self.patch.constants:
            self.tensors[new] = self.graph.add_constant(values)
        names = self._names()
        for proposed in self.patch.layers:
            inherited = names.get(id(proposed))
            layer = self._layer(proposed, inherited)
            if inherited is not None and proposed.name is None:
                self.named.add(layer)
            infos = infer(layer)
            if len(infos) != len(proposed.outputs):
                raise GraphError(f"the patch gives {layer.kind} {len(proposed.outputs)} outputs; it has {len(infos)}")
            self.graph.attach(layer, infos)
            self.added.append(layer)
            self.tensors.update(zip(proposed.outputs, layer.outputs, strict=True))

    def _names(self) -> dict[int, str]:
        """A layer takes the name of the one whose output it replaces."""
        producers = {new: layer for layer in self.patch.layers for new in layer.outputs}
        named = {}
        for old, new in self._replacements():
            if new in producers and old.producer is not None:
                named[id(producers[new])] = old.producer.name
        return named

    def _layer(self, proposed: NewLayer, inherited: str | None) -> Layer:
        layer_type = self.registry.layer_type(proposed.kind)
        name = inherited if proposed.name is None and inherited else self.graph.unique(proposed.name or proposed.kind)
        attrs = make_attrs(layer_type, proposed.kind, name, proposed.attrs)
        inputs = [None if t is None else self._resolve(t) for t in proposed.inputs]
        inputs += [None] * (len(layer_type.inputs) - len(inputs))
        layer = Layer(proposed.kind, name, layer_type, attrs, tuple(inputs))
        layer.patches = (self.author,)
        return layer

    def _resolve(self, tensor: Any) -> Tensor:
        return self.tensors[tensor] if isinstance(tensor, NewTensor) else tensor

    def check(self) -> None:
        for old, replacement in self._replacements():
            new = self._resolve(replacement)
            _check_refines(old, new.info)
            readers = set(self.readers_before[id(old)])
            if new.producer is not None and readers and self._reaches(new.producer, readers):
                raise GraphError(f"replacing {old.name!r} by {new.name!r} would make a cycle")
        replaced = {id(old) for old, _ in self._replacements()}
        for layer in self.patch.removals:
            if any(t.name for t in layer.outputs if id(t) not in replaced and self._in_use(t)):
                raise GraphError(f"layer {layer.name!r} cannot be removed: its outputs are used")

    def _reaches(self, start: Layer, targets: set[Layer]) -> bool:
        """Whether ``start`` would depend on ``targets`` once every replacement is made."""
        if len(self.patch.replacements) == 1:
            return self.graph.reaches(start, targets)
        moved = {id(old): self._resolve(new) for old, new in self._replacements()}
        stack, seen = [start], {start}
        while stack:
            layer = stack.pop()
            if layer in targets:
                return True
            for tensor in layer.inputs:
                follows = moved.get(id(tensor), tensor) if layer not in self.added else tensor
                if follows is not None and follows.producer is not None and follows.producer not in seen:
                    seen.add(follows.producer)
                    stack.append(follows.producer)
        return False

    def _in_use(self, tensor: Any) -> bool:
        return bool(tensor.readers) or self.graph.is_output(tensor)

    def undo(self) -> None:
        for layer in reversed(self.added):
            self.graph.detach(layer)

    def replace(self) -> dict[Layer, None]:
        """Make the replacements and re-infer what reads them; a refusal puts everything back."""
        before = _Before(self.graph, [(old, self._resolve(new)) for old, new in self._replacements()])
        try:
            touched, changed = self._replace()
            touched.update(dict.fromkeys(_reinfer(changed, before.infos)))
        except BaseException:
            before.restore()
            raise
        return touched

    def _replace(self) -> tuple[dict[Layer, None], list[Tensor]]:
        touched: dict[Layer, None] = dict.fromkeys(self.added)
        changed: list[Tensor] = []
        for old, replacement in self._replacements():
            new = self._resolve(replacement)
            new.range = new.range or old.range
            readers = self.readers_before[id(old)]
            if not _same(new.info, old.info):
                changed.append(new)
            self.graph.replace_uses(old, new, readers)
            touched.update(dict.fromkeys(readers))
            if new.producer is not None:
                touched[new.producer] = None
        return touched, changed

    def collect(self, touched: dict[Layer, None]) -> list[Layer]:
        """Drop what nobody needs any more; the layers to look at again."""
        candidates: list[Layer] = list(self.patch.removals)  # type: ignore[arg-type]
        candidates += [old.producer for old, _ in self._replacements() if old.producer is not None]
        self._inherit(self._collect(candidates, touched))
        return [layer for layer in touched if layer in self.graph]

    def _collect(self, candidates: list[Layer], touched: dict[Layer, None]) -> list[Layer]:
        """Detach layers that nobody needs any more, upwards from the candidates."""
        dead = []
        while candidates:
            layer = candidates.pop()
            if layer not in self.graph or self.graph.used(layer) or not layer.layer_type.pure:
                continue
            self.graph.detach(layer)
            dead.append(layer)
            above = [t.producer for t in layer.inputs if t is not None and t.producer is not None]
            candidates.extend(above)
            touched.update(dict.fromkeys(above))
        return dead

    def _inherit(self, dead: list[Layer]) -> None:
        """New layers come from the sources of what they replaced."""
        sources = tuple(dict.fromkeys(s for layer in reversed(dead) for s in layer.sources))
        patches = tuple(dict.fromkeys(p for layer in reversed(dead) for p in layer.patches))
        for layer in self.added:
            layer.sources = tuple(dict.fromkeys((*layer.sources, *sources)))
            layer.patches = (*patches, *layer.patches)
            if layer in self.named:
                layer.name = self._own_name(layer)

    def _own_name(self, layer: Layer) -> str:
        """The inherited name, or those of all sources, made unique where others keep or took it."""
        joined = " + ".join(layer.sources) if len(layer.sources) > 1 else layer.name
        namesakes = [other for other in (*self.added, *self._replaced()) if other is not layer and other in self.graph]
        if joined == layer.name and all(other.name != joined for other in namesakes):
            return joined
        return self.graph.unique(joined)

    def _replaced(self) -> list[Layer]:
        return [old.producer for old, _ in self._replacements() if old.producer is not None]


class _Before:
    """What replacing tensors changes, as it was."""

    def __init__(self, graph: Graph, pairs: list[tuple[Any, Tensor]]) -> None:
        self.graph = graph
        tensors: list[Any] = [tensor for pair in pairs for tensor in pair]
        self.readers = [(tensor, dict(tensor.readers), tensor.range) for tensor in tensors]
        self.inputs = [(layer, layer.inputs) for tensor in tensors for layer in tensor.readers]
        self.outputs = dict(graph.outputs)
        self.infos: dict[Tensor, TensorInfo] = {}

    def restore(self) -> None:
        for tensor, readers, found in self.readers:
            tensor.readers, tensor.range = readers, found
        for layer, inputs in self.inputs:
            layer.inputs = inputs
        for name, tensor in self.outputs.items():
            self.graph.set_output(name, tensor)
        for tensor, info in self.infos.items():
            tensor.info = info


def _reinfer(changed: list[Tensor], before: dict[Tensor, TensorInfo]) -> list[Layer]:
    """Re-infer readers of tensors whose type or known value changed, downwards until nothing changes."""
    visited: dict[Layer, None] = {}
    while changed:
        for layer in list(changed.pop().readers):
            visited[layer] = None
            for tensor, info in zip(layer.outputs, infer(layer), strict=True):
                if not _same(tensor.info, info):
                    before.setdefault(tensor, tensor.info)
                    tensor.info = info
                    changed.append(tensor)
    return list(visited)


def _same(a: TensorInfo, b: TensorInfo) -> bool:
    if a.type != b.type or (a.value is None) != (b.value is None):
        return False
    return a.value is None or (b.value is not None and list(a.value.flat) == list(b.value.flat))


def _check_refines(old: Any, new: TensorInfo) -> None:
    """The replacement has the same type, or a more exact shape."""
    same_rank = old.type.dtype == new.dtype and old.type.rank == new.rank
    if not same_rank or any(a != b and not isinstance(a, Dim) for a, b in zip(old.type.shape, new.shape, strict=True)):
        raise GraphError(f"the patch replaces {old.name!r} of type {old.type} by a tensor of type {new.type}")
