"""The execution context: checks what a caller gives, runs, returns fresh arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeVar

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
        if seed is not None and not _is_seed(seed):
            raise ExecutionError(f"the seed is {seed!r}; it must be a whole number of at least 0, or None")
        self.engine = engine
        self.profiler: Callable[[str, float], None] | None = None  # called with each step's name and seconds
        device = engine.registry.device(engine.header.device)
        self._device = device
        self._stream: Any | None = device.stream()
        resources = Resources(engine.plan, engine.registry, device, seed, engine.compiled)
        resources.inputs_apart = self._stream is not None  # there runs are enqueued, and prepared for that
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
        self._alone(self._runner.instance, self._ordered(shapes))

    def _alone(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do what one thread at a time may do.

        Python looks for interrupts and other threads after calls. There is none between the look, the claim and the
        block that ends it, nor at its end, so an interrupt at any moment leaves the context free.
        """
        if self._running:
            raise ExecutionError("this context is running already; create one context per thread")
        self._running = True
        try:
            return work(*arguments)
        finally:
            self._running = False

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
        if inputs is not None and not isinstance(inputs, Mapping):
            raise _not_by_name(inputs)
        if unknown := [name for name in inputs or () if name not in self._wanted]:
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
        outputs = self._alone(self._with_plugins, self._runner.enqueue, given, where, consumed)
        return dict(zip(self._outputs, outputs, strict=True))

    def buffers(self, shapes: Mapping[str, Sequence[int]] | None = None) -> dict[str, Any]:
        """This context's own arrays of the inputs and outputs, by name: what is written there needs no copy.

        shapes: of every input, for plans whose sizes are not fixed.
        """
        ordered = None if shapes is None else self._ordered(shapes)
        given, made = self._alone(self._with_plugins, self._runner.buffers, ordered)
        return {**dict(zip(self._names, given, strict=True)), **dict(zip(self._outputs, made, strict=True))}

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ExecutionContext cannot be copied or pickled: make another with engine.create_context()")

    def synchronize(self) -> None:
        """Wait for everything on this context's own stream."""
        self._device.synchronize(self._stream)

    def _with_plugins(self, work: Callable[..., T], *arguments: Any) -> T:
        """Work with this engine's plugins in force."""
        with using(self.engine.registry):
            return work(*arguments)

    def _ordered(self, shapes: Mapping[str, Sequence[int]]) -> list[tuple[int, ...]]:
        """Shapes by name in the order of the inputs."""
        if not isinstance(shapes, Mapping):
            raise _not_by_name(shapes)
        if shapes.keys() != self._wanted:
            raise self._other_names(shapes)
        found = []
        for name in self._names:
            try:
                found.append(tuple(map(index, shapes[name])))
            except TypeError:
                raise ExecutionError(f"the shape of input {name!r} is {shapes[name]!r}; give a tuple of ints") from None
        return found

    def _check(self, inputs: Mapping[str, Any]) -> list[Array]:
        try:
            others = inputs.keys() != self._wanted
        except AttributeError:
            raise _not_by_name(inputs) from None
        if others:
            raise self._other_names(inputs)
        arrays = [inputs[name] for name in self._names]
        for place, dtype in enumerate(self._dtypes):
            array = arrays[place]
            if type(array) is not np.ndarray or array.dtype is not dtype:
                arrays[place] = _check_type(*self._inputs[place], array)
        return arrays

    def _other_names(self, inputs: Mapping[str, object]) -> ExecutionError:
        wanted = [binding.name for binding, _ in self._inputs]
        unknown = [name for name in inputs if name not in self._wanted]
        missing = [name for name in wanted if name not in inputs]
        return ExecutionError(
            f"the inputs are {wanted}" + (f"; missing: {missing}" if missing else "")
            + (f"; unknown: {unknown}" if unknown else "")
        )  # fmt: skip


def _is_seed(value: object) -> bool:
    return isinstance(value, SupportsIndex) and index(value) >= 0


def _not_by_name(given: object) -> ExecutionError:
    return ExecutionError(f"inputs are given by name, as a dict, not as {type(given).__name__}")


def _check_type(binding: Binding, dtype: np.dtype[Any], value: Any) -> Array:
    """The value as an array of exactly the binding's element type."""
    if is_container(binding.type.dtype):
        return boxed(value)
    wanted = binding.type.dtype
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ExecutionError(f"input {binding.name!r} must be an array of {wanted}: {error}") from error
    if dtype_name(array.dtype) != wanted:
        found = f"of type {type(value).__name__}" if array.dtype.hasobject else dtype_name(array.dtype)
        how = f".astype({wanted!r})" if hasattr(value, "astype") else f"numpy.asarray(values, {wanted!r})"
        raise ExecutionError(f"input {binding.name!r} is {found}; it must be {wanted}: convert it with {how}")
    return array.astype(dtype, copy=False)
