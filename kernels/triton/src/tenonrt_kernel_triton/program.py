"""A function of Triton with everything that decides its machine code and its launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Program:
    """``function``, decorated by ``triton.jit``, as a problem needs it.

    Its parameters, but for those that ``constants`` gives by name, are in this order: pointers, numbers, pitches.

    grid: programs along up to three axes.
    types: those of the parameters, in Triton's words: ``*fp16``, ``*bf16``, ``*fp32``, ``i32``.
    operands: what the pointers point to, as positions in outputs + activations + packed weights; None: all, in order.
    numbers: integers that the code need not know, so that problems which differ in them alone share it.
    pitches: operands with channels innermost that may be slices of wider tensors (`Tactic.reads_strided`): how many
    elements lie between their pixels is passed, as ``i32``.
    alignment: bytes, of which every pointer is a multiple. pitch_step: a number of which every pitch is a multiple.
    """

    function: Any
    grid: tuple[int, ...]
    types: Sequence[str]
    constants: Mapping[str, Any]
    warps: int = 4
    stages: int = 3
    operands: tuple[int, ...] | None = None
    numbers: tuple[int, ...] = ()
    pitches: tuple[int, ...] = ()
    alignment: int = 16
    pitch_step: int = 1

    def signature(self) -> dict[str, str]:
        """Types by name, ``constexpr`` for constants; `ValueError` where names or counts do not fit the function."""
        names = list(self.function.arg_names)
        unknown = self.constants.keys() - set(names)
        passed = [name for name in names if name not in self.constants]
        if unknown or len(passed) != len(self.types):
            what = (
                f"it has no parameter {', '.join(sorted(unknown))}" if unknown else f"{len(self.types)} types are given"
            )
            raise ValueError(f"{self.function.__name__} takes {', '.join(passed) or 'nothing'} at run time, and {what}")
        types = dict(zip(passed, self.types, strict=True))
        return {name: types.get(name, "constexpr") for name in names}

    def attributes(self) -> dict[tuple[int, ...], list[list[Any]]]:
        """What pointers and pitches are multiples of, as Triton is told it: loads are as wide as it can prove."""
        runtime = [i for i, type in enumerate(self.signature().values()) if type != "constexpr"]
        pointers = [i for i, type in zip(runtime, self.types, strict=True) if type.startswith("*")]
        found: dict[tuple[int, ...], list[list[Any]]] = {(i,): [["tt.divisibility", self.alignment]] for i in pointers}
        if self.pitches and self.pitch_step > 1:
            found |= {(i,): [["tt.divisibility", self.pitch_step]] for i in runtime[-len(self.pitches) :]}
        return found
