"""From offers to a cover: columns for kernels, views and control layers, priced or ranked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from tenonrt.builder.choices import SliceOf
from tenonrt.builder.cover import Column, Cover, CoverProblem, NoCoverError, finish, solve
from tenonrt.builder.offers import Offer
from tenonrt.contracts import View
from tenonrt.dims import Dim, bounds
from tenonrt.errors import BuildError
from tenonrt.graph.graph import Graph, Layer, Tensor
from tenonrt.layout import physical_part
from tenonrt.plan.program import Choice
from tenonrt.types import LINEAR, Format, is_float

VIEW, CONTROL, KNOWN = "view", "control", "constant"

# A reformat that nobody has timed: bytes at the speed of one core's memory, and the cost of one more step.
_BYTES_PER_NANOSECOND, _STEP_NANOSECONDS = 5.0, 3000


@dataclass
class Selector:
    """The cover problem of one graph. Layers and tensors are numbered by position."""

    graph: Graph
    formats: Sequence[Format] = ()  # of the tactics on offer: in which of them slices may be stored
    disable: Collection[str] = ()  # optimizations to leave out
    layers: Sequence[Layer] = ()
    views: dict[Layer, View] = field(default_factory=dict)
    slices: dict[Tensor, list[SliceOf]] = field(default_factory=dict)
    # By column id: where it comes from, and how its outputs are stored.
    sources: dict[str, tuple[Offer | Layer, tuple[object, ...]]] = field(default_factory=dict)
    # Nanoseconds of reformats that were timed, by (tensor, storage).
    prices: dict[tuple[int, object], int] = field(default_factory=dict)
    # Formats in which no kernel stores a tensor anew as a slice of a larger one.
    unwritable: set[Format] = field(default_factory=set)
    # Formats in which none stores anew what is a slice: parts are no views in them, for others may read a part too.
    unreadable: set[Format] = field(default_factory=set)
    _numbers: dict[Tensor, int] = field(default_factory=dict)
    _tensors: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layers = self.graph.layers
        self._positions = {layer: i for i, layer in enumerate(self.layers)}
        for layer in self.layers:
            view = find_view(layer)
            if view is not None and self._allows(view) and self._lies_in(layer, view, LINEAR):
                self.views[layer] = view
                self._note_slices(layer, view)

    def _allows(self, view: View) -> bool:
        merged = view.whole == "output" and view.parts is not None
        return ("concat_removal" if merged else "views") not in self.disable

    def _note_slices(self, layer: Layer, view: View) -> None:
        side = layer.inputs if view.whole == "output" else layer.outputs
        for format in self._slice_formats(layer, view):
            for index, tensor in enumerate(side):
                if tensor is not None:
                    self.slices.setdefault(tensor, []).append(SliceOf(self._positions[layer], index, format))

    def _slice_formats(self, layer: Layer, view: View) -> list[Format]:
        """The formats in which every part of a view's whole is a slice of it."""
        if view.parts is None:
            return []
        rank = _whole_of(layer, view).type.rank
        plain = [f for f in self.formats if f.quant is None and f.fits(rank) and f != LINEAR]
        return [LINEAR, *(f for f in plain if self._lies_in(layer, view, f))]

    def _lies_in(self, layer: Layer, view: View, format: Format) -> bool:
        """Whether every part of a view's whole, if it has parts, is a slice of it in this format."""
        shape = _whole_of(layer, view).type.shape
        return all(physical_part(part, format, shape) is not None for part in view.parts or ())

    def number(self, tensor: Tensor) -> int:
        if tensor not in self._numbers:
            self._numbers[tensor] = len(self._tensors)
            self._tensors.append(tensor)
        return self._numbers[tensor]

    def tensor(self, number: int) -> Tensor:
        return self._tensors[number]

    def positions(self, offer: Offer) -> tuple[int, ...]:
        """The numbers of a region's layers."""
        return tuple(sorted(self._positions[layer] for layer in offer.posed.region.layers))

    def by_anchor(self, offers: Iterable[Offer]) -> dict[int, list[Offer]]:
        """Offers by the position of their region's first layer."""
        found: dict[int, list[Offer]] = {}
        for offer in offers:
            found.setdefault(min(self.positions(offer)), []).append(offer)
        return found

    # columns ---------------------------------------------------------------------------------------------------------

    def columns_of(self, offer: Offer, nanoseconds: int) -> Iterator[Column]:
        """One column per way to store the offer's outputs."""
        region, problem = offer.posed.region, offer.posed.problem
        reads = tuple(
            (self.number(region.inputs[i]), accepts)
            for i, accepts in zip(problem.activations, self.accepts(offer), strict=True)
        )
        for writes in self._storages(offer):
            name = f"{offer.id}@{region.name}" + "".join(f">{w}" for w in writes if isinstance(w, SliceOf))
            self.sources[name] = (offer, writes)
            numbered = tuple((self.number(t), w) for t, w in zip(region.outputs, writes, strict=True))
            yield Column(name, self.positions(offer), nanoseconds, reads, numbered)

    def accepts(self, offer: Offer) -> list[tuple[object, ...]]:
        """Per activation, the storages that the tactic can read."""
        found: list[tuple[object, ...]] = []
        for k, i in enumerate(offer.posed.problem.activations):
            tensor, format = offer.posed.region.inputs[i], offer.tactic.input_format(k)
            found.append((format, *(self._slices_in(tensor, format) if k in offer.tactic.reads_strided else ())))
        return found

    def _slices_in(self, tensor: Tensor, format: Format) -> list[SliceOf]:
        """The parts of larger tensors in this format that a tensor may be stored as."""
        return [part for part in self.slices.get(tensor, ()) if part.format == format]

    def _storages(self, offer: Offer) -> Iterator[tuple[object, ...]]:
        options: list[list[object]] = []
        for k, tensor in enumerate(offer.posed.region.outputs):
            format = offer.tactic.output_format(k)
            choices: list[object] = [format]
            if k in offer.tactic.writes_strided:
                choices += self._destinations(tensor, format)
            options.append(choices)
        return product(*options)

    def _destinations(self, tensor: Tensor, format: Format) -> list[SliceOf]:
        """The parts of larger tensors that a tensor in this format may be written as."""
        return [part for part in self._slices_in(tensor, format) if self._is_destination(part)]

    def _is_destination(self, part: SliceOf) -> bool:
        return self.views[self.layers[part.layer]].whole == "output"

    def view_columns(self, layer: Layer) -> Iterator[Column]:
        """The columns of a layer that need not run: it reads and writes slices at no cost."""
        view, here = self.views[layer], self._positions[layer]
        given = [(i, t) for i, t in enumerate(layer.inputs) if t is not None and t.constant is None]
        if view.parts is None:
            for format in [LINEAR, *(f for f in self.formats if f != LINEAR and self._in_rows(f, layer))]:
                reads = tuple((self.number(t), (format,)) for _, t in given)
                writes = tuple((self.number(t), format) for t in layer.outputs)
                yield self._special(layer, VIEW, reads, writes, "" if format == LINEAR else f">{format}")
            return
        for format in self._slice_formats(layer, view):
            if view.whole == "input" and format in self.unreadable:
                continue
            parts = [SliceOf(here, i, format) for i in range(len(view.parts))]
            if view.whole == "output":
                sources = tuple((self.number(t), (parts[i],)) for i, t in given)
                whole = layer.outputs[0]
                for storage in (format, *self._destinations(whole, format)):
                    yield self._special(layer, VIEW, sources, ((self.number(whole), storage),), f">{storage}")
            else:
                wholes = tuple((self.number(t), (format, *self._slices_in(t, format))) for _, t in given)
                shown = tuple((self.number(t), part) for t, part in zip(layer.outputs, parts, strict=True))
                yield self._special(layer, VIEW, wholes, shown, f">{format}")

    def known_column(self, layer: Layer) -> Column:
        """Of a layer whose results are constants: nothing is left to run where no region begins with what it reads."""
        return self._special(layer, KNOWN, (), ())

    @staticmethod
    def _in_rows(format: Format, layer: Layer) -> bool:
        """Whether the layer's tensors may be stored so, row by row in another floating-point type."""
        floats = all(is_float(t.type.dtype) for t in layer.outputs)
        return floats and not format.order and not format.blocks and format.quant is None

    def control_column(self, layer: Layer) -> Column:
        reads = {self.number(t): (LINEAR,) for t in layer.inputs if t is not None and t.constant is None}
        writes = tuple((self.number(t), LINEAR) for t in layer.outputs)
        return self._special(layer, CONTROL, tuple(reads.items()), writes)

    def _special(
        self,
        layer: Layer,
        word: str,
        reads: tuple[tuple[int, tuple[object, ...]], ...],
        writes: tuple[tuple[int, object], ...],
        suffix: str = "",
    ) -> Column:
        name = f"{word}@{layer.name}{suffix}"
        self.sources[name] = (layer, tuple(storage for _, storage in writes))
        return Column(name, (self._positions[layer],), 0, reads, writes)

    # covers ----------------------------------------------------------------------------------------------------------

    def problem(self, columns: Sequence[Column]) -> CoverProblem:
        given = {self.number(t): LINEAR for t in self.graph.inputs}
        demands = [
            (self.number(t), (LINEAR, *(part for part in self.slices.get(t, ()) if part.format == LINEAR)))
            for t in dict.fromkeys(self.graph.outputs.values())
            if t.constant is None
        ]
        return CoverProblem(len(self.layers), columns, self.reformat_price, given, demands)

    def reformat_price(self, number: int, storage: object) -> int | None:
        """Nanoseconds, timed or estimated; None: it cannot be."""
        tensor = self.tensor(number)
        if isinstance(storage, SliceOf) and (storage.format in self.unwritable or not self._is_destination(storage)):
            return None
        if isinstance(storage, Format) and storage.quant is not None and tensor.range is None:
            return None
        if (number, storage) in self.prices:
            return self.prices[number, storage]
        nbytes = tensor.type.nbytes
        upper = bounds(nbytes)[1] if isinstance(nbytes, Dim) else nbytes
        return _STEP_NANOSECONDS + int(2 * (upper or 0) / _BYTES_PER_NANOSECOND)

    def solve(self, columns: Sequence[Column]) -> Cover:
        """The least cover."""
        try:
            return solve(self.problem(columns))
        except NoCoverError as error:
            raise BuildError(f"the network {self.graph.name!r} cannot be covered: {error}") from error

    def finish(self, chosen: Sequence[Column]) -> Cover:
        """A choice made without the solver, with the reformats it implies."""
        try:
            return finish(self.problem(chosen), chosen, optimal=False)
        except NoCoverError as error:
            raise BuildError(f"the network {self.graph.name!r} cannot be covered: {error}") from error

    def sourced_reformats(self, cover: Cover) -> Iterator[tuple[int, object, object]]:
        """(tensor, from, to) of every reformat: from the storage that the tensor's producer writes."""
        written = {number: storage for column in cover.columns for number, storage in column.writes}
        for number, target in cover.reformats:
            yield number, written.get(number, LINEAR), target

    def uncovered(self, columns: Sequence[Column]) -> list[Layer]:
        """Layers that no column computes."""
        covered = {position for column in columns for position in column.layers}
        return [layer for i, layer in enumerate(self.layers) if i not in covered]

    def record(self, cover: Cover) -> Choice:
        """The selection in names, for replay."""
        return Choice(dict(self.recorded_as(column) for column in cover.columns))

    def recorded_as(self, column: Column) -> tuple[str, tuple[str, str]]:
        """A column in names: its region, and the kernel with the tactic, or what needs no kernel."""
        source, _ = self.sources[column.id]
        if isinstance(source, Offer):
            return source.posed.region.name, (source.entry.id, source.tactic.key)
        return source.name, (column.id.partition("@")[0], "")


def merged_concatenations(selector: Selector, cover: Cover) -> int:
    """How many layers of a cover only say where others write: their parts lie in one tensor already."""
    views = [selector.sources[c.id][0] for c in cover.columns if c.id.startswith(f"{VIEW}@")]
    return sum(
        isinstance(layer, Layer) and selector.views[layer].whole == "output" and selector.views[layer].parts is not None
        for layer in views
    )


def is_known(layer: Layer) -> bool:
    """Whether every result is a constant that was computed while building."""
    return all(tensor.constant is not None for tensor in layer.outputs)


def storage_formats(offers: Iterable[Offer]) -> list[Format]:
    """The formats that some tactic reads or writes, in a stable order."""
    return sorted({f for offer in offers for f in (*offer.tactic.inputs, *offer.tactic.outputs)}, key=str)


def _whole_of(layer: Layer, view: View) -> Tensor:
    whole = layer.outputs[0] if view.whole == "output" else layer.inputs[0]
    assert whole is not None
    return whole


def find_view(layer: Layer) -> View | None:
    """The layer's own offer to be a view, where its tensors allow one."""
    if layer.graphs or any(t is not None and t.constant is not None and i not in layer.layer_type.shape_inputs
                           for i, t in enumerate(layer.inputs)):  # fmt: skip
        return None
    view = layer.layer_type.view(
        layer.attrs, [t.info if t is not None else None for t in layer.inputs], [t.info for t in layer.outputs]
    )
    if view is None:
        return None
    host = {t for t in (*layer.inputs[:1], *layer.outputs) if t is not None and t.info.place == "host"}
    objects = any(t.type.numpy.hasobject for t in layer.outputs)
    return None if host or objects or (view.parts is None and _depends_on_values(layer)) else view


def _depends_on_values(layer: Layer) -> bool:
    """Whether an output's shape has a symbol that no input's type has: it is known only while running."""
    known = {name for t in layer.inputs if t is not None for name in t.type.symbol_names()}
    return any(t.type.symbol_names() - known for t in layer.outputs)
