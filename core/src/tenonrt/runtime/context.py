"""The execution context: checks what a caller gives, runs, returns fresh arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tenonrt.errors import ExecutionError
from tenonrt.plan.program import Binding
from tenonrt.plugins.registry import using
from tenonrt.runtime.runner import ProgramRunner, Resources
from tenonrt.types import Array, dtype_name, numpy_dtype

if TYPE_CHECKING:
    from tenonrt.runtime.engine import Engine


class ExecutionContext:
    """Owns the activations and the stream of one run at a time; use one context per thread."""

    def __init__(self, engine: Engine, seed: int | None = None) -> None:
        self.engine = engine
        self.profiler: Callable[[str, float], None] | None = None  # called with each step's name and seconds
        device = engine.registry.device(engine.header.device)
        self._stream: Any | None = device.stream()
        self._runner = ProgramRunner(engine.plan.program, Resources(engine.plan, engine.registry, device, seed))
        self._inputs = [b for b in engine.bindings if b.is_input]
        self._busy = threading.Lock()

    def execute(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Outputs by name, in arrays that belong to the caller. `ExecutionError` names a wrong input or failed step."""
        arrays = self._check(inputs)
        if not self._busy.acquire(blocking=False):
            raise ExecutionError("this context is running in another thread; create one context per thread")
        try:
            with using(self.engine.registry):  # kernels are bound at the first run of each shape
                outputs = self._runner.run(arrays, None, self._stream, self.profiler)
        finally:
            self._busy.release()
        return dict(zip((name for name, _ in self.engine.plan.program.outputs), outputs, strict=True))

    def _check(self, inputs: Mapping[str, Any]) -> list[Array]:
        wanted = [binding.name for binding in self._inputs]
        unknown = [name for name in inputs if name not in wanted]
        missing = [name for name in wanted if name not in inputs]
        if unknown or missing:
            raise ExecutionError(
                f"the inputs are {wanted}" + (f"; missing: {missing}" if missing else "")
                + (f"; unknown: {unknown}" if unknown else "")
            )  # fmt: skip
        return [_check_type(binding, inputs[binding.name]) for binding in self._inputs]


def _check_type(binding: Binding, value: Any) -> Array:
    """The value as an array of exactly the binding's element type."""
    array = np.asarray(value)
    if dtype_name(array.dtype) != binding.type.dtype:
        raise ExecutionError(
            f"input {binding.name!r} is {dtype_name(array.dtype)}; it must be {binding.type.dtype}: convert it with "
            f".astype({binding.type.dtype!r})"
        )
    return array.astype(numpy_dtype(binding.type.dtype), copy=False)
