"""Code of a plan or of the tuner as something to call, without the distribution that made it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tenonrt.contracts import Array, Code, ExecutionError, NativeCode

from tenonrt_device_cpu.fingerprint import fingerprint
from tenonrt_device_cpu.memory import MappedCode, mapped
from tenonrt_device_cpu.permissions import permit


class LoadedCode:
    """A `NativeCall` over the machine code of a `Code`."""

    def __init__(self, code: Code, native: NativeCode, memory: MappedCode, packed: Sequence[Array]) -> None:
        self._code, self._native, self._memory = code, native, memory
        self.address = memory.address + native.entry
        self.packed = packed
        self.scratch = native.scratch
        self.strided_operands = native.strided

    def units(self, symbols: Sequence[int]) -> Sequence[int]:
        """Of each phase."""
        return [self._code.problem.value(phase, symbols) for phase in self._native.phases]


def load(code: Code, packed: Sequence[Array]) -> LoadedCode:
    """Map the code, once per process; `ExecutionError` names what this processor lacks or what the code misses."""
    native, name = code.native, " + ".join(code.problem.kinds)
    if native is None:
        raise ExecutionError(f"the code for {name} is no native code: its kernel must bind it")
    lacking = _lacking(native.machine, native.features)
    if lacking:
        raise ExecutionError(
            f"the native code for {name} needs {' and '.join(lacking)}, which this processor lacks; build it here"
        )
    permit(native.features)
    if not native.phases or not 0 <= native.entry < len(code.blob):
        raise ExecutionError(
            f"the native code for {name} has {len(native.phases)} phases and begins at byte {native.entry} of "
            f"{len(code.blob)}; its kernel must give at least one phase and a begin within the code"
        )
    return LoadedCode(code, native, mapped(code.blob), packed)


@lru_cache
def _lacking(machine: str, features: tuple[str, ...]) -> tuple[str, ...]:
    """What this processor lacks; asked for every step of a plan, and nearly always the same."""
    return NativeCode((), machine=machine, features=features).lacking(fingerprint())
