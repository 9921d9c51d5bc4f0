"""TenonRT as a backend of ONNX's conformance runner (``onnx.backend.test``), and of code written for that interface.

The whole path is behind it: the file is parsed, optimized, covered without timing, saved as a plan, loaded and run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import tenonrt
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.backend.base import Backend, BackendRep
from tenonrt import Engine, ExecutionContext, Registry

from tenonrt_parser_onnx.model import NEWEST_OPSET

_FIXED_SEED = 0  # what a model draws at random is the same at every run


class Prepared(BackendRep):
    """A loaded engine with a context: satisfies ``onnx.backend.base.BackendRep``."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._context = ExecutionContext(engine, _FIXED_SEED)
        self._names = [binding.name for binding in engine.bindings if binding.is_input]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs in the model's order, for inputs in its order or by name."""
        feeds = inputs if isinstance(inputs, dict) else dict(zip(self._names, inputs, strict=False))
        return tuple(self._context.execute(feeds).values())


class TenonBackend(Backend):
    """Engines built at optimization level 0. A subclass may set ``registry`` to choose the plugins."""

    registry: ClassVar[Registry | None] = None

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> Prepared:
        """Parse, build, save as a plan and load it again. Errors are TenonRT's: `tenonrt.TenonError`."""
        if not cls.supports_device(device):
            raise ValueError(f"device is {device!r}; this backend runs on 'CPU'")
        with TemporaryDirectory(prefix="tenonrt-backend-") as folder:
            source, plan = Path(folder, "model.onnx"), Path(folder, "model.plan")
            source.write_bytes(model.SerializeToString())
            network = tenonrt.parse(source, "onnx", cls.registry)
            tenonrt.compile(network, optimization_level=0).save(plan)
            return Prepared(Engine.load(plan, registry=cls.registry))

    @classmethod
    def run_node(
        cls, node: NodeProto, inputs: Any, device: str = "CPU", outputs_info: Sequence[Any] | None = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run a single operator on arrays, at the newest opset or at ``opset_version``."""
        import numpy as np

        names = [name for name in node.input if name]
        arrays = [np.asarray(value) for value in inputs]
        given = [
            helper.make_tensor_value_info(name, _element_type(a), a.shape)
            for name, a in zip(names, arrays, strict=True)
        ]
        wanted = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "node", given, wanted)
        imports = [helper.make_opsetid(node.domain, int(kwargs.get("opset_version", NEWEST_OPSET)))]
        return cls.prepare(helper.make_model(graph, opset_imports=imports), device).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the processor, so far."""
        return device.partition(":")[0] == "CPU"


def _element_type(array: Any) -> int:
    return TensorProto.STRING if array.dtype == object else int(helper.np_dtype_to_tensor_dtype(array.dtype))


is_compatible = TenonBackend.is_compatible
prepare = TenonBackend.prepare
run_model = TenonBackend.run_model
run_node = TenonBackend.run_node
supports_device = TenonBackend.supports_device
