"""Precisions are permitted, preferred or obeyed; what cannot be obeyed fails and says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tenonrt import Builder, BuilderConfig, BuildError, Network, Registry
from tenonrt.builder.config import LayerPrecision
from tenonrt.builder.offers import Offers
from tenonrt.builder.precision import is_reduced, obeyed, preferred
from tenonrt.builder.sampling import problem_tolerance
from tenonrt.contracts import Kernel, Problem, Support, Tactic
from tenonrt.plugins.hooks import Hooks


def network(registry: Registry) -> Network:
    made = Network("precisions", registry)
    x = made.add_input("x", (4, 64))
    for name in ("first", "second"):
        x = made.add_fully_connected(x, np.eye(64, dtype=np.float32), name=name)
    made.mark_output(x, "y")
    return made


class Both(Kernel):
    """Offers two precisions; nothing is ever run."""

    def supports(self, problem: Problem) -> Support:
        return Support(True)

    def tactics(self, problem: Problem) -> list[Tactic]:
        return [Tactic("wide"), Tactic("narrow", precision="bfloat16")]


class Told(Kernel):
    """Lists what is permitted alone, and notes what it was told."""

    def __init__(self) -> None:
        self.permitted: set[str] = set()

    def supports(self, problem: Problem) -> Support:
        return Support(True)

    def tactics_within(self, problem: Problem, permits: Callable[[str], bool]) -> list[Tactic]:
        narrow = ("float16", "bfloat16", "int8", "tf32")
        self.permitted = {precision for precision in ("float32", *narrow) if permits(precision)}
        return [Tactic(precision, precision=precision) for precision in narrow if permits(precision)]


def offered(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, kernel: Kernel | None = None, **config: Any
) -> tuple[Network, Offers, list[Any]]:
    """The offers of `Both`, or of another kernel, in the place of the pack's products."""
    made, kernel = network(registry), kernel or Both()
    offers = Offers(made.graph, registry, BuilderConfig(**config), Hooks(registry))
    with monkeypatch.context() as patch:
        patch.setattr(registry, "instance", lambda entry: kernel)
        return made, offers, [o for layer in made.graph.layers for o in list(offers.at(layer))[:2]]


def precisions(offers: list[Any]) -> list[tuple[str, str]]:
    return [(o.posed.region.name, o.tactic.precision) for o in offers]


def test_a_precision_is_taken_only_where_it_is_permitted(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    _, offers, found = offered(registry, monkeypatch)
    assert {p for _, p in precisions(found)} == {"float32"}
    assert any("bfloat16" in refusal.why for refusal in offers.refusals)


@pytest.mark.parametrize("precision", ["bfloat16", "best"])
def test_permission_adds_to_float32(registry: Registry, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    _, _, found = offered(registry, monkeypatch, precision=precision)
    assert {p for _, p in precisions(found)} == {"float32", "bfloat16"}
    assert [is_reduced(o) for o in found] == [False, True, False, True]


def test_a_kernel_is_told_what_is_permitted(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Told()
    _, offers, found = offered(registry, monkeypatch, kernel)
    assert kernel.permitted == {"float32"}
    assert not found
    assert any("no tactic in what the configuration allows" in refusal.why for refusal in offers.refusals)
    _, _, found = offered(registry, monkeypatch, kernel, precision="bfloat16")
    assert {p for _, p in precisions(found)} == {"bfloat16"}
    constraints = (LayerPrecision("first", "bfloat16"),)
    offered(registry, monkeypatch, kernel, precision="float16", layer_precisions=constraints)
    assert kernel.permitted == {"float32", "float16", "bfloat16"}


def test_the_best_leaves_out_what_the_device_gains_nothing_by(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is offered where it is asked for by name."""
    kernel = Told()
    offered(registry, monkeypatch, kernel, precision="best")
    assert kernel.permitted == {"float32", "float16", "bfloat16", "int8", "tf32"}
    monkeypatch.setattr(type(registry.device("cpu")), "no_faster", frozenset({"bfloat16"}))
    offered(registry, monkeypatch, kernel, precision="best")
    assert kernel.permitted == {"float32", "float16", "int8", "tf32"}
    constraints = (LayerPrecision("second", "bfloat16", "prefer"),)
    offered(registry, monkeypatch, kernel, precision="best", layer_precisions=constraints)
    assert "bfloat16" in kernel.permitted


def test_what_a_layer_obeys_is_all_it_gets(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    constraints = (LayerPrecision("fir*", "bfloat16"), LayerPrecision("second", "float32"))
    made, offers, found = offered(registry, monkeypatch, layer_precisions=constraints)
    kept = obeyed(made.graph, constraints, found, offers.refuse)
    assert precisions(kept) == [("first", "bfloat16"), ("second", "float32")]
    assert any("'fir*' obeys bfloat16" in refusal.why for refusal in offers.refusals)


def test_a_preference_gives_way_where_nothing_has_it(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    constraints = (LayerPrecision("first", "bfloat16", "prefer"), LayerPrecision("second", "float16", "prefer"))
    made, offers, found = offered(registry, monkeypatch, layer_precisions=constraints)
    kept = preferred(made.graph, constraints, found, offers.refuse)
    assert precisions(kept) == [("first", "bfloat16"), ("second", "float32"), ("second", "bfloat16")]


def test_tf32_is_a_permission_and_judged_as_what_has_its_bits(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Told()
    _, _, found = offered(registry, monkeypatch, kernel, precision="tf32")
    assert kernel.permitted == {"float32", "tf32"}
    (first, *_) = found
    assert is_reduced(first)
    problem = first.posed.problem
    allowed = [problem_tolerance(problem, registry.layer_type, p) for p in ("float32", "tf32", "float16")]
    assert allowed[0].absolute < allowed[1].absolute == allowed[2].absolute


def test_one_layer_obeys_and_all_others_prefer_another(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a layer obeys is permitted to all of them."""
    constraints = (LayerPrecision("first", "bfloat16"), LayerPrecision("*", "float16", "prefer"))
    made, offers, found = offered(registry, monkeypatch, Told(), precision="float16", layer_precisions=constraints)
    assert ("second", "bfloat16") in precisions(found)
    kept = preferred(made.graph, constraints, obeyed(made.graph, constraints, found, offers.refuse), offers.refuse)
    assert precisions(kept) == [("first", "bfloat16"), ("second", "float16")]


def test_what_cannot_be_obeyed_fails_with_the_layer_s_name(registry: Registry) -> None:
    config = BuilderConfig(layer_precisions=(LayerPrecision("second", "float16"),), optimization_level=0)
    with pytest.raises(BuildError, match=r"'second'.*cannot obey float16"):
        Builder(config).build(network(registry))


def test_a_pattern_that_matches_nothing_fails(registry: Registry) -> None:
    config = BuilderConfig(layer_precisions=(LayerPrecision("thrid", "float32"),), optimization_level=0)
    with pytest.raises(BuildError, match="'thrid' of a precision matches no layer"):
        Builder(config).build(network(registry))


def test_words_that_are_no_precision_or_mode_are_refused() -> None:
    with pytest.raises(ValueError, match="no precision"):
        LayerPrecision("conv", "float99")
    with pytest.raises(ValueError, match="obeyed or preferred"):
        LayerPrecision("conv", "float32", "demand")  # type: ignore[arg-type]


def test_a_permission_that_changes_nothing_is_said(registry: Registry) -> None:
    for precision, said in {"float32": False, "float16": True}.items():
        config = BuilderConfig(precision=precision, optimization_level=0)  # type: ignore[arg-type]
        notes = Builder(config).build(network(registry)).report.notes
        assert any("float16 is permitted" in note for note in notes) == said
