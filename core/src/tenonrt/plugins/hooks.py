"""Hooks: the moments of a build in which any installed plugin may take part. None is on the execution path.

The first four functions are the specifications. A plugin is a module, named by an entry point of the group
``tenonrt.hooks``, with functions of these names marked by `tenonrt.contracts.hookimpl`. All plugins are called at each
hook, none stops at the first result. What a plugin is given cannot be changed by it.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tenonrt.contracts import Candidate, Problem, Verdict
from tenonrt.errors import BuildError, PluginError, TenonError
from tenonrt.plugins.discovery import Entry
from tenonrt.plugins.registry import HOOKS, PluginWarning, Registry

if TYPE_CHECKING:
    import pluggy

    from tenonrt.builder.config import BuilderConfig
    from tenonrt.plan.program import BuildReport

PROJECT = "tenonrt"
C = TypeVar("C")


# --- specifications --------------------------------------------------------------------------------------------------


def configure(config: BuilderConfig) -> BuilderConfig | None:
    """Called once a build, before anything else, with the caller's configuration.

    May return a changed one (``dataclasses.replace``), which the next plugin is given; None leaves it as it is. Where
    ``plugins`` is changed, the rest of the build uses the plugins so selected, hooks included. An error ends the build.
    """


def candidates(problem: Problem, key: str, regions: tuple[str, ...], candidates: Sequence[Candidate]) -> None:
    """Called for every problem that has candidates, before `choose` and before anything is tried or timed.

    ``key`` is the problem's name in reports; ``regions`` are the regions that pose it ("conv1 + relu1"). A problem of
    a nested graph, or of a tensor that is stored in another format, is shown when that graph or tensor is built; a
    build that selects several times shows nothing twice. Only observes: an error is reported as a `PluginWarning`, and
    the build goes on.
    """


def choose(
    problem: Problem, key: str, regions: tuple[str, ...], candidates: Sequence[Candidate]
) -> Sequence[Verdict] | None:
    """Called like `candidates`, right after it. May forbid or pin candidates; times are measured by the builder alone.

    A forbidden candidate is neither tried nor timed; the build's report shows it with the reason and the plugin. A pin
    forbids the candidates of this problem that the plugin does not pin; a region of other layers may still win. A
    candidate pinned by one plugin and forbidden by another, by name or by another's pin, ends the build, as does an
    error.
    """


def built(network: str, report: BuildReport, misses: int) -> None:
    """Called with the finished report, after everything was checked and before the engine is returned.

    Once a build, and with profiles once for each program: those for one shape are called "NAME at N=1". ``misses``
    counts the candidates that the timing cache did not know. Only observes, as `candidates`.
    """


SPECIFICATIONS: tuple[Callable[..., Any], ...] = (configure, candidates, choose, built)


# --- calling ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ban:
    """Why a candidate is not to be used; by_pin: because the plugin pinned others."""

    plugin: str
    why: str
    by_pin: bool


class Hooks:
    """The hooks of a registry's plugins as typed methods. Without such a plugin all of them return at once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._entries = {entry.id: entry for entry in registry.usable(HOOKS)}
        self._chosen: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Mapping[str, Ban]] = {}
        self._manager = _manager(registry, self._entries.values()) if self._entries else None

    def __bool__(self) -> bool:
        return self._manager is not None and bool(self._manager.get_plugins())

    def configure(self, config: BuilderConfig) -> BuilderConfig:
        """The configuration after every plugin's change."""
        for found in self._implementations("configure"):
            changed = self._decide(found, "configure", config=config)
            if changed is not None:
                config = self._expect(found.plugin_name, "configure", changed, type(config))
        return config

    def choose(
        self, problem: Problem, key: str, regions: tuple[str, ...], candidates: tuple[Candidate, ...]
    ) -> Mapping[str, Ban]:
        """Show a problem's candidates to `candidates`, then let `choose` decide: what is banned, by candidate id.

        Asked again about the same, the plugins are not: a build may select several times. `BuildError` names plugins
        that contradict each other.
        """
        known = tuple(candidate.id for candidate in candidates)
        if (key, regions, known) not in self._chosen:
            given = {"problem": problem, "key": key, "regions": regions, "candidates": candidates}
            self._observe("candidates", **given)
            tally = _Tally(known)
            for found in self._implementations("choose"):
                verdicts = self._decide(found, "choose", **given)
                if verdicts is not None:
                    tally.add(found.plugin_name, self._verdicts(found.plugin_name, verdicts, known))
            self._chosen[key, regions, known] = tally.settle(regions)
        return self._chosen[key, regions, known]

    def built(self, network: str, report: BuildReport, misses: int) -> None:
        """Show the finished report."""
        self._observe("built", network=network, report=report, misses=misses)

    # calling one by one: through the relay, an error would keep the other plugins from being called, and name nobody

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        """In calling order."""
        return [] if self._manager is None else getattr(self._manager.hook, hook).get_hookimpls()[::-1]

    def _decide(self, found: pluggy.HookImpl, hook: str, **given: Any) -> Any:
        """A decision that cannot be had is no decision: the build ends."""
        try:
            return _call(found, given)
        except TenonError as error:
            error.add_note(self._at(found.plugin_name, hook))
            raise
        except Exception as error:
            raise PluginError(f"{self._at(found.plugin_name, hook)}: {error!r}") from error

    def _observe(self, hook: str, **given: Any) -> None:
        """Call every observer; what they raise is told when all were called."""
        failures = []
        for found in self._implementations(hook):
            try:
                _call(found, given)
            except Exception as error:  # noqa: BLE001 - an observer may raise anything, and the build goes on
                where = self._at(found.plugin_name, hook)
                error.add_note(where)
                self._registry.record(self._entries[found.plugin_name]).traceback = traceback.format_exc()
                failures.append((f"{where}: {error!r}", error))
        for line, cause in failures:
            if self._registry.strict:
                raise PluginError(line) from cause
            warnings.warn(line, PluginWarning, stacklevel=3)

    def _at(self, plugin: str, hook: str) -> str:
        return f"hook plugin {plugin} {self._entries[plugin].version} raised in {hook}()"

    def _expect(self, plugin: str, hook: str, value: Any, wanted: type[C]) -> C:
        if not isinstance(value, wanted):
            raise PluginError(
                f"{hook}() of hook plugin {plugin} {self._entries[plugin].version} returned {value!r}; "
                f"{wanted.__name__} was expected"
            )
        return value

    def _verdicts(self, plugin: str, verdicts: Any, known: Sequence[str]) -> list[Verdict]:
        checked = []
        for item in self._expect(plugin, "choose", verdicts, Sequence):  # type: ignore[type-abstract]
            verdict = self._expect(plugin, "choose", item, Verdict)
            if verdict.action not in ("forbid", "pin") or verdict.candidate not in known:
                raise PluginError(
                    f"choose() of hook plugin {plugin} returned {verdict}, which is no verdict on this problem; the "
                    f"action is 'forbid' or 'pin' and the candidate one of {', '.join(known)}"
                )
            checked.append(verdict)
        return checked


def _call(found: pluggy.HookImpl, given: Mapping[str, Any]) -> Any:
    """An implementation takes those arguments of the specification that it names."""
    return found.function(*(given[name] for name in found.argnames))


class _Tally:
    """The verdicts on one problem's candidates."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known
        self._bans: dict[str, Ban] = {}
        self._pinned: dict[str, str] = {}  # candidate: the plugin

    def add(self, plugin: str, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            if verdict.action == "forbid":
                self._ban(verdict.candidate, Ban(plugin, f"forbidden by {plugin}: {verdict.reason}", by_pin=False))
        pins = {verdict.candidate: verdict.reason for verdict in verdicts if verdict.action == "pin"}
        if pins:
            words = f"{plugin} pinned {' and '.join(pins)}: {'; '.join(dict.fromkeys(pins.values()))}"
            for candidate in self._known:
                if candidate not in pins:
                    self._ban(candidate, Ban(plugin, words, by_pin=True))
        for candidate in pins:
            self._pinned.setdefault(candidate, plugin)

    def _ban(self, candidate: str, ban: Ban) -> None:
        if candidate not in self._bans or self._bans[candidate].by_pin:
            self._bans[candidate] = ban

    def settle(self, regions: Sequence[str]) -> Mapping[str, Ban]:
        for candidate, plugin in self._pinned.items():
            if ban := self._bans.get(candidate):
                whose = plugin if ban.plugin == plugin else f"{plugin} or {ban.plugin}"
                raise BuildError(
                    f"{plugin} pins {candidate} for {', '.join(regions)}, but {ban.why}. "
                    f"Change the settings of {whose}, or deny one."
                )
        return self._bans


# --- loading ---------------------------------------------------------------------------------------------------------


def _manager(registry: Registry, entries: Iterable[Entry]) -> pluggy.PluginManager:
    """A manager of the plugins that load and implement what is specified; of the others the registry says why not."""
    import pluggy

    mark = pluggy.HookspecMarker(PROJECT)
    for specification in SPECIFICATIONS:
        mark(specification)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(sys.modules[__name__])
    # pluggy calls what was registered last first; ids are to be called in order.
    for entry in sorted(entries, key=lambda e: e.id, reverse=True):
        try:
            module = registry.load(entry)
        except PluginError:
            continue  # the registry has said so, loudly
        if why := _register(manager, module, entry.id):
            registry.fail(entry, why)
    return manager


def _register(manager: pluggy.PluginManager, module: Any, name: str) -> str:
    """Register a plugin; why that cannot be, in which case the manager is as it was, or an empty string."""
    try:
        manager.register(module, name)
        manager.check_pending()  # the others have passed: what is pending is this plugin's
        callers = manager.get_hookcallers(module) or []
        wrong = [
            c.name for c in callers for i in c.get_hookimpls() if i.plugin is module and (i.wrapper or i.hookwrapper)
        ]
    except Exception as error:  # noqa: BLE001 - a plugin's attributes may raise anything when pluggy looks at them
        why = str(error)
    else:
        if callers and not wrong:
            return ""
        why = f"{', '.join(wrong)}: hooks take no wrappers" if wrong else "no function of it is marked with hookimpl"
    if manager.has_plugin(name):
        manager.unregister(name=name)
    return f"{why} (the hooks are {', '.join(s.__name__ for s in SPECIFICATIONS)})"
