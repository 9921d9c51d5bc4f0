"""Hooks in real builds: plugins are files with metadata on the path, as installed ones are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tenonrt import Builder, BuilderConfig, BuildError, BuildReport, Engine, Network, PluginError, Registry
from tenonrt.contracts import Candidate, Problem, hookimpl
from tenonrt.plan.program import Choice
from tenonrt.plugins import discovery, registry
from tenonrt.plugins.hooks import Hooks
from tenonrt.plugins.registry import HOOKS, PluginWarning

GEMM, REFERENCE = "tenonrt-kernel-numpy:cpu/Convolution.numpy_gemm", "tenonrt-kernel-numpy:*/*.numpy"
HEADER = "from dataclasses import replace\nfrom tenonrt.contracts import Verdict, hookimpl\nSEEN = []\n"
# The kernels that these tests decide between: whatever else is installed takes no part.
ALLOWED = "acme-*,tenonrt-device-cpu,tenonrt-kernel-numpy,tenonrt-layer-*,tenonrt-passes-standard"
CHOOSE = "@hookimpl\ndef choose(problem, regions, candidates):\n    return {verdicts}\n"
Install = Callable[..., Any]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a hook plugin ``acme-<name>`` of this source on the path; its module is importable as ``acme_<name>``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TENONRT_PLUGINS_ALLOW", ALLOWED)
    monkeypatch.setattr(registry, "_default", [])  # the process's registry knows nothing of these plugins

    def put(name: str, source: str, entries: str = "") -> None:
        (tmp_path / f"acme_{name}.py").write_text(HEADER + source)
        information = tmp_path / f"acme_{name}-1.5.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.5\n")
        (information / "entry_points.txt").write_text(f"[{HOOKS}]\n{name} = acme_{name}\n{entries}")
        discovery.scan.cache_clear()

    yield put
    discovery.scan.cache_clear()
    for module in [m for m in sys.modules if m.startswith("acme_") and m != "acme_tenonrt"]:
        del sys.modules[module]


def network() -> Network:
    """y = relu(conv(x)): two layers that one kernel can fuse."""
    made = Network("small", Registry())
    x = made.add_input("x", (1, 2, 5, 5))
    weights = np.random.default_rng(0).standard_normal((3, 2, 3, 3)).astype(np.float32)
    made.mark_output(
        made.add_activation(made.add_convolution(x, weights, name="conv"), function="relu", name="relu"), "y"
    )
    return made


def build(level: int = 0, **config: Any) -> Engine:
    return Builder(BuilderConfig(optimization_level=level, **config)).build(network())


def rows(report: BuildReport, *layers: str) -> dict[str, str]:
    """Why, by candidate, of one region."""
    [region] = [r for r in report.regions if r.layers == layers]
    return {f"{c.kernel}#{c.tactic}": c.why for c in region.candidates}


def seen(name: str) -> list[Any]:
    found: list[Any] = sys.modules[f"acme_{name}"].SEEN
    return found


# --- configure -------------------------------------------------------------------------------------------------------


def test_configurations_are_changed_in_the_order_of_ids_with_the_first_ones_first(install: Install) -> None:
    body = "def configure(config):\n    return replace(config, workspace=(config.workspace or 0) * 10 + {})\n"
    install("a", "@hookimpl\n" + body.format(1))
    install("b", "@hookimpl\n" + body.format(2))
    install("c", "@hookimpl(tryfirst=True)\n" + body.format(3))
    install("d", "@hookimpl\ndef configure(config):\n    SEEN.append(config.workspace)\n")
    assert Hooks(Registry()).configure(BuilderConfig()).workspace == 312
    assert seen("d") == [312]


def test_a_changed_configuration_is_what_is_built(install: Install) -> None:
    install("small", "@hookimpl\ndef configure(config):\n    return replace(config, workspace=0)\n")
    engine = build()
    assert {s.kernel for s in engine.report.steps} == {REFERENCE}, "im2col needs a workspace"
    assert any("more than the 0 that" in why for why in rows(engine.report, "conv").values())


def test_a_changed_plugin_set_selects_hooks_too(install: Install) -> None:
    install(
        "a",
        "from tenonrt import PluginSet\n"
        "@hookimpl\n"
        "def configure(config):\n    return replace(config, plugins=PluginSet(deny=('acme-b', 'tenonrt-hook-*')))\n",
    )
    install("b", "@hookimpl\ndef built(report):\n    SEEN.append(report)\n")
    build()
    assert seen("b") == []


def test_what_is_no_configuration_is_refused(install: Install) -> None:
    install("a", "@hookimpl\ndef configure(config):\n    return {'threads': 2}\n")
    with pytest.raises(PluginError, match=r"configure\(\) of hook plugin acme-a:a 1.5 returned .*BuilderConfig"):
        build()


# --- choose ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 3])
def test_a_forbidden_candidate_is_not_used_and_the_report_says_why(install: Install, level: int) -> None:
    install(
        "no",
        "@hookimpl\ndef choose(candidates):\n"
        "    return [Verdict('forbid', c.id, 'it is slow here') for c in candidates if 'gemm' in c.kernel]\n",
    )
    engine = build(level)
    assert {s.kernel for s in engine.report.steps} == {REFERENCE}
    words = "forbidden by acme-no:no: it is slow here"
    gemm = {f"{GEMM}#im2col": words, f"{GEMM}#shifted": words}
    assert rows(engine.report, "conv") == {f"{REFERENCE}#default": "", **gemm}
    assert rows(engine.report, "conv", "relu") == gemm


@pytest.mark.parametrize("level", [0, 3])
@pytest.mark.parametrize("tactic", ["im2col", "shifted"])
def test_a_pin_forbids_the_problems_other_candidates(install: Install, tactic: str, level: int) -> None:
    install(
        "pin",
        "@hookimpl\ndef choose(regions, candidates):\n"
        f"    return [Verdict('pin', c.id, 'measured') for c in candidates if c.id == '{GEMM}#{tactic}']\n",
    )
    engine = build(level)
    assert {s.tactic for s in engine.report.steps if s.kernel == GEMM} == {tactic}
    others = {i: why for i, why in rows(engine.report, "conv").items() if i != f"{GEMM}#{tactic}"}
    assert set(others.values()) == {f"acme-pin:pin pinned {GEMM}#{tactic}: measured"}
    assert len(others) == 2
    assert rows(engine.report, "relu") == {f"{REFERENCE}#default": ""}, "a problem without a verdict is as it was"


def test_a_layer_that_is_left_without_candidates_is_named_with_the_plugin(install: Install) -> None:
    install(
        "no", "@hookimpl\ndef choose(candidates):\n    return [Verdict('forbid', c.id, 'no') for c in candidates]\n"
    )
    for level in (0, 3):
        with pytest.raises(BuildError, match=r"computes 'conv' .*forbidden by acme-no:no: no"):
            build(level)


def test_plugins_that_contradict_each_other_are_named(install: Install) -> None:
    install(
        "a",
        f"@hookimpl\ndef choose(regions):\n    return [Verdict('pin', '{GEMM}#im2col', 'A')] * ('conv' in regions)\n",
    )
    install(
        "b",
        f"@hookimpl\ndef choose(regions):\n    return [Verdict('pin', '{GEMM}#shifted', 'B')] * ('conv' in regions)\n",
    )
    with pytest.raises(BuildError, match=r"acme-a:a pins .*#im2col for conv, but acme-b:b pinned .*#shifted: B"):
        build()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("5", r"choose\(\) of hook plugin acme-a:a 1.5 returned 5; Sequence was expected"),
        ("['x']", r"returned 'x'; Verdict was expected"),
        ("[Verdict('retime', candidates[0].id, '')]", "is no verdict on this problem"),
        ("[Verdict('forbid', 'acme:cpu/X.y#z', '')]", r"is no verdict on this problem.* one of .*#default"),
    ],
)
def test_what_is_no_verdict_is_refused(install: Install, returned: str, message: str) -> None:
    install("a", CHOOSE.format(verdicts=returned))
    with pytest.raises(PluginError, match=message):
        build()


def test_a_decision_that_raises_ends_the_build_and_names_the_plugin(install: Install) -> None:
    install("a", "@hookimpl\ndef choose(problem):\n    return 1 / 0\n")
    with pytest.raises(PluginError, match=r"acme-a:a 1.5 raised in choose\(\): ZeroDivisionError") as raised:
        build()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_an_error_of_our_own_kind_passes_with_a_note(install: Install) -> None:
    install("a", "from tenonrt import BuildError\n@hookimpl\ndef choose():\n    raise BuildError('pins.toml is odd')\n")
    with pytest.raises(BuildError, match=r"pins.toml is odd") as raised:
        build()
    assert raised.value.__notes__ == ["hook plugin acme-a:a 1.5 raised in choose()"]


def test_a_reformats_kernels_are_chosen_from_as_well(install: Install) -> None:
    install(
        "no",
        "@hookimpl\ndef choose(problem, regions, candidates):\n"
        "    if problem.kinds == ('Reformat',):\n"
        "        SEEN.append(regions)\n"
        "        return [Verdict('forbid', c.id, 'no copies') for c in candidates]\n",
    )
    made = Network("two", Registry())
    x = made.add_input("x", (2, 3))
    a, b = made.add_unary(x, operation="exp", name="a"), made.add_unary(x, operation="abs", name="b")
    made.mark_output(made.add_concatenation(a, b, axis=1), "first")
    made.mark_output(made.add_concatenation(b, a, axis=1), "second")
    # Both concatenations as views: one tensor must then be stored twice.
    views = {layer.name: ("view", "") for layer in made.graph.layers if layer.kind == "Concatenation"}
    recorded = {**views, "a": (REFERENCE, "default"), "b": (REFERENCE, "default")}
    with pytest.raises(BuildError, match=r"no kernel stores .*forbidden by acme-no:no: no copies"):
        Builder(BuilderConfig(replay=Choice(recorded))).build(made)
    assert len(seen("no")) == 1


ROUGH = """
import numpy as np
from tenonrt.contracts import Attributes, Kernel, LayerType, Support, Tactic, Tolerance

class Double(LayerType):
    def infer(self, attrs, inputs):
        return [inputs[0]]
    def reference(self, attrs, arrays, run):
        return [np.asarray(arrays[0]) * 2]
    def tolerance(self, dtype, reduction):
        return Tolerance(0.1, 0.1)

class Rough(Kernel):
    def supports(self, problem):
        return Support(True, "", "all")
    def tactics(self, problem):
        return (Tactic("rough", exact=False),)
    def bind(self, code, packed):
        return Launch()

class Launch:
    def launch(self, inputs, outputs, workspace, stream):
        np.multiply(inputs[0], 2.04, out=outputs[0])

@hookimpl
def candidates(regions):
    SEEN.append(regions)

@hookimpl
def choose(candidates):
    return [Verdict("pin", c.id, "fast") for c in candidates if c.tactic.key == "rough"]
"""
ROUGH_ENTRIES = (
    "[tenonrt.layers]\nacme.Double = acme_rough:Double\n[tenonrt.kernels]\ncpu/acme.Double.r = acme_rough:Rough\n"
)


def test_a_pinned_tactic_of_reduced_accuracy_is_compared_with_exact_ones_and_asked_about_once(install: Install) -> None:
    """The engine of exact tactics that it is compared with is built although the pin forbids all of them."""
    install("rough", ROUGH, ROUGH_ENTRIES)

    def rough(tolerance: float | None) -> Engine:
        made = Network("rough", Registry())
        made.mark_output(made.add("acme.Double", [made.add_input("x", (4, 4))], name="double")[0], "y")
        return Builder(BuilderConfig(optimization_level=0, tolerance=tolerance)).build(made)

    assert [s.kernel for s in rough(0.1).report.steps] == ["acme-rough:cpu/acme.Double.r"]
    assert seen("rough") == [("double",)]
    with pytest.raises(BuildError, match=r"#default: acme-rough:rough pinned .*#rough: it was dropped"):
        rough(None)


# --- observers -------------------------------------------------------------------------------------------------------


def test_candidates_are_shown_before_they_are_chosen_from_in_plain_values(install: Install) -> None:
    install(
        "eye",
        "@hookimpl\ndef candidates(problem, key, regions, candidates):\n"
        "    SEEN.append((problem, key, regions, candidates))\n"
        "@hookimpl\ndef choose(key):\n    SEEN.append(key)\n",
    )
    report = build(3).report
    shown, chosen = seen("eye")[::2], seen("eye")[1::2]
    assert [key for _, key, _, _ in shown] == chosen
    assert {(key, regions) for _, key, regions, _ in shown} == {
        (r.problem, (" + ".join(r.layers),)) for r in report.regions
    }
    for problem, _, _, offered in shown:
        assert isinstance(problem, Problem)
        assert all(isinstance(candidate, Candidate) for candidate in offered)
        with pytest.raises(AttributeError):
            offered[0].kernel = "other"


def test_equal_problems_are_shown_once_with_all_their_regions(install: Install) -> None:
    install("eye", "@hookimpl\ndef candidates(regions):\n    SEEN.append(regions)\n")
    made = Network("twice", Registry())
    x = made.add_input("x", (2, 3))
    y = made.add_softmax(made.add_softmax(x, axis=1, name="one"), axis=1, name="two")
    made.mark_output(y, "y")
    Builder(BuilderConfig(optimization_level=0)).build(made)
    assert seen("eye") == [("one", "two")]


def test_built_is_given_the_report_of_the_plan(install: Install) -> None:
    install("eye", "@hookimpl\ndef built(network, report, misses):\n    SEEN.append((network, report, misses))\n")
    report = build(3).report
    [(name, shown, misses)] = seen("eye")
    assert (name, shown) == ("small", report)
    assert f"{misses} misses" in report.notes[-1]
    assert misses > 0


def test_an_observer_that_raises_silences_nobody(install: Install) -> None:
    install("a", "@hookimpl\ndef built(report):\n    raise RuntimeError('A')\n")
    install("b", "@hookimpl\ndef built(report):\n    SEEN.append(report)\n")
    install("c", "@hookimpl\ndef built(report):\n    raise KeyError('C')\n")
    made = network()
    with pytest.warns(PluginWarning) as warned:
        engine = Builder(BuilderConfig(optimization_level=0)).build(made)
    assert [str(w.message) for w in warned] == [
        "hook plugin acme-a:a 1.5 raised in built(): RuntimeError('A')",
        "hook plugin acme-c:c 1.5 raised in built(): KeyError('C')",
    ]
    assert seen("b") == [engine.report]
    [first] = [r for r in made.registry.records() if r.entry.distribution == "acme-a"]
    assert "hook plugin acme-a:a 1.5 raised in built()" in first.traceback


def test_strict_makes_an_observers_error_the_builds(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("a", "@hookimpl\ndef built(report):\n    raise RuntimeError('A')\n")
    monkeypatch.setenv("TENONRT_STRICT", "1")
    with pytest.raises(PluginError, match=r"acme-a:a 1.5 raised in built\(\): RuntimeError"):
        build()


# --- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("@hookimpl\ndef chose(problem):\n    pass\n", "unknown hook 'chose'.*configure, candidates, choose, built"),
        ("@hookimpl\ndef built(raport):\n    pass\n", "raport.*can not be found in the hookspec"),
        ("def built(report):\n    raise AssertionError\n", "no function of it is marked with hookimpl"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        (
            "import pluggy\n@pluggy.HookimplMarker('tenonrt')(wrapper=True)\ndef choose():\n    return (yield)\n",
            "choose: hooks take no wrappers",
        ),
    ],
)
def test_a_plugin_that_cannot_take_part_is_named_and_the_others_do(install: Install, source: str, why: str) -> None:
    install("bad", source)
    install("good", "@hookimpl\ndef built(report):\n    SEEN.append(report)\n")
    made = network()
    with pytest.warns(PluginWarning, match=rf"(?s)plugin acme-bad:bad 1.5 is failed: .*{why}"):
        Builder(BuilderConfig(optimization_level=0)).build(made)
    assert len(seen("good")) == 1
    [record] = [r for r in made.registry.records() if r.entry.distribution == "acme-bad"]
    assert record.state == "failed"


def test_pluggys_own_marker_and_ours_set_the_same() -> None:
    import pluggy

    def function() -> None: ...
    def other() -> None: ...

    hookimpl(tryfirst=True)(function)
    pluggy.HookimplMarker("tenonrt")(other, tryfirst=True)
    assert function.tenonrt_impl == other.tenonrt_impl  # type: ignore[attr-defined]
    assert hookimpl(other) is other
    pluggy.HookimplMarker("tenonrt")(function)
    assert function.tenonrt_impl == other.tenonrt_impl  # type: ignore[attr-defined]


@pytest.mark.parametrize("denied", [True, False])
def test_pluggy_is_imported_only_for_a_hook_plugin(tmp_path: Path, install: Install, denied: bool) -> None:
    install("eye", "@hookimpl\ndef built(report):\n    print('built')\n")
    script = (
        "import sys, tenonrt\n"
        "import tenonrt.contracts\n"
        "n = tenonrt.Network('n')\n"
        "n.mark_output(n.add_unary(n.add_input('x', (2,)), operation='exp'), 'y')\n"
        "tenonrt.Builder(tenonrt.BuilderConfig(optimization_level=0)).build(n)\n"
        "print('pluggy' in sys.modules)\n"
    )
    deny = "acme-eye" * denied
    environment = {**os.environ, "TENONRT_PLUGINS_DENY": deny, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert result.stdout.split() == (["False"] if denied else ["built", "True"]), result.stderr
