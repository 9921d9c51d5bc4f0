"""Patches are applied whole or not at all; passes that misbehave are named and harm nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tenonrt.contracts import GraphView, Layer, Pass, Patch, symbol
from tenonrt.errors import GraphError
from tenonrt.graph.graph import Graph
from tenonrt.graph.network import Network
from tenonrt.graph.passes import run_passes
from tenonrt.graph.patching import apply_patch
from tenonrt.graph.verification import verify
from tenonrt.plugins.discovery import Entry, scan
from tenonrt.plugins.registry import PASSES, PluginWarning, Registry


def relu(net: Network, x: Any, name: str) -> Any:
    return net.add_activation(x, function="relu", name=name)


def chain(*names: str) -> Network:
    net = Network()
    x = net.add_input("x", (2, 3))
    for name in names:
        x = relu(net, x, name)
    net.mark_output(x, "y")
    return net


def layer(net: Network, name: str) -> Any:
    return next(found for found in net.layers if found.name == name)


def dump(graph: Graph) -> Any:
    """Everything that a patch could change."""
    return (
        [
            (found.name, found.kind, found.attrs, [t and t.name for t in found.inputs], found.sources, found.patches)
            for found in graph.layers
        ],
        [
            [(t.name, t.type, t.range, [(r.name, n) for r, n in t.readers.items()]) for t in f.outputs]
            for f in graph.layers
        ],
        [(t.name, t.type, [(r.name, n) for r, n in t.readers.items()]) for t in graph.inputs],
        [(name, t.name) for name, t in graph.outputs.items()],
        [graph.is_output(t) for f in graph.layers for t in f.outputs],
    )


def apply(net: Network, patch: Patch, author: str = "test:pass") -> list[Any]:
    return apply_patch(net.graph, patch, author, net.registry)


def test_a_replacement_inherits_sources_and_patches() -> None:
    net = chain("a", "b", "c")
    patch = Patch("a and b are one")
    (new,) = patch.add("Activation", [net.inputs[0]], {"function": "relu"})
    patch.replace(layer(net, "b").outputs[0], new)
    apply(net, patch)
    assert [f.name for f in net.layers] == ["a + b", "c"]
    first = layer(net, "a + b")
    assert first.sources == ("a", "b")
    assert first.patches == ("test:pass",)
    again = Patch("once more")
    (new,) = again.add("Activation", [net.inputs[0]], {"function": "sigmoid"})
    again.replace(first.outputs[0], new)
    apply(net, again, "test:other")
    assert layer(net, "a + b").sources == ("a", "b")
    assert layer(net, "a + b").patches == ("test:pass", "test:other")
    verify(net.graph)


def broken_second_layer(net: Network, patch: Patch, first: Any) -> None:
    patch.add("Activation", [first], {"function": "no such function"})


def broken_types(net: Network, patch: Patch, first: Any) -> None:
    (other,) = patch.add("Transpose", [first], {"permutation": (1, 0)})
    patch.replace(layer(net, "b").outputs[0], other)


def broken_inputs(net: Network, patch: Patch, first: Any) -> None:
    patch.add("MatrixMultiply", [first, first], {})


def unknown_kind(net: Network, patch: Patch, first: Any) -> None:
    patch.add("no.Such", [first], {})


def wrong_outputs(net: Network, patch: Patch, first: Any) -> None:
    patch.add("Activation", [first], {"function": "relu"}, outputs=2)


def missing_input(net: Network, patch: Patch, first: Any) -> None:
    patch.add("Elementwise", [first], {"operation": "sum"})


def used_removal(net: Network, patch: Patch, first: Any) -> None:
    patch.remove(layer(net, "a"))


def a_cycle(net: Network, patch: Patch, first: Any) -> None:
    (late,) = patch.add("Activation", [layer(net, "c").outputs[0]], {"function": "relu"})
    patch.replace(layer(net, "a").outputs[0], late)


@pytest.mark.parametrize(
    "spoil",
    [
        broken_second_layer,
        broken_types,
        broken_inputs,
        unknown_kind,
        wrong_outputs,
        missing_input,
        used_removal,
        a_cycle,
    ],
)
def test_a_patch_that_is_refused_leaves_no_trace(spoil: Callable[[Network, Patch, Any], None]) -> None:
    net = chain("a", "b", "c")
    before = dump(net.graph)
    patch = Patch("spoilt")
    (first,) = patch.add("Activation", [net.inputs[0]], {"function": "relu"})
    patch.replace(layer(net, "c").outputs[0], first)
    spoil(net, patch, first)
    with pytest.raises(Exception, match=r".") as caught:
        apply(net, patch)
    assert type(caught.value).__name__ in ("GraphError", "PluginError")
    assert dump(net.graph) == before
    verify(net.graph)


def test_a_refinement_that_a_reader_refuses_leaves_no_trace() -> None:
    """The new tensor is a more exact one, but what reads it cannot take that size: found only when re-inferring."""
    net = Network()
    n = symbol("n")
    x, w = net.add_input("x", (2, n)), net.add_input("w", (5, 4))
    four = net.add_input("three", (2, 3))
    hidden = relu(net, x, "hidden")
    net.mark_output(net.add_matrix_multiply(hidden, w, name="product"), "y")
    before = dump(net.graph)
    patch = Patch("n is three, says the pass; the product wants five")
    (new,) = patch.add("Activation", [four], {"function": "relu"})
    patch.replace(hidden, new)
    with pytest.raises(GraphError, match="product"):
        apply(net, patch)
    assert dump(net.graph) == before


def test_two_replacements_that_make_a_cycle_only_together_are_refused() -> None:
    net = Network()
    x = net.add_input("x", (2, 3))
    a, b = relu(net, x, "a"), relu(net, x, "b")
    net.mark_output(relu(net, a, "after_a"), "y")
    net.mark_output(relu(net, b, "after_b"), "z")
    before = dump(net.graph)
    patch = Patch("each reads what follows the other")
    (p,) = patch.add("Activation", [layer(net, "after_b").outputs[0]], {"function": "relu"})
    (q,) = patch.add("Activation", [layer(net, "after_a").outputs[0]], {"function": "relu"})
    patch.replace(a, p)
    patch.replace(b, q)
    with pytest.raises(GraphError, match="cycle"):
        apply(net, patch)
    assert dump(net.graph) == before


def test_a_cycle_is_found_after_a_patch_made_positions_stale() -> None:
    net = Network()
    x = net.add_input("x", (2, 3))
    early = relu(net, x, "early")
    reads_early = relu(net, early, "reads_early")
    target = relu(net, x, "target")
    late = relu(net, target, "late")
    net.mark_output(reads_early, "y")
    net.mark_output(late, "z")
    assert len(net.layers) == 4
    first = Patch("early now comes from late")
    (copy,) = first.add("Activation", [late], {"function": "relu"})
    first.replace(early, copy)
    apply(net, first)
    second = Patch("target would come from what reads early, hence from itself")
    (again,) = second.add("Activation", [reads_early], {"function": "relu"})
    second.replace(target, again)
    with pytest.raises(GraphError, match="cycle"):
        apply(net, second)
    verify(net.graph)


def test_a_constant_and_a_range_move_with_a_replacement() -> None:
    net = chain("a", "b")
    patch = Patch("a constant result")
    values = np.ones((2, 3), np.float32)
    patch.replace(layer(net, "a").outputs[0], patch.constant(values))
    apply(net, patch)
    (only,) = net.layers
    assert only.inputs[0] is not None
    assert np.array_equal(only.inputs[0].constant, values)
    assert not only.inputs[0].constant.flags.writeable


# passes --------------------------------------------------------------------------------------------------------------


class Source:
    def __init__(self, value: Any) -> None:
        self.value = value

    def load(self) -> Any:
        return self.value


def registry(**passes: type[Pass]) -> Registry:
    entries = [e for group, found in scan().items() if group != PASSES for e in found]
    fakes = [Entry(PASSES, f"{n.replace('_', '.', 1)}", "test", f"dist-{n}", "1", Source(p)) for n, p in passes.items()]
    return Registry(entries=[*entries, *fakes])


def swap(net: Any, found: Any, function: str) -> Patch:
    patch = Patch(f"{found.attrs.function} to {function}")
    (new,) = patch.add("Activation", found.inputs, {"function": function})
    patch.replace(found.outputs[0], new)
    return patch


class Flip(Pass):
    kinds = frozenset({"Activation"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        return swap(view, layer, "sigmoid") if layer.attrs.function == "relu" else None


class Flop(Pass):
    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        return swap(view, layer, "relu") if layer.attrs.function == "sigmoid" else None


class Raises(Pass):
    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        if layer.name == "b":
            raise RuntimeError("out of ideas")
        return None


class Misfit(Pass):
    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        patch = Patch("a layer that cannot be")
        patch.add("Activation", layer.inputs, {"function": "relu"})
        patch.add("Activation", layer.inputs, {"functoin": "relu"})
        return patch


def test_passes_run_until_they_have_nothing_to_offer() -> None:
    net = chain("a", "b")
    log = run_passes(net.graph, registry(fold_flip=Flip))
    assert [f.attrs.function for f in net.layers] == ["sigmoid", "sigmoid"]
    assert [(p.author, p.layer) for p in log.patches] == [("dist-fold_flip:fold.flip", n) for n in ("b", "a")]
    assert layer(net, "a").patches == ("dist-fold_flip:fold.flip",)
    assert layer(net, "a").sources == ("a",)


def test_passes_that_undo_each_other_end_with_an_error_that_names_them() -> None:
    net = chain("a", "b")
    with pytest.raises(GraphError, match=r"do not come to an end.*fold\.fl.p.*fold\.fl.p"):
        run_passes(net.graph, registry(fold_flip=Flip, fold_flop=Flop))


def test_a_pass_whose_patch_is_refused_is_recorded_and_the_others_go_on() -> None:
    net = chain("a", "b", "c")
    log = run_passes(net.graph, registry(fold_bad=Misfit, fold_flip=Flip))
    assert {p.layer for p in log.refused} == {"a", "b", "c"}
    assert all("a layer that cannot be: " in p.reason and "functoin" in p.reason for p in log.refused)
    assert [f.attrs.function for f in net.layers] == ["sigmoid"] * 3
    verify(net.graph)


def test_a_pass_that_raises_is_quarantined_and_the_others_go_on() -> None:
    net = chain("a", "b", "c")
    with pytest.warns(PluginWarning, match=r"fold\.bad is quarantined"):
        log = run_passes(net.graph, registry(fold_bad=Raises, fold_flip=Flip))
    assert "out of ideas" in log.quarantined["dist-fold_bad:fold.bad"]
    assert [f.attrs.function for f in net.layers] == ["sigmoid"] * 3
    verify(net.graph)


def test_a_pass_of_an_unknown_phase_is_reported() -> None:
    with pytest.warns(PluginWarning, match=r"later\.flip is quarantined: unknown phase 'later'") as caught:
        log = run_passes(chain("a").graph, registry(later_flip=Flip))
    assert len(caught) == 1, "once a build, not once a phase"
    assert "unknown phase 'later'; there are clean, fold" in log.quarantined["dist-later_flip:later.flip"]


# verification --------------------------------------------------------------------------------------------------------


def forget_reader(net: Network) -> None:
    layer(net, "a").outputs[0].readers.clear()


def foreign_tensor(net: Network) -> None:
    layer(net, "b").inputs = (Network().add_input("stranger", (2, 3)),)


def other_producer(net: Network) -> None:
    layer(net, "b").outputs[0].producer = layer(net, "a")


def lost_output(net: Network) -> None:
    net.graph.outputs["y"] = Network().add_input("stranger", (2, 3))


def planted_cycle(net: Network) -> None:
    a, b = layer(net, "a"), layer(net, "b")
    a.inputs = (b.outputs[0],)
    b.outputs[0].readers[a] = 1
    net.graph._order = None


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (forget_reader, "does not know its reader 'b'"),
        (foreign_tensor, "layer 'b' reads 'stranger', which nothing in 'network' makes"),
        (other_producer, "is an output of 'b' but names another producer"),
        (lost_output, "output 'y' of 'network' is 'stranger', which nothing makes"),
        (planted_cycle, "form a cycle: .*a"),
    ],
)
def test_verification_finds_planted_faults(plant: Callable[[Network], None], message: str) -> None:
    net = chain("a", "b", "c")
    verify(net.graph)
    plant(net)
    with pytest.raises(GraphError, match=message):
        verify(net.graph)
