"""What the steps of an engine store: the program is run a step at a time, and looked at between them.

Nothing is built differently for it, so fusions are those of the engine that is observed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tenonrt.errors import ExecutionError
from tenonrt.graph.graph import Graph
from tenonrt.layout import from_storage
from tenonrt.plan.program import KernelStep
from tenonrt.plugins.registry import using
from tenonrt.runtime.engine import Engine
from tenonrt.runtime.runner import ProgramRunner, Resources
from tenonrt.types import Array

# A stored tensor's name: that of the real one, real per step, and the step that is zero.
Grids = Mapping[str, tuple[str, float, float]]


def grids_of(graph: Graph) -> dict[str, tuple[str, float, float]]:
    """How the quantized tensors of a network that was built count, where they have one scale."""
    found: dict[str, tuple[str, float, float]] = {}
    for layer in graph.layers:
        if layer.kind != "Quantize":
            continue
        source, scale, zero = (*layer.inputs, None)[:3]
        if source is None or scale is None or scale.constant is None:
            continue
        if scale.constant.size != 1 or (zero is not None and zero.constant is None):
            continue
        step = 0.0 if zero is None or zero.constant is None else float(zero.constant.reshape(()))
        found[layer.outputs[0].name] = (source.name, float(scale.constant.reshape(())), step)
    return found


def observe(engine: Engine, grids: Grids, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Real values by tensor name, in the order of the steps. `ExecutionError` where sizes depend on data."""
    program, device = engine.plan.program, engine.registry.device(engine.header.device)
    found: dict[str, Array] = {}
    with using(engine.registry), np.errstate(all="ignore"):
        runner = ProgramRunner(program, Resources(engine.plan, engine.registry, device, 0))
        order = [program.tensors[index].name for index in program.inputs]
        arrays = [np.asarray(inputs[name]) for name in order]
        instance = runner.instance([array.shape for array in arrays])
        for index, array in zip(program.inputs, arrays, strict=True):
            instance.write(index, array)
        for step in program.steps:
            if not isinstance(step, KernelStep):
                raise ExecutionError(f"step {step.name!r} runs programs of its own, which are not observed")
            launch = instance.launch(step, instance.executable(step))
            device.bind((launch,), engine.header.threads).run(None)
            device.synchronize(None)
            for index, array in zip(step.outputs, launch.outputs, strict=True):
                tensor = program.tensors[index]
                type = tensor.type.substitute(instance.values)
                name, values = _real(tensor.name, from_storage(np.array(array), type), grids)
                if values is not None:
                    found.setdefault(name, values)
    return found


def _real(name: str, values: Array, grids: Grids) -> tuple[str, Array | None]:
    """A tensor's name and values as the network without quantization has them; None for what is no real number."""
    if name in grids:
        name, scale, zero = grids[name]
        return name, ((values.astype(np.float64) - zero) * scale).astype(np.float32)
    return name, values if values.dtype.kind == "f" else None
