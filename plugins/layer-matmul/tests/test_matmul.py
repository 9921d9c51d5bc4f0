from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt.contracts import Case, Run, TensorInfo, TensorType, symbol
from tenonrt_layer_matmul.fully_connected import FullyConnectedLayer
from tenonrt_layer_matmul.matrix_multiply import MatrixMultiplyAttributes, MatrixMultiplyLayer

PRODUCT, CONNECTED = MatrixMultiplyLayer(), FullyConnectedLayer()
PRODUCT_CASES = [pytest.param(c, id=c.name) for c in PRODUCT.cases()]
CONNECTED_CASES = [pytest.param(c, id=c.name) for c in CONNECTED.cases()]
ALL = [
    pytest.param(layer, c, id=f"{type(layer).__name__}-{c.name}")
    for layer in (PRODUCT, CONNECTED)
    for c in layer.cases()
]


def info(*shape: Any, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(TensorType(shape, dtype))


def infos(arrays: list[Any]) -> list[TensorInfo | None]:
    return [None if a is None else info(*a.shape, dtype=a.dtype.name) for a in arrays]


def values(case: Case) -> list[Any]:
    rng = np.random.default_rng(0)
    return [None if t is None else rng.standard_normal(t.shape).astype(t.dtype) for t in case.inputs]


@pytest.mark.parametrize("case", PRODUCT_CASES)
def test_matrix_multiply_agrees_with_onnxruntime(case: Case, oracle: Any, no_graphs: Run) -> None:
    a, b = values(case)
    attrs: dict[str, Any] = {}
    if case.attrs.transpose_a or case.attrs.transpose_b:
        attrs = {
            "domain": "com.microsoft",
            "transA": int(case.attrs.transpose_a),
            "transB": int(case.attrs.transpose_b),
        }
    (expected,) = oracle("FusedMatMul" if attrs else "MatMul", [a, b], **attrs)
    (found,) = PRODUCT.reference(case.attrs, [a, b], no_graphs)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CONNECTED_CASES)
def test_fully_connected_agrees_with_onnxruntime(case: Case, oracle: Any, no_graphs: Run) -> None:
    source, weights, bias = values(case)
    flat = source.reshape(int(np.prod(source.shape[:-1])), source.shape[-1])
    (expected,) = oracle("Gemm", [flat, weights, *([] if bias is None else [bias])], transB=1)
    (found,) = CONNECTED.reference(case.attrs, [source, weights, bias], no_graphs)
    np.testing.assert_allclose(found, expected.reshape(*source.shape[:-1], len(weights)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("layer", "case"), ALL)
def test_infer_agrees_with_reference_also_symbolically(layer: Any, case: Case, no_graphs: Run) -> None:
    arrays = values(case)
    (found,) = layer.reference(case.attrs, arrays, no_graphs)
    (concrete,) = layer.infer(case.attrs, infos(arrays))
    assert concrete.shape == found.shape
    shape = arrays[0].shape
    symbolic = info(*(symbol(f"s{i}") for i in range(len(shape))))
    (inferred,) = layer.infer(case.attrs, [symbolic, *infos(arrays)[1:]])
    assert inferred.type.concrete({f"s{i}": d for i, d in enumerate(shape)}) == found.shape


@st.composite
def batches(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast, sizes 0 to 3, of different ranks."""
    whole = draw(st.lists(st.integers(0, 3), max_size=3))
    sides = []
    for _ in range(2):
        part = whole[draw(st.integers(0, len(whole))) :]
        sides.append(tuple(1 if draw(st.booleans()) else size for size in part))
    return sides[0], sides[1]


@settings(max_examples=80, deadline=None)
@given(batches(), st.tuples(*[st.integers(0, 3)] * 3), st.booleans(), st.booleans())
def test_random_batches(batch: Any, sizes: tuple[int, int, int], transpose_a: bool, transpose_b: bool) -> None:
    (m, k, n), (before_a, before_b) = sizes, batch
    rng = np.random.default_rng(0)
    a = rng.standard_normal((*before_a, *((k, m) if transpose_a else (m, k))))
    b = rng.standard_normal((*before_b, *((n, k) if transpose_b else (k, n))))
    attrs = MatrixMultiplyAttributes(transpose_a, transpose_b)
    (found,) = PRODUCT.reference(attrs, [a, b], None)  # type: ignore[arg-type]
    equation = f"...{'km' if transpose_a else 'mk'},...{'nk' if transpose_b else 'kn'}->...mn"
    np.testing.assert_allclose(found, np.einsum(equation, a, b), atol=1e-12)
    (inferred,) = PRODUCT.infer(attrs, infos([a, b]))
    assert inferred.shape == found.shape
    named = [info(*(symbol(f"{side}{i}") for i in range(x.ndim)), dtype="float64") for side, x in (("a", a), ("b", b))]
    symbols = {f"{side}{i}": d for side, x in (("a", a), ("b", b)) for i, d in enumerate(x.shape)}
    (symbolic,) = PRODUCT.infer(attrs, named)
    assert symbolic.type.concrete(symbols) == found.shape


def test_a_known_size_decides_a_broadcast() -> None:
    n = symbol("n", 1, 64)
    assert PRODUCT.infer(MatrixMultiplyAttributes(), [info(n, 2, 3), info(8, 3, 4)])[0].shape == (8, 2, 4)
    assert PRODUCT.infer(MatrixMultiplyAttributes(), [info(n, 2, 3), info(1, 3, 4)])[0].shape == (n, 2, 4)
    assert PRODUCT.infer(MatrixMultiplyAttributes(), [info(n, 2, 3), info(n, 3, 4)])[0].shape == (n, 2, 4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_summed_in_float32(dtype: str, no_graphs: Run) -> None:
    # 4096 ones and then 4096 times 1/8: a float16 or bfloat16 sum would stand still at 2048 or 256.
    a = np.concatenate([np.ones(4096), np.full(4096, 0.125)]).astype(TensorType((), dtype).numpy)[None]
    ones = np.ones((1, 8192), a.dtype)
    for layer, b in ((PRODUCT, ones.T), (CONNECTED, ones)):
        (found,) = layer.reference(layer.Attrs(), [a, b], no_graphs)
        assert found.dtype.name == dtype
        assert float(found[0, 0]) == 4608.0


def test_integers_are_exact(no_graphs: Run) -> None:
    a = np.array([[2**31, 1]], np.int64)
    (found,) = PRODUCT.reference(MatrixMultiplyAttributes(), [a, np.array([[2**31], [7]], np.int64)], no_graphs)
    assert found.dtype == np.int64
    assert found.item() == 2**62 + 7


@pytest.mark.parametrize(
    ("attrs", "inputs", "message"),
    [
        ({}, [info(2, 3), info(4, 5)], "a sums over 3 elements, b over 4"),
        ({"transpose_a": True}, [info(2, 3), info(3, 5)], "a sums over 2 elements, b over 3"),
        ({}, [info(2, 4, 3), info(3, 3, 5)], "shapes 2 and 3 do not broadcast"),
        ({"transpose_b": True}, [info(2, 3), info(3)], "b is float32.3., expected at least 2 axes"),
        ({}, [info(), info(3)], "a is float32.scalar., expected at least 1 axes"),
        ({}, [info(2, 3), info(3, 4, dtype="float16")], "b is float16.3x4., expected the element type of a, float32"),
        ({}, [info(2, 3, dtype="bool"), info(3, 4)], "a is bool"),
        ({}, [info(symbol("n", 5, 7), 2, 3), info(4, 3, 4)], "shapes n and 4 do not broadcast"),
    ],
)
def test_refusals_say_what_was_found(attrs: Any, inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PRODUCT.infer(MatrixMultiplyAttributes(**attrs), inputs)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([info(2, 3), info(4, 5)], r"weights are float32\[4x5\], expected \[N, 3\]"),
        ([info(2, 3), info(4, 3), info(3)], r"bias is float32\[3\], expected \[4\]"),
        ([info(), info(4, 3)], "expected at least one axis"),
    ],
)
def test_fully_connected_refusals(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CONNECTED.infer(CONNECTED.Attrs(), inputs)


def test_flops() -> None:
    attrs, inputs = MatrixMultiplyAttributes(transpose_a=True), [info(2, 7, 5), info(7, 3)]
    assert PRODUCT.flops(attrs, inputs, PRODUCT.infer(attrs, inputs)) == 2 * 2 * 5 * 7 * 3
    connected = [info(2, 7), info(3, 7)]
    assert CONNECTED.flops(CONNECTED.Attrs(), connected, CONNECTED.infer(CONNECTED.Attrs(), connected)) == 2 * 2 * 7 * 3
