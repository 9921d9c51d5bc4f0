"""The pytest plugin: ``--tenonrt-dist``, the parameters of the suites, `isolated_plugins`, and the list of waivers."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest

# Nothing of TenonRT is imported here: this module is loaded into every pytest run beside which the kit is installed.
if TYPE_CHECKING:
    from tenonrt.plugins.discovery import Entry
    from tenonrt.plugins.registry import Registry

    from tenonrt_testing.isolation import IsolatedRegistry

_SUITES = "tenonrt_testing.suites."
_RULES = pytest.StashKey[set[str]]()  # the ids of the conformance tests among those collected


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--tenonrt-dist``, ``--tenonrt-seconds`` and the ini option ``tenonrt_waivers``."""
    group = parser.getgroup("tenonrt", "conformance of TenonRT plugins")
    group.addoption(
        "--tenonrt-dist", action="append", default=[], metavar="NAME",
        help="hold every entry point of this installed distribution to its contract (may be repeated); "
        "use with --pyargs tenonrt_testing.suites",
    )  # fmt: skip
    group.addoption(
        "--tenonrt-seconds", type=float, default=30.0, metavar="S",
        help="time allowed for the first run of a kernel's tactic (default 30)",
    )  # fmt: skip
    parser.addini(
        "tenonrt_waivers", type="linelist", default=[],
        help="'PATTERN: REASON' lines; conformance tests whose names match PATTERN are expected to fail",
    )  # fmt: skip


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse distributions that are not installed."""
    names = session.config.getoption("--tenonrt-dist")
    if names:
        from tenonrt_testing.subjects import missing_distributions

        if missing := missing_distributions(names):
            raise pytest.UsageError(f"--tenonrt-dist: no installed distribution is called {', '.join(missing)}")


def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> list[Any] | None:
    """Suites of groups that no named distribution has entries in are left out, not skipped."""
    module = getattr(collector, "module", None)
    if module is None or not module.__name__.startswith(_SUITES) or not collector.funcnamefilter(name):
        return None
    if not collector.config.getoption("--tenonrt-dist"):
        raise pytest.UsageError("the suites need to know what to test: pass --tenonrt-dist NAME")
    return None if _subjects(collector.config, module) else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each entry point, or for each distribution, with its name in the test's id."""
    if not metafunc.module.__name__.startswith(_SUITES):
        return
    if "entry" in metafunc.fixturenames:
        entries = _subjects(metafunc.config, metafunc.module)
        metafunc.parametrize("entry", entries, ids=[entry.id for entry in entries], scope="session")
    if "distribution" in metafunc.fixturenames:
        metafunc.parametrize("distribution", metafunc.config.getoption("--tenonrt-dist"), scope="session")


def _subjects(config: pytest.Config, module: Any) -> list[Entry]:
    from tenonrt_testing.subjects import entries_of

    return entries_of(config.getoption("--tenonrt-dist"), module.GROUP)


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Everything that is installed."""
    from tenonrt.plugins.registry import Registry

    return Registry()


@pytest.fixture
def isolated_plugins() -> Iterator[IsolatedRegistry]:
    """The registry in force: it discovers nothing and holds only what the test adds to it."""
    from tenonrt.plugins.registry import using

    from tenonrt_testing.isolation import IsolatedRegistry

    registry = IsolatedRegistry()
    with using(registry):
        yield registry


# waivers ----------------------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Turn the waivers of the configuration into expected failures."""
    waivers = [_waiver(line) for line in config.getini("tenonrt_waivers")]
    rules = config.stash.setdefault(_RULES, set())
    for item in items:
        module = getattr(item, "module", None)
        if module is not None and module.__name__.startswith(_SUITES):
            rules.add(item.nodeid)
            for pattern, reason in waivers:
                if fnmatchcase(item.name.replace("[", "("), pattern.replace("[", "(")):
                    item.add_marker(pytest.mark.xfail(reason=reason))


def _waiver(line: str) -> tuple[str, str]:
    pattern, separator, reason = line.rpartition(": ")
    if not separator or not reason.strip():
        raise pytest.UsageError(f"tenonrt_waivers: {line!r} gives no reason; write 'test_rule[dist:entry]: reason'")
    return pattern.strip(), reason.strip()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List what the tested distributions are excused from."""
    rules = config.stash.get(_RULES, set())
    reports = [report for report in terminalreporter.getreports("xfailed") if report.nodeid in rules]
    if reports:
        terminalreporter.section("conformance waivers")
    for report in reports:
        name = report.nodeid.rpartition("::")[2]
        terminalreporter.write_line(f"{name}: {getattr(report, 'wasxfail', '') or 'no reason given'}")
