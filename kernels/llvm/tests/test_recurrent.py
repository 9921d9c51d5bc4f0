"""LSTM and GRU of random sizes against the float64 reference, for every target that runs here."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import TARGETS, compiles, judge, problem_of
from tenonrt.contracts import Problem
from tenonrt_kernel_llvm import recurrent
from tenonrt_kernel_llvm.gru import LlvmGRU
from tenonrt_kernel_llvm.lstm import LlvmLSTM
from tenonrt_kernel_llvm.target import AVX2, AVX512, BASELINE, Target

FEW = settings(max_examples=8, deadline=None)
KERNELS = {"LSTM": LlvmLSTM, "GRU": LlvmGRU}


def weights(*shape: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) / max(1.0, float(shape[-1])) ** 0.5).astype(np.float32)


def layer(
    kind: str, steps: int = 3, batch: int = 2, features: int = 5, hidden: int = 9, bias: bool = True, **attrs: Any
) -> Problem:
    directions, gates = 2 if attrs.get("direction") == "bidirectional" else 1, 4 if kind == "LSTM" else 3

    def define(network: tenonrt.Network) -> Any:
        first = attrs.get("layout", 0) == 0
        x = network.add_input("x", (steps, batch, features) if first else (batch, steps, features))
        rows = gates * hidden
        given = [x, weights(directions, rows, features), weights(directions, rows, hidden)]
        given.append(weights(directions, 2 * rows) if bias else None)
        if attrs.pop("initial", False):
            shape = (directions, batch, hidden) if first else (batch, directions, hidden)
            given += [None, network.add_input("h", shape)]
        y, *lasts = network.add(kind, given, {"hidden_size": hidden, **attrs})
        for number, last in enumerate(lasts):
            network.mark_output(last, f"last{number}")
        return y

    return problem_of(define)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@FEW
@given(
    kind=st.sampled_from(["LSTM", "GRU"]), steps=st.integers(1, 6), batch=st.integers(1, 9),
    features=st.integers(1, 40), hidden=st.sampled_from([1, 15, 16, 33, 48]), layout=st.sampled_from([0, 1]),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]), bias=st.booleans(), initial=st.booleans(),
)  # fmt: skip
def test_layers(target: Target, kind: str, **sizes: Any) -> None:
    judge(KERNELS[kind](), layer(kind, **sizes), target)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_linear_before_reset(batch: int, threads: int) -> None:
    problem = layer("GRU", 4, batch, 6, 40, linear_before_reset=True)
    judge(LlvmGRU(), msgspec.structs.replace(problem, threads=threads), TARGETS[0])


@pytest.mark.parametrize(
    "attrs",
    [
        {"activations": ("HardSigmoid", "Relu", "LeakyRelu"), "alphas": (0.3, 0.1)},
        {"activations": ("Affine", "ScaledTanh", "Elu"), "alphas": (0.3, 0.9, 0.7), "betas": (0.4, 1.1)},
        {"activations": ("Softsign", "Softplus", "ThresholdedRelu"), "clip": 0.4},
        {"input_forget": True},
    ],
    ids=str,
)
def test_functions(attrs: Any) -> None:
    judge(LlvmLSTM(), layer("LSTM", 4, 2, 3, 18, **attrs), TARGETS[0])


def test_long_sequences_have_one_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "MAX_PHASES", 4)
    problem = layer("LSTM", 5)
    kernel = LlvmLSTM()
    codes = [kernel.compile(problem, tactic) for tactic in kernel.tactics(problem)]
    assert [code.native.phases for code in codes if code.native] == [(1,), (1,)]
    judge(kernel, problem, TARGETS[0])


@pytest.mark.parametrize("target", [AVX512, AVX2, BASELINE], ids=lambda t: t.name)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_compiles(target: Target, kind: str) -> None:
    compiles(KERNELS[kind](), layer(kind, direction="bidirectional"), target)
