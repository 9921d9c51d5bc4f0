"""LSTM, GRU and RNN against onnxruntime, with symbolic shapes, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tenonrt.contracts import TensorInfo, TensorType, symbol
from tenonrt_layer_recurrent.gru import GRUAttributes, GRULayer
from tenonrt_layer_recurrent.lstm import LSTMAttributes, LSTMLayer
from tenonrt_layer_recurrent.rnn import RNNLayer
from tenonrt_layer_recurrent.sequence import RecurrentAttributes, RecurrentLayer

Fixture = Callable[..., Any]
LAYERS: list[tuple[str, RecurrentLayer, Any]] = [
    ("LSTM", LSTMLayer(), LSTMAttributes),
    ("GRU", GRULayer(), GRUAttributes),
    ("RNN", RNNLayer(), RecurrentAttributes),
]
PLAIN = ["Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"]
PARAMETRIC = ["LeakyRelu", "ThresholdedRelu", "Elu", "Affine", "ScaledTanh", "HardSigmoid"]
# Those whose defaults onnxruntime takes from the operators of the same name, as ONNX says; it takes 0 for the others.
ONE_DEFAULT = [*PLAIN, "LeakyRelu", "Elu", "HardSigmoid"]
# onnxruntime's vectorised sigmoid and tanh are rational approximations with errors of a few 1e-6 each step.
TOLERANCE = {"rtol": 1e-3, "atol": 2e-5}


def _draw(layer: RecurrentLayer, attrs: Any, steps: int, batch: int, features: int) -> list[Any]:
    shape = (steps, batch, features) if attrs.layout == 0 else (batch, steps, features)
    operands = layer.operand_shapes(attrs, batch, features)
    types = [TensorType(shape), *(TensorType(s, "int32" if i == 3 else "float32") for i, s in enumerate(operands))]
    return list(layer.sample(attrs, types, np.random.default_rng(steps * 100 + batch * 10 + features)))


def _onnx_attributes(attrs: Any) -> dict[str, Any]:
    named = {"alphas": "activation_alpha", "betas": "activation_beta"}
    fields = {n: getattr(attrs, n) for n in attrs.__struct_fields__ if n != "layout"}
    given = {named.get(n, n): int(v) if isinstance(v, bool) else v for n, v in fields.items()}
    return {n: v for n, v in given.items() if v not in ((), None)}


def _compare(oracle: Fixture, operator: str, attrs: Any, arrays: list[Any], results: list[Any]) -> None:
    """onnxruntime has layout 0 only: for layout 1 its operands are transposed here."""
    batch_first = [0, 5, 6] if attrs.layout == 1 else []
    moved = [a.swapaxes(0, 1) if a is not None and i in batch_first else a for i, a in enumerate(arrays)]
    expected = oracle(operator, moved, len(results), **_onnx_attributes(attrs))
    if attrs.layout == 1:
        expected = [expected[0].transpose(2, 0, 1, 3), *(e.swapaxes(0, 1) for e in expected[1:])]
    for found, right in zip(results, expected, strict=True):
        np.testing.assert_allclose(found, right, **TOLERANCE)


@pytest.mark.parametrize("kind", LAYERS)
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_directions_layouts_and_optional_inputs(
    oracle: Fixture, agrees: Fixture, kind: tuple[str, RecurrentLayer, Any], data: st.DataObject
) -> None:
    operator, layer, make = kind
    attrs = make(
        hidden_size=data.draw(st.integers(1, 4)),
        direction=data.draw(st.sampled_from(["forward", "reverse", "bidirectional"])),
        layout=data.draw(st.sampled_from([0, 1])),
    )
    arrays = _draw(layer, attrs, *(data.draw(st.integers(1, 4)) for _ in range(3)))
    kept = [a if i < 3 or data.draw(st.booleans()) else None for i, a in enumerate(arrays)]
    fixed = {1: (0, 1), 2: (0, 1, 2), 3: (0, 1), 5: (0, 1, 2), 6: (0, 1, 2), 7: (0, 1)}
    _compare(oracle, operator, attrs, kept, agrees(layer, attrs, kept, fixed))


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(
    ("name", "given_parameters"), [*((n, False) for n in ONE_DEFAULT), *((n, True) for n in PARAMETRIC)]
)
def test_activations(oracle: Fixture, agrees: Fixture, direction: str, name: str, given_parameters: bool) -> None:
    attrs = RecurrentAttributes(
        hidden_size=3,
        direction=direction,  # type: ignore[arg-type]
        activations=(name,) * (2 if direction == "bidirectional" else 1),
        alphas=(0.3, 0.6) if given_parameters and name in PARAMETRIC else (),
        betas=(0.4, 0.2) if given_parameters and name in PARAMETRIC[3:] else (),
    )
    arrays = _draw(RNNLayer(), attrs, 3, 2, 4)
    _compare(oracle, "RNN", attrs, arrays, agrees(RNNLayer(), attrs, arrays))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ThresholdedRelu", [0, 0, 3]), ("Affine", [-2, 0.5, 3]), ("ScaledTanh", np.tanh([-2, 0.5, 3]))],
)
def test_defaults_are_those_of_the_operators(agrees: Fixture, name: str, expected: Any) -> None:
    attrs = RecurrentAttributes(hidden_size=1, activations=(name,))
    inputs = np.array([-2, 0.5, 3]).reshape(1, 3, 1)
    every, _ = agrees(RNNLayer(), attrs, [inputs, np.ones((1, 1, 1)), np.zeros((1, 1, 1))], {1: (0, 1), 2: (0, 1, 2)})
    np.testing.assert_allclose(every.reshape(-1), expected)


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize(
    "kind",
    [
        ("LSTM", LSTMLayer(), {"input_forget": True}),
        ("LSTM", LSTMLayer(), {"activations": ("HardSigmoid", "LeakyRelu", "Softsign"), "alphas": (0.3, 0.2)}),
        ("GRU", GRULayer(), {"linear_before_reset": True}),
        ("GRU", GRULayer(), {"activations": ("HardSigmoid", "Relu")}),
        ("LSTM", LSTMLayer(), {}),
        ("GRU", GRULayer(), {}),
        ("RNN", RNNLayer(), {}),
    ],
)
def test_cell_variants(
    oracle: Fixture, agrees: Fixture, clip: float | None, kind: tuple[str, Any, dict[str, Any]]
) -> None:
    operator, layer, options = kind
    attrs = layer.Attrs(hidden_size=4, clip=clip, **options)
    arrays = _draw(layer, attrs, 4, 3, 2)
    _compare(oracle, operator, attrs, arrays, agrees(layer, attrs, arrays))


@pytest.mark.parametrize(("_operator", "layer", "make"), LAYERS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(agrees: Fixture, _operator: str, layer: RecurrentLayer, make: Any, dtype: str) -> None:
    attrs = make(hidden_size=4, direction="bidirectional")
    arrays = _draw(layer, attrs, 3, 2, 5)
    kind = TensorType((), dtype).numpy
    found = agrees(layer, attrs, [a if a.dtype == np.int32 else a.astype(kind) for a in arrays])
    right = agrees(layer, attrs, arrays)
    for y, expected in zip(found, right, strict=True):
        np.testing.assert_allclose(y.astype("f8"), expected, atol=0.05 if dtype == "bfloat16" else 0.01)


def test_samples_leave_out_what_is_absent() -> None:
    attrs = RecurrentAttributes(hidden_size=3)
    types = [TensorType((4, 2, 5)), TensorType((1, 3, 5)), TensorType((1, 3, 3)), None, TensorType((2,), "int32")]
    drawn = RNNLayer().sample(attrs, types, np.random.default_rng(0))
    assert drawn[3] is None
    assert drawn[4] is not None
    assert drawn[4].min() >= 1
    assert drawn[4].max() <= 4


def test_symbolic_time_and_batch() -> None:
    time, batch = symbol("t", 1), symbol("b", 1)
    inputs = [TensorInfo(TensorType(s)) for s in ((time, batch, 5), (2, 12, 5), (2, 12, 3))]
    attrs = LSTMAttributes(hidden_size=3, direction="bidirectional")
    shapes = [o.shape for o in LSTMLayer().infer(attrs, inputs)]
    assert shapes == [(time, 2, batch, 3), (2, batch, 3), (2, batch, 3)]


def test_refusals_name_what_was_found() -> None:
    infos = [TensorInfo(TensorType(s)) for s in ((7, 2, 5), (1, 9, 4), (1, 9, 3))]
    with pytest.raises(ValueError, match=r"weights is float32\[1x9x4\], expected float32\[1x9x5\]"):
        GRULayer().infer(GRUAttributes(hidden_size=3), infos)
    with pytest.raises(ValueError, match="found 1 activations, expected 2"):
        GRULayer().infer(GRUAttributes(hidden_size=3, activations=("Tanh",)), infos)
    with pytest.raises(ValueError, match="unknown activation 'Gelu'"):
        RNNLayer().infer(RecurrentAttributes(hidden_size=3, activations=("Gelu",)), infos)
    with pytest.raises(ValueError, match=r"the input is int32\[2x3\]"):
        RNNLayer().infer(RecurrentAttributes(hidden_size=3), [TensorInfo(TensorType((2, 3), "int32")), *infos[1:]])


@pytest.mark.parametrize(("_operator", "layer", "_make"), LAYERS)
def test_cases_and_samples_are_valid(agrees: Fixture, _operator: str, layer: RecurrentLayer, _make: Any) -> None:
    for case in layer.cases():
        agrees(layer, case.attrs, layer.sample(case.attrs, case.inputs, np.random.default_rng(0)))
