"""From the selected columns to a program: steps, reformats, views, packed weights, addresses."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from graphlib import TopologicalSorter
from typing import Any

import numpy as np

from tenonrt.builder.choices import Chosen, ControlChoice, KernelChoice, ReformatChoice, SliceOf, ViewChoice, format_of
from tenonrt.builder.constants import Constants
from tenonrt.contracts import Kernel
from tenonrt.graph.graph import Graph, Layer, Tensor
from tenonrt.layout import Part, physical_part
from tenonrt.plan.placement import place
from tenonrt.plan.program import UNPLACED, ControlStep, KernelStep, Program, ProgramTensor, Step
from tenonrt.problem import Code, Problem, Weights
from tenonrt.types import LINEAR, Array, Format


def quant_scale_of(tensor: Tensor, format: Format) -> Array | None:
    """The scale of a tensor's calibrated range, where a format is quantized."""
    if format.quant is None or tensor.range is None:
        return None
    return np.array(tensor.range.scale, np.float32)


# Packed weights by (name of the step, kernel, tactic).
Packs = dict[tuple[str, str, str], list[Array]]


class Lowering:
    """Builds one program. Tensors are made on first use; steps are ordered by what they need."""

    def __init__(
        self,
        graph: Graph,
        constants: Constants,
        layers: Sequence[Layer],
        packs: Packs,
        disable: Collection[str] = (),
    ) -> None:
        """``packs``: weights that an earlier lowering packed; what this one packs is added."""
        self.graph = graph
        self.disable = disable
        self.packs = packs
        self.constants = constants
        self.positions = {layer: i for i, layer in enumerate(layers)}
        self.tensors: list[ProgramTensor] = []
        self.stored: dict[tuple[Tensor, object], int] = {}
        self.steps: list[Step] = []
        self.inplace: dict[int, list[tuple[int, int]]] = {}  # step -> (output tensor, input tensor)

    def lower(self, choices: Sequence[Chosen], reformats: Sequence[ReformatChoice]) -> Program:
        """The program of a cover."""
        for tensor in self.graph.inputs:
            self._new(tensor, LINEAR)
        self._place_views([c for c in choices if isinstance(c, ViewChoice)])
        for choice in self._ordered(choices, reformats):
            if isinstance(choice, KernelChoice):
                self._kernel_step(choice)
            elif isinstance(choice, ControlChoice):
                self._control_step(choice)
            elif isinstance(choice, ReformatChoice):
                self._reformat_step(choice)
            else:
                self._view(choice)
        outputs = tuple((name, self._output(tensor)) for name, tensor in self.graph.outputs.items())
        inputs = tuple(self.stored[tensor, LINEAR] for tensor in self.graph.inputs)
        inplace = {} if "in_place" in self.disable else self.inplace
        program = Program(inputs, outputs, tuple(self.tensors), tuple(self.steps))
        return place(program, inplace, reuse="memory_reuse" not in self.disable)

    def _ordered(
        self, choices: Sequence[Chosen], reformats: Sequence[ReformatChoice]
    ) -> Iterator[Chosen | ReformatChoice]:
        """Producers first; a reformat follows its producer, ties keep the order of layers."""
        writer: dict[Tensor, object] = {}
        for choice in choices:
            for tensor in _written(choice):
                writer[tensor] = choice
        if not reformats and _in_order(choices, writer):
            yield from choices
            return
        made: dict[Tensor, list[ReformatChoice]] = {}
        for reformat in reformats:
            made.setdefault(reformat.tensor, []).append(reformat)
        needs: dict[Chosen | ReformatChoice, list[Any]] = {}
        for choice in choices:
            needs[choice] = [writer[t] for t in _read(choice) if t in writer]
            needs[choice] += [r for t in _read(choice) for r in made.get(t, ())]
        for reformat in reformats:
            needs[reformat] = [writer[reformat.tensor]] if reformat.tensor in writer else []
        yield from TopologicalSorter(needs).static_order()

    # tensors ---------------------------------------------------------------------------------------------------------

    def _new(self, tensor: Tensor, storage: object, base: int = UNPLACED, part: Part | None = None) -> int:
        key = (tensor, storage)
        if key in self.stored:
            return self.stored[key]
        format = format_of(storage)
        self.stored[key] = len(self.tensors)
        self.tensors.append(ProgramTensor(tensor.name, tensor.type.stored_as(format), tensor.info.place, base, part))
        return self.stored[key]

    def _find(self, tensor: Tensor, accepts: object) -> int:
        """The stored form of a tensor that a reader takes: the wanted storage, or any slice where it reads strided."""
        if tensor.constant is not None:
            return self._constant(tensor)
        wanted = accepts if isinstance(accepts, tuple) else (accepts,)
        for storage in wanted:
            if (tensor, storage) in self.stored:
                return self.stored[tensor, storage]
        raise AssertionError(f"{tensor.name} is not stored as any of {wanted}")

    def _constant(self, tensor: Tensor) -> int:
        key = (tensor, LINEAR)
        if key not in self.stored:
            assert tensor.constant is not None
            self.stored[key] = len(self.tensors)
            weight = self.constants.add_weight(tensor.constant)
            self.tensors.append(ProgramTensor(tensor.name, tensor.type, "host", weight=weight))
        return self.stored[key]

    def _output(self, tensor: Tensor) -> int:
        if tensor.constant is not None:
            return self._constant(tensor)
        if (tensor, LINEAR) in self.stored:
            return self.stored[tensor, LINEAR]
        return next(
            index
            for (t, s), index in self.stored.items()
            if t is tensor and isinstance(s, SliceOf) and s.format == LINEAR
        )

    def _place_views(self, views: Sequence[ViewChoice]) -> None:
        """Wholes that are written part by part must exist before their parts; outermost first."""
        for view in reversed(views):
            if view.whole == "output" and view.parts is not None:
                whole = view.layer.outputs[0]
                base = self.stored.get((whole, view.writes[0]))
                if base is None:
                    base = self._new(whole, view.writes[0])
                format = format_of(view.writes[0])
                for index, (tensor, part) in enumerate(zip(view.layer.inputs, view.parts, strict=True)):
                    assert tensor is not None
                    shown = physical_part(part, format, whole.type.shape)
                    self._new(tensor, SliceOf(self.positions[view.layer], index, format), base, shown)

    def _view(self, choice: ViewChoice) -> None:
        if choice.whole == "output" and choice.parts is not None:
            return
        source = choice.layer.inputs[0]
        assert source is not None
        format = format_of(choice.writes[0])
        slices = [s for t, s in self.stored if t is source and isinstance(s, SliceOf) and s.format == format]
        base = self._find(source, format if choice.parts is None else (format, *slices))
        for index, tensor in enumerate(choice.layer.outputs):
            part = None if choice.parts is None else physical_part(choice.parts[index], format, source.type.shape)
            self._new(tensor, choice.writes[index], base, part)

    # steps -----------------------------------------------------------------------------------------------------------

    def _kernel_step(self, choice: KernelChoice) -> None:
        posed = choice.posed
        region, problem, tactic = posed.region, posed.problem, choice.tactic
        activations = [region.inputs[i] for i in problem.activations]
        inputs = tuple(self._find(t, accepts) for t, accepts in zip(activations, choice.reads, strict=True))
        outputs = tuple(self._new(t, s) for t, s in zip(region.outputs, choice.writes, strict=True))
        key = (region.name, choice.kernel_id, tactic.key)
        packed = self._pack(key, choice.kernel, choice.code, problem, region.inputs, activations, region.outputs)
        sources = tuple(dict.fromkeys(s for layer in region.layers for s in layer.sources))
        patches = tuple(dict.fromkeys(p for layer in region.layers for p in layer.patches))
        self._append(
            KernelStep(
                region.name, sources, patches, choice.kernel_id, self.constants.add_code(choice.code), packed,
                inputs, outputs, posed.symbols, choice.specialise,
            ),
            [(outputs[o], inputs[i]) for o, i in tactic.inplace],
        )  # fmt: skip

    def _pack(
        self,
        key: tuple[str, str, str],
        kernel: Kernel,
        code: Code,
        problem: Problem,
        inputs: Sequence[Tensor],
        activations: Sequence[Tensor],
        outputs: Sequence[Tensor],
    ) -> tuple[int, ...]:
        if key in self.packs:
            return tuple(self.constants.add_weight(array) for array in self.packs[key])
        values = [inputs[i].constant for i in problem.constants]
        weights = Weights(
            tuple(v for v in values if v is not None),
            tuple(quant_scale_of(t, code.tactic.input_format(i)) for i, t in enumerate(activations)),
            tuple(quant_scale_of(t, code.tactic.output_format(i)) for i, t in enumerate(outputs)),
        )
        self.packs[key] = list(kernel.pack(code, weights))
        return tuple(self.constants.add_weight(array) for array in self.packs[key])

    def _reformat_step(self, choice: ReformatChoice) -> None:
        source = self._find(choice.tensor, choice.source)
        target = self._new(choice.tensor, choice.target)
        name = f"{choice.tensor.name} to {self.tensors[target].type.format}"
        key, own = (name, choice.kernel_id, choice.code.tactic.key), [choice.tensor]
        packed = self._pack(key, choice.kernel, choice.code, choice.posed.problem, own, own, own)
        code = self.constants.add_code(choice.code)
        step = KernelStep(name, (), (), choice.kernel_id, code, packed, (source,), (target,), choice.posed.symbols)
        self._append(step, [])

    def _control_step(self, choice: ControlChoice) -> None:
        layer = choice.layer
        inputs = tuple(UNPLACED if t is None else self._find(t, LINEAR) for t in layer.inputs)
        outputs = tuple(self._new(t, LINEAR) for t in layer.outputs)
        self._append(
            ControlStep(
                layer.name, layer.sources, layer.patches, layer.kind, layer.attrs, inputs, outputs, layer.captured,
                choice.programs,
            ),
            [],
        )  # fmt: skip

    def _append(self, step: Step, inplace: list[tuple[int, int]]) -> None:
        if inplace:
            self.inplace[len(self.steps)] = inplace
        self.steps.append(step)


def _written(choice: object) -> Sequence[Tensor]:
    if isinstance(choice, KernelChoice):
        return choice.posed.region.outputs
    if isinstance(choice, ViewChoice | ControlChoice):
        return choice.layer.outputs
    return ()


def _read(choice: object) -> Sequence[Tensor]:
    if isinstance(choice, KernelChoice):
        return choice.posed.region.inputs
    if isinstance(choice, ViewChoice | ControlChoice):
        return [t for t in choice.layer.inputs if t is not None]
    return ()


def _in_order(choices: Sequence[Chosen], writer: dict[Tensor, object]) -> bool:
    done: set[object] = set()
    for choice in choices:
        if any(t in writer and writer[t] not in done for t in _read(choice)):
            return False
        done.add(choice)
    return True
