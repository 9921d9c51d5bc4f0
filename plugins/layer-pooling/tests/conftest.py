"""An oracle that shares no code with the layers: single-operator models run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tenonrt.contracts import Array, Run

Oracle = Callable[..., list[Array]]


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")

    def run(
        operator: str,
        inputs: Sequence[Array | None],
        *,
        opset: int = 22,
        outputs: int = 1,
        domain: str = "",
        **attrs: Any,
    ) -> list[Array]:
        helper = onnx.helper
        inputs = list(inputs)
        while inputs[-1] is None:  # onnxruntime 1.32 crashes on an empty name at the end of LayerNormalization
            inputs.pop()
        names = ["" if a is None else f"x{i}" for i, a in enumerate(inputs)]
        results = [f"y{i}" for i in range(outputs)]
        node = helper.make_node(operator, names, results, domain=domain, **attrs)
        given = {n: a for n, a in zip(names, inputs, strict=True) if a is not None}
        declared = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in given.items()
        ]
        returned = [onnx.ValueInfoProto(name=n) for n in results]
        graph = helper.make_graph([node], "single", declared, returned)
        imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [np.asarray(a) for a in session.run(None, given)]

    return run


class NoGraphs(Run):
    """What a layer without subgraphs is given: asking for a graph fails."""

    @property
    def generator(self) -> np.random.Generator:
        return np.random.default_rng(0)

    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        raise AssertionError(f"the layer has no graph {index}")


@pytest.fixture(scope="session")
def no_graphs() -> Run:
    return NoGraphs()
