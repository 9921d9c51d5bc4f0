"""The execution context: checks what a caller gives, runs, returns fresh arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tenonrt.containers import boxed, is_container
from tenonrt.errors import ExecutionError
from tenonrt.plan.program import Binding
from tenonrt.plugins.registry import using
from tenonrt.runtime.dispatch import Dispatcher
from tenonrt.runtime.runner import ProgramRunner, Resources
from tenonrt.types import Array, dtype_name, numpy_dtype

if TYPE_CHECKING:
    from tenonrt.runtime.engine import Engine


T = TypeVar("T")


class ExecutionContext:
    """Owns the activations and the stream of one run at a time; use one context per thread."""

    def __init__(self, engine: Engine, seed: int | None = None) -> None:
        self.engine = engine
        self.profiler: Callable[[str, float], None] | None = None  # called with each step's name and seconds
        device = engine.registry.device(engine.header.device)
        self._device = device
        self._stream: Any | None = device.stream()
        resources = Resources(engine.plan, engine.registry, device, seed, engine.compiled)
        self._runner: ProgramRunner | Dispatcher = (
            Dispatcher(engine.plan, resources)
            if engine.header.profiles
            else ProgramRunner(engine.plan.program, resources)
        )
        self._inputs = [(b, numpy_dtype(b.type.dtype)) for b in engine.bindings if b.is_input]
        self._names = [b.name for b, _ in self._inputs]
        self._wanted = set(self._names)
        # NumPy has one object for each type in native byte order; arrays of other types are looked at more closely.
        self._dtypes = [None if dtype.hasobject else dtype for _, dtype in self._inputs]
        self._outputs = [name for name, _ in engine.plan.program.outputs]
        self._boxes = {b.name for b in engine.bindings if not b.is_input and is_container(b.type.dtype)}
        # Which thread runs, claimed by one operation. Not a lock: an interrupt just after it was taken would leave it
        # so for ever, while a claim of its own does not keep a thread out.
        self._owner: dict[str, int] = {}
        self._running = False

    def execute(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name, in arrays that belong to the caller. `ExecutionError` names a wrong input or failed step.

        A sequence is a list, a map a dict, an optional its value or None, as input and as output.
        """
        arrays = self._check(inputs)
        outputs = self._alone(self._runner.run, arrays, None, self._stream, self.profiler)
        found: dict[str, Any] = dict(zip(self._outputs, outputs))  # noqa: B905 - the keyword takes as long as the rest
        if self._boxes:
            found |= {name: found[name].item() for name in self._boxes}
        return found

    def prepare(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Make everything ready for inputs of these shapes, so that the first run at them takes no longer than others.

        Code that the plan lacks for them is compiled now. The latest eight shapes of a program are kept ready.
        Errors: as `execute`.
        """
        if shapes.keys() != self._wanted:
            raise self._other_names(shapes)
        ordered = [tuple(shapes[binding.name]) for binding, _ in self._inputs]
        self._alone(self._runner.instance, ordered)

    def _alone(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do what one thread at a time may do."""
        thread = threading.get_ident()
        if self._owner.setdefault("thread", thread) != thread or self._running:
            raise ExecutionError("this context is running already; create one context per thread")
        try:
            self._running = True
            return work(*arguments)
        finally:
            self._running = False
            self._owner.clear()

    def enqueue(
        self, inputs: Mapping[str, Any] | None = None, stream: Any | None = None, consumed: Any | None = None
    ) -> dict[str, Any]:
        """Start a run and return at once: outputs by name, in arrays of this context that its next run overwrites.

        inputs: arrays of the device or the host, of any library (DLPack, ``__cuda_array_interface__``), which must stay
        as they are until ``consumed``, an event recorded on the stream, has passed; those left out keep the values that
        they have in `buffers`. stream: the caller's, on which inputs are, or will be, what they should be; None: this
        context's own, behind what the caller's library has enqueued by default. Nothing else waits; a stream of one's
        own is waited for by whoever made it, this context's by `synchronize`.
        """
        device = self._device
        if unknown := sorted((inputs or {}).keys() - self._wanted):
            raise ExecutionError(f"there is no input {unknown[0]!r}; the inputs are {sorted(self._wanted)}")
        given: list[Any | None] = []
        for binding, _ in self._inputs:
            array = device.adopt(inputs[binding.name]) if inputs and binding.name in inputs else None
            if array is not None and dtype_name(array.dtype) != binding.type.dtype:
                raise ExecutionError(f"input {binding.name!r} is {array.dtype}; it must be {binding.type.dtype}")
            given.append(array)
        if stream is None:
            device.follow_caller(self._stream)
        where = self._stream if stream is None else device.wrap_stream(stream)
        with self._claimed():
            outputs = self._runner.enqueue(given, where, consumed)
        return dict(zip(self._outputs, outputs, strict=True))

    def buffers(self, shapes: Mapping[str, Sequence[int]] | None = None) -> dict[str, Any]:
        """This context's own arrays of the inputs and outputs, by name: what is written there needs no copy.

        shapes: of every input, for plans whose sizes are not fixed.
        """
        with self._claimed():
            given, made = self._runner.buffers(None if shapes is None else [shapes[name] for name in self._names])
        return {**dict(zip(self._names, given, strict=True)), **dict(zip(self._outputs, made, strict=True))}

    def synchronize(self) -> None:
        """Wait for everything on this context's own stream."""
        self._device.synchronize(self._stream)

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """As `_alone`, around a block, with this engine's plugins in force."""
        thread = threading.get_ident()
        if self._owner.setdefault("thread", thread) != thread or self._running:
            raise ExecutionError("this context is running already; create one context per thread")
        try:
            self._running = True
            with using(self.engine.registry):
                yield
        finally:
            self._running = False
            self._owner.clear()

    def _check(self, inputs: Mapping[str, Any]) -> list[Array]:
        if inputs.keys() != self._wanted:
            raise self._other_names(inputs)
        arrays = [inputs[name] for name in self._names]
        for index, dtype in enumerate(self._dtypes):
            array = arrays[index]
            if type(array) is not np.ndarray or array.dtype is not dtype:
                arrays[index] = _check_type(*self._inputs[index], array)
        return arrays

    def _other_names(self, inputs: Mapping[str, object]) -> ExecutionError:
        wanted = [binding.name for binding, _ in self._inputs]
        unknown = [name for name in inputs if name not in self._wanted]
        missing = [name for name in wanted if name not in inputs]
        return ExecutionError(
            f"the inputs are {wanted}" + (f"; missing: {missing}" if missing else "")
            + (f"; unknown: {unknown}" if unknown else "")
        )  # fmt: skip


def _check_type(binding: Binding, dtype: np.dtype[Any], value: Any) -> Array:
    """The value as an array of exactly the binding's element type."""
    if is_container(binding.type.dtype):
        return boxed(value)
    array = np.asarray(value)
    if dtype_name(array.dtype) != binding.type.dtype:
        raise ExecutionError(
            f"input {binding.name!r} is {dtype_name(array.dtype)}; it must be {binding.type.dtype}: convert it with "
            f".astype({binding.type.dtype!r})"
        )
    return array.astype(dtype, copy=False)
