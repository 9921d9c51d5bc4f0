"""What the tests of this distribution share: onnxruntime as the oracle, and infer held against the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tenonrt.contracts import Array, LayerType, TensorInfo, TensorType, dtype_name, symbol


class NoGraphs:
    """A `Run` for layers that own no subgraph."""

    generator = np.random.default_rng(0)

    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        raise AssertionError(f"this layer has no subgraph {index}")


@pytest.fixture(scope="session")
def oracle() -> Callable[..., list[Array]]:
    """``oracle(operator, arrays, outputs, opset=, **attributes)`` runs one ONNX operator in onnxruntime."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")

    def run(
        operator: str, arrays: Sequence[Array | None], outputs: int = 1, *, opset: int = 21, **attributes: Any
    ) -> list[Array]:
        names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
        given = {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
        node = onnx.helper.make_node(operator, names, [f"y{i}" for i in range(outputs)], **attributes)
        inputs = [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in given.items()
        ]
        results = [onnx.helper.make_empty_tensor_value_info(f"y{i}") for i in range(outputs)]
        graph = onnx.helper.make_graph([node], "g", inputs, results)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return list(session.run(None, given))

    return run


def _info(array: Array | None, known: bool, symbolic: bool, fixed: Sequence[int]) -> TensorInfo | None:
    if array is None:
        return None
    shape = [n if i in fixed or not symbolic else symbol(f"n{n}") for i, n in enumerate(array.shape)]
    value = np.array(array.tolist(), object).reshape(array.shape) if known else None
    return TensorInfo(TensorType(tuple(shape), dtype_name(array.dtype)), value=value)


@pytest.fixture(scope="session")
def agree() -> Callable[..., list[Array]]:
    """Run the reference and hold infer against it, concrete and with every axis symbolic (but those in ``fixed``)."""

    def check(
        layer: LayerType, attrs: Any, arrays: Sequence[Array | None], fixed: dict[int, Sequence[int]] | None = None
    ) -> list[Array]:
        results = layer.reference(attrs, arrays, NoGraphs())
        assert all(isinstance(r, np.ndarray) for r in results), "a NumPy scalar is no array"
        sizes = {f"n{n}": n for a in arrays if a is not None for n in a.shape}
        for symbolic in (False, True):
            infos = [
                _info(a, i in layer.shape_inputs, symbolic and i not in layer.shape_inputs, (fixed or {}).get(i, ()))
                for i, a in enumerate(arrays)
            ]
            inferred = layer.infer(attrs, infos)
            assert [o.type.concrete(sizes) for o in inferred] == [r.shape for r in results]
            assert [o.dtype for o in inferred] == [dtype_name(r.dtype) for r in results]
        return results

    return check
