"""Oracles for these tests: ONNX Runtime for single operators, and `infer` judged against `reference`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
from tenonrt.contracts import Array, Dimension, LayerType, Run, TensorInfo, TensorType, dtype_name, symbol
from tenonrt.dims import evaluate, symbols

NO_RUN = cast(Run, None)  # none of these layers owns a subgraph or draws random numbers


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20250)


@pytest.fixture(scope="session")
def onnx_run() -> Callable[..., list[Array]]:
    """Run one ONNX operator: ``onnx_run("Add", [a, b], opset=21, outputs=1, **attributes)``."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")

    def value(name: str, array: Array) -> Any:
        kind = onnx.TensorProto.STRING if array.dtype == object else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return onnx.helper.make_tensor_value_info(name, kind, array.shape)

    def run(op: str, arrays: Sequence[Array | None], opset: int = 21, outputs: int = 1, **attrs: Any) -> list[Array]:
        feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None}
        names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
        results = [f"y{i}" for i in range(outputs)]
        node = onnx.helper.make_node(op, names, results, **attrs)
        values = [onnx.helper.make_empty_tensor_value_info(name) for name in results]
        graph = onnx.helper.make_graph([node], "test", [value(n, a) for n, a in feeds.items()], values)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return cast(list[Array], session.run(None, feeds))

    return run


def info(layer: LayerType, index: int, array: Array, *, symbolic: bool) -> TensorInfo:
    """What the graph would know of an input; symbolic: every axis longer than one is a symbol named by its length."""
    if index in layer.shape_inputs:
        return TensorInfo(TensorType(array.shape, dtype_name(array.dtype)), "host", array.astype(object))
    shape: list[Dimension] = [symbol(f"d{d}") if symbolic and d != 1 else d for d in array.shape]
    return TensorInfo(TensorType(tuple(shape), dtype_name(array.dtype)))


def known_equal(dimension: Dimension, actual: int, sizes: set[int]) -> bool:
    if any(s.name == "?" for s in symbols(dimension)):
        return True
    return evaluate(dimension, {f"d{d}": d for d in sizes}) == actual


@pytest.fixture(scope="session")
def agrees() -> Callable[..., list[Array]]:
    """Check that infer, concrete and symbolic, says what reference does; returns the reference's outputs."""

    def check(layer: LayerType, attrs: Any, arrays: Sequence[Array | None], *, symbolic: bool = True) -> list[Array]:
        before = [None if a is None else a.copy() for a in arrays]
        outputs = layer.reference(attrs, arrays, NO_RUN)
        for old, new in zip(before, arrays, strict=True):
            if old is not None and new is not None:
                np.testing.assert_array_equal(old, new)
        sizes = {d for a in arrays if a is not None for d in a.shape}
        for mode in (False, True) if symbolic else (False,):
            infos = [None if a is None else info(layer, i, a, symbolic=mode) for i, a in enumerate(arrays)]
            for inferred, output in zip(layer.infer(attrs, infos), outputs, strict=True):
                assert isinstance(output, np.ndarray)
                assert (inferred.dtype, inferred.rank) == (dtype_name(output.dtype), output.ndim)
                same = [known_equal(d, n, sizes) for d, n in zip(inferred.shape, output.shape, strict=True)]
                assert all(same), f"inferred {inferred.type}, computed {output.shape}"
        return outputs

    return check


@pytest.fixture(scope="session")
def check_cases(agrees: Callable[..., list[Array]]) -> Callable[[LayerType], None]:
    """Every case of a layer: its attributes survive encoding, and infer agrees with reference on sampled inputs."""
    msgspec = pytest.importorskip("msgspec")

    def check(layer: LayerType) -> None:
        cases = list(layer.cases())
        assert cases
        for case in cases:
            encoded = msgspec.json.encode(case.attrs)
            assert msgspec.json.decode(encoded, type=type(case.attrs)) == case.attrs
            types = [TensorType(i.shape, dtype_name(i.dtype)) if isinstance(i, np.ndarray) else i for i in case.inputs]
            drawn = layer.sample(case.attrs, types, np.random.default_rng(0))
            assert [a is None for a in drawn] == [t is None for t in types]
            arrays = [i if isinstance(i, np.ndarray) else a for i, a in zip(case.inputs, drawn, strict=True)]
            agrees(layer, case.attrs, arrays, symbolic=False)

    return check
