"""The settings file: which candidates are forbidden, and which are pinned to which problems.

::

    forbid = ["acme-*", { kernel = "cpu/Convolution.*", reason = "wrong on our camera images" }]

    [pin]
    "conv1 + relu1" = "tenonrt-kernel-numpy:cpu/Convolution.numpy_gemm#im2col"

These fields are the whole file that ``TENONRT_PINS`` names, or the table ``[tool.tenonrt.pins]`` of the pyproject.toml
in the current directory.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from tenonrt import BuildError
from tenonrt.contracts import Candidate, Problem, Verdict

VARIABLE = "TENONRT_PINS"
TABLE = "[tool.tenonrt.pins]"
_PROJECT_FILE = Path("pyproject.toml")


@dataclass(frozen=True)
class Forbid:
    """pattern: over distributions, kernel ids, what follows their colon, or candidates (``<kernel id>#<tactic>``)."""

    pattern: str
    reason: str

    def matches(self, candidate: Candidate) -> bool:
        distribution, _, name = candidate.kernel.partition(":")
        return any(_alike(text, self.pattern) for text in (distribution, name, candidate.kernel, candidate.id))


@dataclass(frozen=True)
class Pin:
    """problem: a pattern over region names ("conv1 + relu1") and kinds ("Convolution + Activation"), or a key.

    candidate: a candidate, or a pattern over them.
    """

    problem: str
    candidate: str

    def concerns(self, problem: Problem, key: str, regions: Sequence[str]) -> bool:
        return any(_alike(text, self.problem) for text in (key, " + ".join(problem.kinds), *regions))

    def among(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those meant: the one of exactly this id, else all that match."""
        exact = [c for c in candidates if c.id == self.candidate]
        return exact or [c for c in candidates if fnmatchcase(c.id, self.candidate)]


@dataclass(frozen=True)
class Pins:
    """A settings file as read. ``where`` names it in messages."""

    where: str = ""
    forbid: tuple[Forbid, ...] = ()
    pin: tuple[Pin, ...] = ()

    def verdicts(
        self, problem: Problem, key: str, regions: Sequence[str], candidates: Sequence[Candidate]
    ) -> list[Verdict]:
        """`BuildError` where a pin concerns the problem and none of its candidates is the pinned one."""
        found = []
        for candidate in candidates:
            rule = next((rule for rule in self.forbid if rule.matches(candidate)), None)
            if rule is not None:
                found.append(Verdict("forbid", candidate.id, rule.reason))
        for pin in self.pin:
            if pin.concerns(problem, key, regions):
                chosen = pin.among(candidates)
                if not chosen:
                    raise BuildError(
                        f"{self.where}: pin.{pin.problem!r} is {pin.candidate!r}, which is no candidate of "
                        f"{', '.join(regions)}; its candidates are {', '.join(c.id for c in candidates)}"
                    )
                found += [Verdict("pin", c.id, f"pin.{pin.problem!r} of {self.where}") for c in chosen]
        return found


def current() -> Pins:
    """The settings in force, none where nobody wrote any; `BuildError` names the file and the field that is wrong."""
    named = os.environ.get(VARIABLE)
    if named:
        return _parse(_read(Path(named), f"{named} (of {VARIABLE})"), named, in_project=False)
    if _PROJECT_FILE.is_file():
        text = _read(_PROJECT_FILE, str(_PROJECT_FILE))
        # Nobody else's project need be TOML of this version.
        return _parse(text, f"{_PROJECT_FILE} {TABLE}", in_project=True) if "tenonrt" in text else Pins()
    return Pins()


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{name} cannot be read: {error}") from error


@lru_cache(maxsize=8)
def _parse(text: str, where: str, in_project: bool) -> Pins:
    """Cached by the text, as it is asked for at every problem."""
    try:
        fields: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"{where} is not TOML: {error}") from error
    if in_project:
        for name in ("tool", "tenonrt", "pins"):
            fields = fields.get(name, {}) if isinstance(fields, dict) else fields
    if not isinstance(fields, dict):
        raise BuildError(f"{where} is {fields!r}; it must be a table")
    unknown = sorted(set(fields) - {"forbid", "pin"})
    if unknown:
        raise BuildError(f"{where}: there is no field {unknown[0]!r}; the fields are forbid and pin")
    return Pins(where, _forbids(fields.get("forbid", []), where), _pins(fields.get("pin", {}), where))


def _forbids(items: Any, where: str) -> tuple[Forbid, ...]:
    if not isinstance(items, list):
        raise BuildError(f"{where}: forbid is {items!r}; it must be a list of patterns")
    rules = []
    for index, item in enumerate(items):
        given = {"kernel": item} if isinstance(item, str) else item
        if (
            not isinstance(given, dict)
            or not {"kernel"} <= set(given) <= {"kernel", "reason"}
            or not all(isinstance(value, str) for value in given.values())
        ):
            raise BuildError(
                f'{where}: forbid[{index}] is {item!r}; it must be "PATTERN" or {{kernel = "PATTERN", reason = "..."}}'
            )
        reason = given.get("reason") or f"{given['kernel']!r} in forbid[{index}]"
        rules.append(Forbid(given["kernel"], f"{reason} ({where})"))
    return tuple(rules)


def _pins(table: Any, where: str) -> tuple[Pin, ...]:
    if not isinstance(table, dict):
        raise BuildError(f"{where}: pin is {table!r}; it must be a table of problems and their candidates")
    for problem, candidate in table.items():
        if not isinstance(candidate, str) or "#" not in candidate:
            raise BuildError(
                f"{where}: pin.{problem!r} is {candidate!r}; "
                f"it must be a string of the form <distribution>:<kernel>#<tactic>"
            )
    return tuple(Pin(problem, candidate) for problem, candidate in table.items())


def _alike(text: str, pattern: str) -> bool:
    return text == pattern or fnmatchcase(text, pattern)
