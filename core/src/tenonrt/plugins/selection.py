"""Which of the installed plugins an application uses."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from tenonrt.errors import PluginError
from tenonrt.plugins.discovery import Entry

_PROJECT_FILE = "pyproject.toml"
_NAME = "tenonrt"


class PluginSet(msgspec.Struct, frozen=True):
    """Patterns over distribution names and entry ids (``acme-*``, ``acme-kernels:cpu/Softmax.acme``).

    allow: None admits everything. deny: wins over allow. replace: distributions whose declared replacements of a layer
    kind or mapping are accepted. prefer: patterns in order of preference where nothing is timed. required: what must be
    installed, as pip is told of it (``tenonrt-kernel-numpy>=0.1``); checked whenever a registry is made.
    """

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    def blocked(self, entry: Entry) -> str | None:
        """Why an entry may not be used, or None."""
        if _matches(entry, self.deny):
            return "denied by the application's plugin set"
        if self.allow is not None and not _matches(entry, self.allow):
            return "not in the application's list of allowed plugins"
        return None

    def rank(self, entry: Entry) -> int:
        """Position in the order of preference; unlisted plugins come last."""
        matches = (i for i, pattern in enumerate(self.prefer) if _matches(entry, (pattern,)))
        return next(matches, len(self.prefer))

    def check_required(self) -> None:
        """`PluginError` lists every required distribution that is missing or of another version. Imports no plugin."""
        faults = [fault for line in self.required if (fault := _fault(line))]
        if faults:
            import shlex  # only where something is wrong

            command = shlex.join(["pip", "install", *(line for line, _ in faults)])
            raise PluginError(
                f"the application requires what is not installed: {'; '.join(why for _, why in faults)}. Run: {command}"
            )

    @classmethod
    def from_environment(cls) -> PluginSet:
        """What the project in the current directory selects, if there is one, and the environment.

        ``TENONRT_PLUGINS_ALLOW`` takes the place of the project's ``allow``, ``TENONRT_PLUGINS_DENY`` adds to its
        ``deny``: comma-separated patterns.
        """
        project = Path(_PROJECT_FILE)
        base = cls.from_project(project) if project.is_file() else cls()
        allow = os.environ.get("TENONRT_PLUGINS_ALLOW")
        return msgspec.structs.replace(
            base,
            allow=_split(allow) if allow is not None else base.allow,
            deny=(*base.deny, *_split(os.environ.get("TENONRT_PLUGINS_DENY", ""))),
        )

    @classmethod
    def from_project(cls, path: str | Path) -> PluginSet:
        """``[tool.tenonrt]`` of a pyproject.toml, or of the one in a folder: lists of strings by the names above.

        Tables in it belong to plugins. `PluginError` names the file and the field that is wrong.
        """
        path = Path(path)
        path = path / _PROJECT_FILE if path.is_dir() else path
        table, known = _tool_table(path), set(cls.__struct_fields__)
        chosen = {name: value for name, value in table.items() if not isinstance(value, dict)}
        for name, value in chosen.items():
            if name not in known:
                raise PluginError(f"{path}: [tool.tenonrt] has no {name!r}; it has {', '.join(sorted(known))}")
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise PluginError(f"{path}: {name} of [tool.tenonrt] is {value!r}; it must be a list of strings")
        return cls(**{name: tuple(value) for name, value in chosen.items()})


def _tool_table(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PluginError(f"{path} cannot be read: {error}") from error
    if not _may_have_table(text):
        return {}  # most projects that a run happens to start in: spare them the parser, and us their mistakes
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PluginError(f"{path} is not TOML: {error}") from error
    table = document.get("tool", {}).get("tenonrt", {})
    if not isinstance(table, dict):
        raise PluginError(f"{path}: tool.tenonrt is {table!r}; it must be a table")
    return table


def _may_have_table(text: str) -> bool:
    """Whether a key of TOML begins or continues with our name, or a table's ends with it: ``[tool.tenonrt]``.

    Not by a regular expression, which takes longer to compile than a small plan to read.
    """
    bare = text.replace(" ", "").replace("\t", "").replace("\r", "")
    begin = bare.find(_NAME)
    while begin >= 0:
        end = begin + len(_NAME)
        quote = bare[end : end + 1]
        # The whole name is quoted, as "tenonrt" is and "tenonrt.x" not.
        quoted = begin > 0 and quote in ("'", '"') and bare[begin - 1] == quote
        first, last = (begin - 1, end + 1) if quoted else (begin, end)
        before, after = bare[max(first - 1, 0) : first], bare[last : last + 1]
        if (before in ("", "\n", ".", "[", "{", ",") and after in (".", "=")) or (
            before == "." and after in ("]", "\n", "")
        ):
            return True
        begin = bare.find(_NAME, end)
    return False


def _fault(line: str) -> tuple[str, str] | None:
    """What is wrong with a required distribution: (the requirement without its marker, the reason), or None."""
    from importlib_metadata import PackageNotFoundError, version
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        raise PluginError(f"the required distribution {line!r} is not written as pip has it: {error}") from error
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    requirement.marker = None
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return str(requirement), f"{requirement} is missing"
    if requirement.specifier.contains(installed, True):
        return None
    return str(requirement), f"{requirement.name} is {installed}, which {str(requirement.specifier)!r} excludes"


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _matches(entry: Entry, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(entry.distribution, p) or fnmatchcase(entry.id, p) for p in patterns)
