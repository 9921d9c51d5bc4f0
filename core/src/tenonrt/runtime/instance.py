"""A program at one set of shapes: buffers laid out, executables bound, runs of static steps handed to the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tenonrt.binding import aligned, bind_code
from tenonrt.contracts import AllocatesOutputs, Draws, Executable, Launch, NativeCall, Runnable
from tenonrt.dims import evaluate, symbols
from tenonrt.errors import ExecutionError
from tenonrt.plan.program import UNPLACED, ControlStep, KernelStep, Program, ProgramTensor
from tenonrt.plugins.registry import using
from tenonrt.problem import Code, Problem
from tenonrt.runtime.shapes import bind_shape, known, physical_shape
from tenonrt.types import LINEAR, Array, TensorInfo, TensorType

if TYPE_CHECKING:
    from tenonrt.runtime.runner import ProgramRunner, Resources

Profiler = Callable[[str, float], None]


class Instance:
    """Buffers and bound steps of a program for fixed values of its inputs' symbols."""

    def __init__(
        self, program: Program, resources: Resources, values: Mapping[str, int], inputs_apart: bool = False
    ) -> None:
        """inputs_apart: the inputs have memory of their own, and keep what is written there from run to run."""
        self.program = _apart(program) if inputs_apart else program
        self.resources = resources
        self.inputs_apart = inputs_apart
        self.static = dict(values)
        self.values = dict(values)  # with the data-dependent symbols of the run in progress
        program = self.program
        self._fixed = [known(tensor.type, values) for tensor in program.tensors]
        self._layout = self._allocate()
        self.arrays: list[Any] = [None] * len(program.tensors)
        for index in range(len(program.tensors)):
            if self._fixed[index]:
                self.arrays[index] = self._make(index)
        steps = [step for step in program.steps if isinstance(step, KernelStep)]
        self._workspace = resources.device.allocate(max((self._workspace_bytes(s) or 0 for s in steps), default=0))
        # Then there is no NumPy on the way that could warn.
        self._native = len(steps) == len(program.steps) and all(self._is_native(step) for step in steps)
        self._actions = self._bind()
        self._targets, self._sources = self._copied(program.inputs), self._copied([i for _, i in program.outputs])
        self._plain = self._is_plain()

    # buffers ---------------------------------------------------------------------------------------------------------

    def _allocate(self) -> dict[int, int]:
        program = self.program
        if program.arena is not None:
            offsets, nbytes = {i: t.offset for i, t in enumerate(program.tensors)}, program.arena
        else:
            from tenonrt.plan.placement import arena_layout  # only plans of sizes that a run brings need it

            offsets, layout = arena_layout(program, lambda t: evaluate(t.type.nbytes, self.static))
            nbytes = layout.nbytes
            if self.inputs_apart:
                offsets = {i: offset for i, offset in offsets.items() if i not in program.inputs}
        self._arena = self.resources.device.allocate(nbytes)
        return {i: offset for i, offset in offsets.items() if offset != UNPLACED}

    def _make(self, index: int) -> Any:
        """The array of a tensor whose shape is known; views are made from their base."""
        tensor = self.program.tensors[index]
        if tensor.weight != UNPLACED:
            return self.resources.weights[tensor.weight]
        if tensor.base != UNPLACED:
            return self._view(tensor, self.array(tensor.base))
        shape = physical_shape(tensor.type, self.values)
        if index not in self._layout:
            return self._fresh(tensor.type, shape)
        nbytes = int(np.prod(shape, dtype=np.int64)) * tensor.type.numpy.itemsize
        start = self._layout[index]
        return self._arena[start : start + nbytes].view(tensor.type.numpy).reshape(shape)

    def _fresh(self, type: TensorType, shape: Sequence[int]) -> Any:
        if type.numpy.hasobject:
            return np.empty(tuple(shape), object)
        nbytes = int(np.prod(shape, dtype=np.int64)) * type.numpy.itemsize
        return self.resources.device.allocate(nbytes).view(type.numpy).reshape(tuple(shape))

    def _view(self, tensor: ProgramTensor, base: Any) -> Any:
        if tensor.part is not None:
            part, shape = (
                base[tuple(slice(*bounds) for bounds in tensor.part)],
                physical_shape(tensor.type, self.values),
            )
            if part.shape != shape:  # parts of symbolic axes cannot be checked when a plan is loaded
                raise ExecutionError(f"tensor {tensor.name!r} is a part of shape {part.shape}; it must be {shape}")
            return part
        if base.dtype != tensor.type.numpy:
            base = base.reshape(-1).view(tensor.type.numpy)
        return base.reshape(physical_shape(tensor.type, self.values))

    def array(self, index: int) -> Any:
        """The array of a tensor, made now when its shape was not known before the run."""
        if self.arrays[index] is None:
            tensor = self.program.tensors[index]
            if not known(tensor.type, self.values):
                raise ExecutionError(f"tensor {tensor.name!r} of type {tensor.type} is read before its shape is known")
            self.arrays[index] = self._make(index)
        return self.arrays[index]

    def _workspace_bytes(self, step: KernelStep) -> int | None:
        """What a step needs, None while that depends on sizes of the run in progress."""
        wanted = self.resources.codes[step.code].workspace_bytes
        values = {f"s{i}": self.values[name] for i, name in enumerate(step.symbols) if name in self.values}
        return evaluate(wanted, values) if all(s.name in values for s in symbols(wanted)) else None

    def _workspace_of(self, step: KernelStep) -> Any:
        """The workspace that the steps share, or a larger one where data decided how much is needed."""
        nbytes = self._workspace_bytes(step) or 0
        return self._workspace if nbytes <= self._workspace.nbytes else self.resources.device.allocate(nbytes)

    # steps -----------------------------------------------------------------------------------------------------------

    def _bind(self) -> list[_Action]:
        actions: list[_Action] = []
        launches: list[Launch] = []
        for step in self.program.steps:
            static = all(self._fixed[i] for i in (*step.inputs, *step.outputs) if i != UNPLACED)
            if isinstance(step, ControlStep):
                self._flush(actions, launches)
                actions.append(_Control(step, [self.resources.runner(graph) for graph in step.graphs]))
                continue
            executable = self.executable(step) if static or not step.specialise else None
            if (
                static
                and executable is not None
                and (self._is_native(step) or not isinstance(executable, AllocatesOutputs))
            ):
                launches.append(self.launch(step, executable))
            else:
                self._flush(actions, launches)
                actions.append(_Dynamic(step, executable))
        self._flush(actions, launches)
        return actions

    def _is_native(self, step: KernelStep) -> bool:
        """Known without asking a Protocol, which takes about as long as binding the step."""
        return not step.specialise and self.resources.codes[step.code].native is not None

    def _on_device(self, step: KernelStep) -> bool:
        """Whether its kernel works on the device's own arrays; native code is called with addresses of the host's."""
        resources = self.resources
        return resources.codes[step.code].native is None and resources.kernel(step.kernel).on_device

    def _flush(self, actions: list[_Action], launches: list[Launch]) -> None:
        if launches:
            bound = self.resources.device.bind(tuple(launches), self.resources.threads)
            actions.append(_Segment([launch.name for launch in launches], bound))
            launches.clear()

    def executable(self, step: KernelStep) -> Executable | NativeCall:
        """The step's kernel bound to its weights; where it takes no symbols, for the sizes known by now."""
        resources = self.resources
        code = resources.codes[step.code]
        if step.specialise:
            code = resources.specialised(step, self._static_code(step, code))

        def bind(packed: Sequence[Array]) -> Executable | NativeCall:
            bound = bind_code(code, packed, resources.device, lambda: resources.kernel(step.kernel))
            if code.native is None and isinstance(bound, Draws):
                bound.draw_from(lambda: resources.generator)
            return bound

        if self._on_device(step):
            return bind([resources.placed(i) for i in step.packed])
        packed = [resources.weights[i] for i in step.packed]
        # Weights of a loaded plan are aligned; those of an engine just built are where their makers put them.
        if code.native is not None:
            return bind(packed if aligned(packed) else [resources.aligned_weight(i) for i in step.packed])
        executable = bind(packed)
        if isinstance(executable, NativeCall) and not aligned(executable.packed):
            executable = bind([resources.aligned_weight(i) for i in step.packed])
        return executable

    def _static_code(self, step: KernelStep, code: Code) -> Code:
        """The code's problem with the sizes of this run, not yet compiled."""
        values = {f"s{i}": self.values[name] for i, name in enumerate(step.symbols) if name in self.values}
        types = tuple(t.substitute(values) for t in code.problem.types)
        return Code(msgspec.structs.replace(code.problem, types=types), code.tactic)

    def launch(self, step: KernelStep, executable: Executable | NativeCall) -> Launch:
        """A step with its arrays, all of whose shapes are known."""
        values = () if step.specialise else tuple(self.values.get(name, 0) for name in step.symbols)
        inputs = tuple(self.array(i) for i in step.inputs)
        outputs = tuple(self.array(i) for i in step.outputs)
        workspace, on_device = self._workspace_of(step), self._on_device(step)
        return Launch(step.name, executable, inputs, outputs, workspace, values, on_device)

    def _copied(self, indices: Sequence[int]) -> list[Any] | None:
        """The arrays of these tensors, where every run copies their bytes; None where a run has to look at each."""
        tensors = [self.program.tensors[index] for index in indices]
        same = all(t.weight == UNPLACED and not t.type.numpy.hasobject for t in tensors)
        return [self.arrays[i] for i in indices] if same and all(self._fixed[i] for i in indices) else None

    def _is_plain(self) -> bool:
        """Whether every run is copies into arrays of NumPy, native steps, and copies out of arrays of NumPy."""
        ends = [*self.program.inputs, *(i for _, i in self.program.outputs)]
        copied = self._targets is not None and self._sources is not None and all(self._fixed)
        linear = all(self.program.tensors[i].type.format == LINEAR for i in ends)  # as those of a caller
        return self._native and copied and linear and all(isinstance(self.arrays[i], np.ndarray) for i in ends)

    # running ---------------------------------------------------------------------------------------------------------

    def run(self, inputs: Sequence[Array], stream: Any | None, profiler: Profiler | None) -> list[Array]:
        """Fresh arrays of the outputs."""
        if self._plain:
            return self._run_plain(inputs, stream, profiler)
        self._forget()
        device = self.resources.device
        if self._targets is None:
            for index, array in zip(self.program.inputs, inputs, strict=True):
                self.write(index, array)
        else:
            for target, array in zip(self._targets, inputs, strict=True):
                device.upload(array, target)
        if self._native:
            self._act(stream, profiler)
        else:  # overflow is infinite, 0/0 is NaN, as the standards say: no warning; kernels may ask for other plugins
            with np.errstate(all="ignore"), using(self.resources.registry):
                self._act(stream, profiler)
        device.synchronize(stream)
        if self._sources is None:
            return [self._fetch(index) for _, index in self.program.outputs]
        return [self._download(source) for source in self._sources]

    def _run_plain(self, inputs: Sequence[Array], stream: Any | None, profiler: Profiler | None) -> list[Array]:
        """`run` where nothing has to be looked at again: a small network's steps take no longer than looking does.

        The inputs have the shapes and types of the instance, as its caller has seen to.
        """
        for target, array in zip(self._targets, inputs):  # type: ignore[arg-type] # noqa: B905
            target[...] = array
        for action in self._actions:
            action.run(self, stream, profiler)
        self.resources.device.synchronize(stream)
        return [source.copy() for source in self._sources]  # type: ignore[union-attr]

    def enqueue(self, inputs: Mapping[int, Any], stream: Any | None, consumed: Any | None) -> list[Any]:
        """Copy the inputs, record the event, and enqueue the steps; the outputs are the instance's own arrays.

        Nothing waits, so steps whose shapes or branches data decide are refused.
        """
        device = self.resources.device
        waits = next((a for a in self._actions if not isinstance(a, _Segment)), None)
        if waits is not None:
            raise ExecutionError(f"step {waits.step.name!r} waits for data, which enqueue does not: use execute")
        for index, array in inputs.items():
            device.copy(array, self.array(index), stream)
        if consumed is not None:
            device.record(consumed, stream)
        self._act(stream, None)
        return [self.array(index) for _, index in self.program.outputs]

    def _act(self, stream: Any | None, profiler: Profiler | None) -> None:
        for action in self._actions:
            action.run(self, stream, profiler)

    def _forget(self) -> None:
        """Drop what the last run learnt of data-dependent shapes."""
        if len(self.values) != len(self.static):
            self.values = dict(self.static)
            self.arrays = [a if fixed else None for a, fixed in zip(self.arrays, self._fixed, strict=True)]

    def _fetch(self, index: int) -> Array:
        source = self.array(index)
        if self.program.tensors[index].weight != UNPLACED or source.dtype.hasobject:
            return np.array(source)
        return self._download(source)

    def _download(self, source: Any) -> Array:
        host = np.empty(source.shape, source.dtype)
        self.resources.device.download(source, host)
        return host

    def on_host(self, index: int) -> Array:
        """A tensor's array, or a copy where the device has arrays of its own."""
        array = self.array(index)
        return array if isinstance(array, np.ndarray) else self._fetch(index)

    def write(self, index: int, values: Array) -> None:
        """Fill a tensor from the host. Strings have no bytes that a device could hold."""
        target = self.array(index)
        if target.dtype.hasobject:
            target[...] = values
        else:
            self.resources.device.upload(values, target)

    def produce(self, index: int, shape: Sequence[int]) -> Any:
        """The array for an output that a data-dependent step is about to write."""
        tensor = self.program.tensors[index]
        bind_shape(f"output {tensor.name!r}", tensor.type, shape, self.values)
        return self.array(index)

    def infer_outputs(self, step: KernelStep) -> bool:
        """Learn output shapes that depend on the values of host inputs; False when they depend on more than that."""
        from tenonrt.graph.inference import evaluate_values  # few plans have such steps

        problem = self.resources.problem(step.code)
        infos = self._given(step, problem)
        for layer in problem.layers:
            layer_type = self.resources.registry.layer_type(layer.kind)
            inputs = [infos[i] if i >= 0 else None for i in layer.inputs]
            try:
                outputs = layer_type.infer(layer.attrs, inputs)
                values = evaluate_values(layer_type, layer.attrs, inputs, outputs)
            except ValueError as error:
                raise ExecutionError(f"step {step.name!r} ({layer.kind}): {error}") from error
            if values is not None:
                outputs = [info.with_value(value) for info, value in zip(outputs, values, strict=True)]
            infos.update(zip(layer.outputs, outputs, strict=True))
        found = [infos[number].type for number in problem.outputs]
        if not all(type.static for type in found):
            return False
        for type, index in zip(found, step.outputs, strict=True):
            bind_shape(f"output of {step.name!r}", self.program.tensors[index].type, type.concrete({}), self.values)
        return True

    def _given(self, step: KernelStep, problem: Problem) -> dict[int, TensorInfo]:
        """What inference may know of a step's inputs in this run, by their numbers in its problem."""
        infos: dict[int, TensorInfo] = {}
        for number, index in zip(problem.activations, step.inputs, strict=True):
            type = self.program.tensors[index].type
            on_host = problem.inputs[number].role == "host"
            value = self.on_host(index).astype(object) if on_host else None
            infos[number] = TensorInfo(TensorType(type.concrete(self.values), type.dtype), value=value)
        for number in problem.constants:
            given, type = problem.inputs[number].value, problem.types[number]
            value = None if given is None else np.array(given, object).reshape(type.concrete({}))
            infos[number] = TensorInfo(type, value=value)
        return infos


def _apart(program: Program) -> Program:
    from tenonrt.plan.placement import with_inputs_apart  # only callers of `enqueue` need it

    return with_inputs_apart(program)


class _Segment:
    """Static steps in a row: the device runs them without coming back."""

    def __init__(self, names: list[str], runnable: Runnable) -> None:
        self.names = names
        self.runnable = runnable

    def run(self, instance: Instance, stream: Any | None, profiler: Profiler | None) -> None:
        if profiler is None:
            self.runnable.run(stream)
            return
        for name, seconds in zip(self.names, self.runnable.time(stream), strict=True):
            profiler(name, seconds)


@contextmanager
def _timed(name: str, instance: Instance, stream: Any | None, profiler: Profiler | None) -> Iterator[None]:
    """Tell the profiler about a step that no `Runnable` times: all of it, the steps of its sub-programs included."""
    if profiler is None:
        yield
        return
    start = perf_counter()
    yield
    instance.resources.device.synchronize(stream)
    profiler(name, perf_counter() - start)


class _Dynamic:
    """One step whose shapes are known only now."""

    def __init__(self, step: KernelStep, executable: Executable | NativeCall | None) -> None:
        self.step = step
        self.executable = executable

    def run(self, instance: Instance, stream: Any | None, profiler: Profiler | None) -> None:
        step = self.step
        sized = all(known(instance.program.tensors[i].type, instance.values) for i in step.outputs)
        executable = self.executable
        if (
            executable is None
        ):  # it is compiled for the sizes of this run, those of its outputs too where they can be had
            sized = sized or instance.infer_outputs(step)
            executable = instance.executable(step)
        able: object = executable
        if isinstance(able, AllocatesOutputs):
            with _timed(step.name, instance, stream, profiler):
                self._launch_allocating(able, instance, stream)
            return
        if not sized and not instance.infer_outputs(step):
            raise ExecutionError(
                f"step {step.name!r}: only the data tell the sizes of its outputs, and the kernel {step.kernel} lacks "
                f"the ability AllocatesOutputs; deny it and build again"
            )
        launch = instance.launch(step, executable)
        _Segment([step.name], instance.resources.device.bind((launch,), instance.resources.threads)).run(
            instance, stream, profiler
        )

    def _launch_allocating(self, executable: AllocatesOutputs, instance: Instance, stream: Any | None) -> None:
        step = self.step
        instance.resources.device.synchronize(stream)
        inputs = [instance.on_host(i) for i in step.inputs]
        made: list[tuple[int, Array]] = []

        def allocate(position: int, shape: Sequence[int]) -> Any:
            array = instance.produce(step.outputs[position], shape)
            if not isinstance(array, np.ndarray):
                made.append((step.outputs[position], np.empty(array.shape, array.dtype)))
                return made[-1][1]
            return array

        try:
            executable.launch_allocating(inputs, allocate, stream)
            for index, array in made:
                instance.write(index, array)
        except (ValueError, IndexError, TypeError, ArithmeticError) as error:
            raise ExecutionError(f"step {step.name!r} ({step.kernel}): {error}") from error


class _Control:
    """A step whose layer type decides which sub-programs run."""

    def __init__(self, step: ControlStep, runners: Sequence[ProgramRunner]) -> None:
        self.step = step
        self.runners = runners

    def run(self, instance: Instance, stream: Any | None, profiler: Profiler | None) -> None:
        step = self.step
        instance.resources.device.synchronize(stream)
        arrays = [None if i == UNPLACED else instance.on_host(i) for i in step.inputs]
        declared = len(arrays) - step.captured
        run = _ControlRun(instance, self.runners, [a for a in arrays[declared:] if a is not None])
        layer_type = instance.resources.registry.layer_type(step.kind)
        with _timed(step.name, instance, stream, profiler):
            outputs = layer_type.reference(step.attrs, arrays[:declared], run)
            for index, output in zip(step.outputs, outputs, strict=True):
                instance.produce(index, output.shape)
                instance.write(index, np.asarray(output))


class _ControlRun:
    """The `Run` of a control step: subgraphs are programs."""

    def __init__(self, instance: Instance, runners: Sequence[ProgramRunner], captured: Sequence[Array]) -> None:
        self._instance = instance
        self._runners = runners
        self._captured = captured

    @property
    def generator(self) -> np.random.Generator:
        return self._instance.resources.generator

    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        return self._runners[index].run([*arrays, *self._captured], self._instance.values)


_Action = _Segment | _Dynamic | _Control
