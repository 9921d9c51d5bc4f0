"""What can be said of a distribution before its code is used."""

from __future__ import annotations

import pytest
from tenonrt.plugins.discovery import Entry, incompatibility

from tenonrt_testing.loading import Loading, loadings
from tenonrt_testing.names import misnamed
from tenonrt_testing.subjects import entries_of, load

GROUP = None  # entry points of every group

# Slow to import or unwanted by most networks: to be imported when first used, never by merely loading a plugin.
HEAVY = ("cupy", "onnx", "google.protobuf", "llvmlite", "torch", "scipy", "highspy", "onnxruntime")


@pytest.fixture(scope="session")
def loaded(request: pytest.FixtureRequest) -> dict[str, Loading]:
    """What loading each tested distribution imports, by its name as discovery has it."""
    named = {entry.distribution for entry in entries_of(request.config.getoption("--tenonrt-dist"))}
    return loadings(sorted(named), HEAVY)


def test_loads(entry: Entry) -> None:
    """The object that an entry point names can be imported.

    When this fails: the module does not exist, lacks the name after the colon, or raises while it is imported. A
    library that may be absent must be imported where it is used, and its absence reported by `supports`.
    """
    load(entry)


def test_name_is_well_formed(entry: Entry) -> None:
    """An entry point's name is the routing key of its group.

    When this fails: the name cannot be routed, so the plugin would never be used. The message says what the group
    expects.
    """
    assert not (why := misnamed(entry.group, entry.name)), why


def test_names_are_unique(distribution: str) -> None:
    """A distribution offers no two entry points of one group and name.

    When this fails: only one of them would be found. Give the other implementation a name of its own.
    """
    keys = [(entry.group, entry.name) for entry in entries_of([distribution])]
    assert len(set(keys)) == len(keys), sorted({key for key in keys if keys.count(key) > 1})


def test_requires_a_bounded_core(distribution: str) -> None:
    """``Requires-Dist`` names tenonrt-core with lower and upper bounds that admit the core installed here.

    When this fails: without a bound an engine meets a core whose contracts have changed, and says so only by crashing.
    Write ``tenonrt-core>=0.1,<0.2`` among the dependencies.
    """
    from importlib_metadata import requires
    from packaging.requirements import Requirement

    found = [Requirement(line) for line in requires(distribution) or []]
    core = [r for r in found if r.name.lower() == "tenonrt-core"]
    assert core, f"{distribution} does not require tenonrt-core"
    operators = {specifier.operator for r in core for specifier in r.specifier}
    assert operators & {">=", "==", "~=", ">"}, f"{core[0]} has no lower bound"
    assert operators & {"<", "<=", "==", "~="}, f"{core[0]} has no upper bound"
    assert not (why := incompatibility(distribution)), why


def test_says_what_it_is(distribution: str) -> None:
    """The metadata has a summary and a licence.

    When this fails: add ``description`` and ``license`` to [project]; listings show them, and nobody may use code
    without a licence.
    """
    from importlib_metadata import metadata

    data = metadata(distribution)
    assert (data.get("Summary") or "").strip(), "no description"
    licences = [data.get("License-Expression"), data.get("License"), *(data.get_all("Classifier") or [])]
    assert any(text and ("License ::" in text or "::" not in text) for text in licences), "no licence"


def test_loading_is_light(distribution: str, loaded: dict[str, Loading]) -> None:
    """Loading every entry point of the distribution imports none of the heavy libraries.

    When this fails: move the import of the library into the function that uses it. Loading a plugin is part of starting
    every program that uses TenonRT.
    """
    found = loaded[next(entry.distribution for entry in entries_of([distribution]))]
    if found.status:
        pytest.fail(f"the process that loads {distribution} ended with {found.status}\n{found.errors}", False)
    assert found.heavy == {}
