"""Finding plugins among real installed metadata, and what becomes of those that cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CORE = {"Requires-Dist": "tenonrt-core>=0.1,<0.2"}


def distribution(folder: Path, name: str, points: dict[str, dict[str, str]], **fields: str) -> None:
    """A dist-info folder as an installer leaves it."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    head = {"Metadata-Version": "2.1", "Name": name, "Version": "1.0", **fields}
    info.joinpath("METADATA").write_text("".join(f"{key.replace('_', '-')}: {value}\n" for key, value in head.items()))
    sections = (f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in names.items()) for group, names in points.items())
    info.joinpath("entry_points.txt").write_text("\n".join(sections))


LAYER = """
from tenonrt.contracts import LayerType

class Layer(LayerType):
    def infer(self, attrs, inputs):
        return [inputs[0]]

    def reference(self, attrs, arrays, run):
        return [arrays[0]]

class Abstract(LayerType):
    pass

class Stranger:
    pass
"""

PRELUDE = """
import json, sys, warnings
import tenonrt
from tenonrt.plugins.discovery import scan
from tenonrt.plugins.registry import Registry, LAYERS, KERNELS
from tenonrt.plugins.selection import PluginSet
caught = []
warnings.showwarning = lambda message, *rest: caught.append(str(message))
warnings.simplefilter("always")

def attempt(call):
    try:
        return type(call()).__name__
    except tenonrt.PluginError as error:
        return str(error)
"""


def python(folder: Path, script: str, **environment: str) -> Any:
    """What the script leaves in ``result``, from a process that has the folder on its path."""
    path = os.pathsep.join([str(folder), *(p for p in sys.path if p)])
    found = subprocess.run(
        [sys.executable, "-c", f"{PRELUDE}\n{script}\nprint(json.dumps(result))"],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, **environment, "PYTHONPATH": path},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_three_hundred_distributions_are_found_and_none_is_imported(tmp_path: Path) -> None:
    for i in range(300):
        module = f"fake_plugin_{i}"
        points = {"tenonrt.layers": {f"fake.Layer{i}": f"{module}:Layer"}}
        points["tenonrt.kernels"] = {f"cpu/fake.Layer{i}.quick": f"{module}:Quick"}
        points["console_scripts"] = {f"fake{i}": f"{module}:main"}
        distribution(tmp_path, f"fake-plugin-{i}", points, **CORE)
        tmp_path.joinpath(f"{module}.py").write_text("raise AssertionError('imported')")
    script = """
groups = scan()
names = {group: [e.name for e in entries if e.distribution.startswith("fake-")] for group, entries in groups.items()}
usable = {g: sum(e.distribution.startswith("fake-") for e in Registry().usable(g)) for g in (LAYERS, KERNELS)}
result = [names, usable, [m for m in sys.modules if m.startswith("fake_")], caught, sorted(groups)]
"""
    names, usable, imported, warned, groups = python(tmp_path, script)
    assert sorted(names["tenonrt.layers"]) == sorted(f"fake.Layer{i}" for i in range(300))
    assert sorted(names["tenonrt.kernels"]) == sorted(f"cpu/fake.Layer{i}.quick" for i in range(300))
    assert names["tenonrt.layers"] == sorted(names["tenonrt.layers"])
    assert usable == {"tenonrt.layers": 300, "tenonrt.kernels": 300}
    assert imported == []
    assert warned == []
    assert all(group.startswith("tenonrt.") for group in groups)


def test_distributions_with_broken_metadata_hide_only_themselves(tmp_path: Path) -> None:
    distribution(tmp_path, "good", {"tenonrt.layers": {"fake.Good": "good:Layer"}}, **CORE)
    for name, text in (("bad-syntax", b"[tenonrt.layers]\nno value\n"), ("bad-bytes", b"\xff\xfe[tenonrt.layers]\n")):
        distribution(tmp_path, name, {})
        tmp_path.joinpath(f"{name.replace('-', '_')}-1.0.dist-info", "entry_points.txt").write_bytes(text)
    distribution(tmp_path, "no-metadata", {"tenonrt.layers": {"fake.Lost": "lost:Layer"}})
    tmp_path.joinpath("no_metadata-1.0.dist-info", "METADATA").unlink()
    script = "names = [e.name for e in scan()[LAYERS]]\nresult = [names, caught]"
    names, warned = python(tmp_path, script)
    assert "fake.Good" in names
    assert "Convolution" in names
    assert len([w for w in warned if "cannot be read" in w and str(tmp_path) in w]) >= 2
    strict = python(tmp_path, "result = attempt(scan)", TENONRT_STRICT="1")
    assert "cannot be read" in strict


def test_what_is_found_is_what_importlib_metadata_finds() -> None:
    script = """
import importlib_metadata
found = sorted([e.group, e.name, e.value, e.distribution, e.version] for g in scan().values() for e in g)
asked = sorted(
    [p.group, p.name, p.value, d.metadata["Name"], d.version]
    for d in importlib_metadata.distributions() for p in d.entry_points if p.group.startswith("tenonrt.")
)
result = [len(found), found == asked]
"""
    number, same = python(Path(), script)
    assert number > 100
    assert same


def test_distributions_in_a_zip_file_and_of_old_installers_are_found(tmp_path: Path) -> None:
    distribution(tmp_path / "zipped", "Zipped", {"tenonrt.layers": {"fake.Zipped": "zipped_module:Layer"}}, **CORE)
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "zipped")
    distribution(tmp_path / "old", "old", {"tenonrt.layers": {"fake.Old": "old_module:Layer"}}, **CORE)
    (info,) = (tmp_path / "old").iterdir()
    info.joinpath("METADATA").rename(info / "PKG-INFO")
    info.rename(info.with_suffix(".egg-info"))
    script = "result = sorted(e.name for e in Registry().usable(LAYERS) if e.name.startswith('fake.')), caught"
    assert python(tmp_path / "old", script) == [["fake.Old"], []]
    script = f"sys.path.insert(1, {archive!r})\n{script}"
    assert python(tmp_path / "old", script) == [["fake.Old", "fake.Zipped"], []]


def test_the_first_of_a_name_on_the_path_shadows_the_others(tmp_path: Path) -> None:
    distribution(tmp_path / "first", "Same_Name", {"tenonrt.layers": {"fake.First": "a:A"}})
    distribution(tmp_path / "second", "same-name", {"tenonrt.layers": {"fake.Second": "a:A"}})
    script = f"sys.path.insert(1, {str(tmp_path / 'second')!r})\nresult = [e.name for e in scan()[LAYERS]]"
    found = [name for name in python(tmp_path / "first", script) if name.startswith("fake.")]
    assert found in (["fake.First"], ["fake.Second"])


def test_metadata_are_understood_when_a_group_of_theirs_is_asked_for(tmp_path: Path) -> None:
    distribution(tmp_path / "first", "same", {"tenonrt.layers": {"fake.First": "a:A"}}, **CORE)
    distribution(tmp_path / "second", "same", {"tenonrt.kernels": {"cpu/fake.Second.a": "a:A"}}, **CORE)
    distribution(tmp_path / "second", "broken", {"tenonrt.kernels": {"cpu/fake.Broken.a": "a:A"}}, **CORE)
    for info in (tmp_path / "second").glob("broken-*"):
        info.joinpath("entry_points.txt").write_text("[tenonrt.kernels]\nno value\n")
    script = f"""
sys.path.insert(1, {str(tmp_path / "second")!r})
found = scan()
layers = [e.name for e in found[LAYERS] if e.distribution == "same"]
quiet = list(caught)
kernels = [e.name for e in found[KERNELS] if e.distribution in ("same", "broken")]
result = [layers, len(quiet), kernels, len(caught), "tenonrt.none" in found, len(found) == len(list(found))]
"""
    assert python(tmp_path / "first", script) in (
        [["fake.First"], 0, [], 1, False, True],
        [[], 0, ["cpu/fake.Second.a"], 1, False, True],
    )


def test_the_contracts_offer_what_they_list() -> None:
    script = """
from tenonrt import contracts
lacking = [name for name in contracts.__all__ if not hasattr(contracts, name)]
result = [lacking, sorted(set(contracts._WHERE) - set(contracts.__all__)), hasattr(contracts, "nothing")]
"""
    assert python(Path(), script) == [[], [], False]


@pytest.mark.parametrize(
    ("requirement", "compatible"),
    [
        ("tenonrt-core>=0.1,<0.2", True),
        ("tenonrt-core>=9", False),
        ("tenonrt_core>=9", False),
        ("TenonRT.Core<0.1", False),
        ('tenonrt-core>=9; extra == "future"', True),
        ('tenonrt-core>=9; python_version < "3"', True),
        ("numpy>=99", True),
        ("tenonrt-core (((", False),
    ],
)
def test_compatibility_is_judged_from_the_requirements(tmp_path: Path, requirement: str, compatible: bool) -> None:
    points = {"tenonrt.layers": {"fake.A": "judged:Layer", "fake.B": "judged:Layer"}}
    distribution(tmp_path, "judged", points, Requires_Dist=requirement)
    tmp_path.joinpath("judged.py").write_text(LAYER)
    script = """
registry = Registry()
records = [r for r in registry.records() if r.entry.distribution == "judged"]
answer = attempt(lambda: registry.layer_type("fake.A"))
result = [[r.state for r in records], answer, "judged" in sys.modules, caught]
"""
    states, answer, imported, warned = python(tmp_path, script)
    if compatible:
        assert (answer, imported, warned) == ("Layer", True, [])
        assert sorted(states) in (["found", "loaded"], ["loaded", "loaded"], ["found", "found"])
    else:
        assert states == ["incompatible", "incompatible"]
        assert not imported
        assert "installed but not usable" in answer
        assert requirement in answer
        assert len(warned) == 1  # one loud line for the distribution, not one an entry
        assert "judged" in warned[0]


def test_blocked_plugins_are_quiet_and_named_when_asked_for(tmp_path: Path) -> None:
    distribution(tmp_path, "blocked", {"tenonrt.layers": {"fake.A": "blocked_module:Layer"}}, **CORE)
    tmp_path.joinpath("blocked_module.py").write_text(LAYER)
    script = """
answers = [
    attempt(lambda: Registry(PluginSet(deny=("blocked",))).layer_type("fake.A")),
    attempt(lambda: Registry(PluginSet(deny=("blo*:fake.?",))).layer_type("fake.A")),
    attempt(lambda: Registry(PluginSet(allow=("tenonrt-*",))).layer_type("fake.A")),
    attempt(lambda: Registry(PluginSet(allow=("blocked",), deny=("blocked",))).layer_type("fake.A")),
    attempt(lambda: Registry(PluginSet(allow=("blocked",))).layer_type("fake.A")),
]
result = [answers, caught]
"""
    answers, warned = python(tmp_path, script)
    assert [answer.rpartition(": ")[2] for answer in answers] == [
        "denied by the application's plugin set",
        "denied by the application's plugin set",
        "not in the application's list of allowed plugins",
        "denied by the application's plugin set",
        "Layer",
    ]
    assert warned == []


def test_the_environment_selects_plugins(tmp_path: Path) -> None:
    distribution(tmp_path, "chosen", {"tenonrt.layers": {"fake.A": "chosen_module:Layer"}}, **CORE)
    tmp_path.joinpath("chosen_module.py").write_text(LAYER)
    script = "result = attempt(lambda: Registry().layer_type('fake.A'))"
    assert python(tmp_path, script) == "Layer"
    assert "denied" in python(tmp_path, script, TENONRT_PLUGINS_DENY="other, chosen")
    assert "not in the application's list" in python(tmp_path, script, TENONRT_PLUGINS_ALLOW="tenonrt-*")
    assert python(tmp_path, script, TENONRT_PLUGINS_ALLOW="tenonrt-*,chosen") == "Layer"
    assert "not in the application's list" in python(tmp_path, script, TENONRT_PLUGINS_ALLOW="")


FAILURES = {
    "broken:Layer": "raise RuntimeError('no such chip')",
    "exits:Layer": "raise SystemExit(3)",
    "absent:Layer": None,
    "typo:Layre": LAYER,
    "odd:Abstract": LAYER,
    "stray:Stranger": LAYER,
}


@pytest.mark.parametrize("value", sorted(FAILURES))
def test_a_plugin_that_fails_says_why_and_harms_no_other(tmp_path: Path, value: str) -> None:
    module, text = value.partition(":")[0], FAILURES[value]
    distribution(tmp_path, "failing", {"tenonrt.layers": {"fake.A": value}}, **CORE)
    if text is not None:
        tmp_path.joinpath(f"{module}.py").write_text(text)
    script = """
registry = Registry()
answers = [attempt(lambda: registry.layer_type("fake.A")) for _ in range(2)]
record = next(r for r in registry.records() if r.entry.name == "fake.A")
result = [answers, record.state, record.why, record.traceback, caught, attempt(lambda: registry.layer_type("Softmax"))]
"""
    answers, state, why, trace, warned, other = python(tmp_path, script)
    assert state == "failed"
    assert value in why
    assert "Traceback" in trace
    assert len(warned) == 1
    assert "failing:fake.A 1.0 is failed" in warned[0]
    assert "tenonrt plugins --why failing" in warned[0]
    assert all("failing:fake.A" in answer and why in answer for answer in answers)
    assert other.startswith("Softmax")
    strict = python(tmp_path, "result = attempt(lambda: Registry().layer_type('fake.A'))", TENONRT_STRICT="1")
    assert "failing:fake.A 1.0 is failed" in strict


def test_two_offers_of_a_kind_are_an_error_that_names_both(tmp_path: Path) -> None:
    for name in ("first", "second"):
        distribution(tmp_path, name, {"tenonrt.layers": {"fake.A": f"{name}_module:Layer"}}, **CORE)
        tmp_path.joinpath(f"{name}_module.py").write_text(LAYER)
    script = """
result = [attempt(lambda: Registry(plugins).layer_type("fake.A")) for plugins in (
    PluginSet(), PluginSet(replace=("second",)), PluginSet(deny=("first",)))]
"""
    both, undeclared, denied = python(tmp_path, script)
    for answer in (both, undeclared):  # allowing a replacement that nobody declared settles nothing
        assert "first 1.0 and second 1.0 both offer 'fake.A' of tenonrt.layers" in answer
        assert "PluginSet(deny=...)" in answer
    assert denied == "Layer"


def test_a_declared_and_allowed_replacement_wins(tmp_path: Path) -> None:
    distribution(tmp_path, "first", {"tenonrt.layers": {"fake.A": "first_module:Layer"}}, **CORE)
    points = {"tenonrt.layers": {"fake.A": "second_module:Layer"}}
    points["tenonrt.replaces"] = {"tenonrt.layers/fake.A": "second_module:Layer"}
    distribution(tmp_path, "second", points, **CORE)
    for name in ("first", "second"):
        tmp_path.joinpath(f"{name}_module.py").write_text(LAYER)
    script = """
registry = Registry(PluginSet(replace=("second",)))
result = [attempt(lambda: Registry().layer_type("fake.A")), type(registry.layer_type("fake.A")).__module__]
"""
    not_allowed, module = python(tmp_path, script)
    assert "both offer" in not_allowed
    assert module == "second_module"


def test_an_unknown_kind_says_what_to_install(tmp_path: Path) -> None:
    script = """
answers = [attempt(lambda: Registry(PluginSet(allow=())).layer_type(k)) for k in ("acme.Roi", "Sotfmax")]
entries = [e for g in scan().values() for e in g if e.name != "Softmax"]
answers.append(attempt(lambda: Registry(entries=entries).layer_type("Softmax")))
answers.append(attempt(lambda: Registry().device("npu")))
answers.append(attempt(lambda: Registry().kernel("acme-kernels:cpu/Softmax.acme")))
result = answers
"""
    stranger, misspelt, known, device, kernel = python(tmp_path, script)
    assert "no installed distribution offers the layer kind 'acme.Roi'; install the plugin that provides it" in stranger
    assert "did you mean Softmax? Otherwise install the plugin that provides it" in misspelt
    assert "install tenonrt-layer-softmax" in known
    assert "no installed distribution offers the device 'npu'; installed: cpu" in device
    assert "install the distribution acme-kernels" in kernel
