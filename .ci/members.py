# /// script
# requires-python = ">=3.11"
# dependencies = ["tomlkit>=0.13"]
# ///
"""Write what the workspace's pyproject.toml files share, or check that it is written.

A member's pyproject.toml holds what is particular to it: name, description, dependencies, extras, entry points, tool
settings. A new one needs only the first two. This script adds the rest: the fields that every first-party distribution
shares are copied from the root's file, requirements on first-party distributions get the bound of the current version,
and the root learns the member's name. Distributions whose names do not start with "tenonrt" are samples of what a third
party writes: their files are left as they are.

    uv run --script .ci/members.py            write
    uv run --script .ci/members.py --check    exit 1 and name the stale files

It runs outside the workspace, for uv refuses a workspace in which some member still lacks its version.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, Comment, Table, Whitespace

Sections: TypeAlias = dict[tuple[str, ...], dict[str, str]]

COMMAND = "uv run --script .ci/members.py"
HEADER = f"# The shared fields are copied from the root's pyproject.toml: {COMMAND}\n"
CORE = "tenonrt-core"
SHARED_FIELDS = ("version", "requires-python", "license", "authors", "classifiers")
SHARED_TABLES = (("project", "urls"), ("build-system",))
FIELD_ORDER = ("name", "version", "description", "readme", *SHARED_FIELDS[1:], "keywords", "dependencies")
TABLE_ORDER = ("project", "dependency-groups", "build-system", "tool")
PROJECT_ORDER = ("urls", "optional-dependencies", "scripts", "entry-points")


class InvalidMemberError(Exception):
    """A member's pyproject.toml lacks or misuses something that the generator needs."""


@dataclass(frozen=True)
class Member:
    """One distribution of the workspace."""

    path: Path  # of its pyproject.toml
    text: str
    data: dict[str, Any]

    @property
    def name(self) -> str:
        """The distribution's name."""
        return str(self.data["project"]["name"])

    @property
    def module(self) -> str:
        """The package it installs."""
        backend = self.data.get("tool", {}).get("uv", {}).get("build-backend", {})
        return str(backend.get("module-name", self.name.replace("-", "_")))

    @property
    def is_first_party(self) -> bool:
        """Whether it is released with the core, under the same version."""
        return self.name.startswith("tenonrt-")

    @property
    def is_for_development(self) -> bool:
        """Whether users of the meta-distribution go without it: samples, and what plugs into pytest."""
        return self.path.parent.parent.name == "contrib" or "pytest11" in self.data["project"].get("entry-points", {})


def read_member(path: Path) -> Member:
    """Read one member; raise InvalidMemberError, naming the file, where it cannot be used."""
    text = path.read_text(encoding="utf-8")
    try:
        data = tomlkit.parse(text).unwrap()
    except TOMLKitError as error:
        raise InvalidMemberError(f"{path} is not TOML: {error}") from error
    missing = [field for field in ("name", "description") if field not in data.get("project", {})]
    if missing:
        raise InvalidMemberError(f"{path} lacks {' and '.join(missing)} in [project]: write it")
    return Member(path, text, data)


def read_members(root: Path) -> list[Member]:
    """Every member that the root's workspace table covers, ordered by name."""
    document = tomlkit.parse((root / "pyproject.toml").read_text(encoding="utf-8")).unwrap()
    paths = (
        path
        for folder in document["tool"]["uv"]["workspace"]["members"]
        for path in root.glob(f"{folder}/pyproject.toml")
    )
    return sorted(map(read_member, paths), key=lambda member: member.name)


def bound(version: str) -> str:
    """The range of first-party versions that work together: those of one minor version."""
    major, minor = map(int, version.split(".")[:2])
    return f">={major}.{minor},<{major}.{minor + 1}"


def with_bound(requirement: str, version: str) -> str:
    """The requirement, with the current bound in place of its own if it names a first-party distribution."""
    match = re.fullmatch(r"(tenonrt(?:-[\w-]+)?)(?![\w.-])\s*(\[[^]]*])?[^;]*?(\s*;.*)?", requirement)
    return f"{match[1]}{match[2] or ''}{bound(version)}{match[3] or ''}" if match else requirement


def split_sections(text: str) -> Sections:
    """The text of every key by its table; a comment goes with the key or table that follows it.

    The key "" holds the comments above a table's header; the table () holds what ends the file.
    """
    sections: Sections = {}
    comments = ""

    def walk(table: tuple[str, ...], body: Iterable[tuple[Any, Any]]) -> None:
        nonlocal comments
        for key, item in body:
            if isinstance(item, Comment):
                comments += item.trivia.comment + "\n"
            elif isinstance(item, AoT):
                raise InvalidMemberError(f"[[{'.'.join((*table, key.key))}]]: write it as an array of inline tables")
            elif isinstance(item, Table):
                header = sections.setdefault((*table, key.key), {"": ""})
                header[""] += comments
                comments = ""
                walk((*table, key.key), item.value.body)
            elif not isinstance(item, Whitespace):
                line = f"{key.as_string().strip()} = {item.as_string()}{item.trivia.comment_ws}{item.trivia.comment}\n"
                sections.setdefault(table, {})[key.key] = comments + line
                comments = ""

    walk((), tomlkit.parse(text.replace(HEADER, "")).body)
    sections[()] = {"": comments}
    return sections


def bound_requirements(member: Member, version: str) -> str:
    """The member's text with every requirement on a first-party distribution bounded, the core's added if absent."""
    document = tomlkit.parse(member.text)
    project: Any = document["project"]
    required = project.setdefault("dependencies", tomlkit.array())
    names = [re.split(r"[^\w-]", requirement)[0] for requirement in required]
    if member.name != CORE and CORE not in names:
        required.insert(0, CORE)
    for requirements in (required, *project.get("optional-dependencies", {}).values()):
        for index, requirement in enumerate(requirements):
            if with_bound(requirement, version) != requirement:
                requirements[index] = with_bound(requirement, version)
    return tomlkit.dumps(document)


def position(name: str, order: tuple[str, ...]) -> tuple[int, str]:
    """Sort key: the place in the order, then the name for what the order does not list."""
    return (order.index(name), "") if name in order else (len(order), name)


def table_position(table: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """Sort key of tables: [project] first, its parts in the customary order, tools last."""
    orders = (TABLE_ORDER, PROJECT_ORDER if table[0] == "project" else ())
    return tuple(position(name, orders[depth] if depth < len(orders) else ()) for depth, name in enumerate(table))


def render_tables(sections: Sections) -> Iterator[str]:
    """The text of each table that has keys, in order: entry points by name, the rest as written."""
    for table in sorted((table for table in sections if table), key=table_position):
        keys = {key: text for key, text in sections[table].items() if key}
        if table == ("project",):
            keys = dict(
                sorted(keys.items(), key=lambda item: FIELD_ORDER.index(item[0]) if item[0] in FIELD_ORDER else 99)
            )
        elif table[:2] == ("project", "entry-points"):
            keys = dict(sorted(keys.items()))
        if keys:
            name = ".".join(part if re.fullmatch(r"[\w-]+", part) else f'"{part}"' for part in table)
            yield f"{sections[table].get('', '')}[{name}]\n{''.join(keys.values())}"


def render_member(member: Member, shared: Sections, version: str) -> str:
    """The whole text of a first-party member's pyproject.toml."""
    try:
        sections = split_sections(bound_requirements(member, version))
    except InvalidMemberError as error:
        raise InvalidMemberError(f"{member.path}: {error}") from error
    sections["project",] |= {field: shared["project",][field] for field in SHARED_FIELDS}
    for table in SHARED_TABLES:
        sections.pop(table, None)
        if table in shared:
            sections[table] = {key: text for key, text in shared[table].items() if key}
    return HEADER + "\n".join([*render_tables(sections), *filter(None, [sections[()][""]])])


def fill(target: Array, values: Iterable[str]) -> None:
    """Put the values into an array of the root's file, one a line; the comment beside it stays."""
    target.clear()
    target.extend(values)
    target.multiline(bool(target))


def render_root(text: str, members: list[Member], version: str) -> str:
    """The root's file, with what depends on the set of members filled in."""
    document: Any = tomlkit.parse(text)
    runtime = [member for member in members if not member.is_for_development]
    extras = {CORE: "[build,cli]"}
    requirements = (f"{member.name}{extras.get(member.name, '')}{bound(version)}" for member in runtime)
    fill(document["project"]["dependencies"], requirements)
    fill(document["dependency-groups"]["members"], (member.name for member in members if member.is_for_development))
    sources = document["tool"]["uv"]["sources"]
    sources.clear()
    for member in members:
        source = tomlkit.inline_table()
        source["workspace"] = True
        sources[member.name] = source
    linter = document["tool"]["importlinter"]
    fill(linter["root_packages"], sorted(member.module for member in members))
    below = next(contract for contract in linter["contracts"] if contract["id"] == "core-below-plugins")
    fill(below["forbidden_modules"], sorted(member.module for member in members if member.name != CORE))
    return tomlkit.dumps(document)


def render(root: Path) -> dict[Path, str]:
    """What each generated pyproject.toml of the workspace should hold."""
    path = root / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    document: Any = tomlkit.parse(text)
    version = str(document["project"]["version"])
    document.remove("tool")
    shared = split_sections(tomlkit.dumps(document))
    members = read_members(root)
    texts = {member.path: render_member(member, shared, version) for member in members if member.is_first_party}
    return texts | {path: render_root(text, members, version)}


def main(arguments: list[str]) -> int:
    """Write the stale files, or with --check name them; the exit status."""
    if arguments not in ([], ["--check"]):
        print(f"usage: {COMMAND} [--check]", file=sys.stderr)
        return 2
    root = Path(__file__).resolve().parent.parent
    try:
        stale = {path: text for path, text in render(root).items() if path.read_text(encoding="utf-8") != text}
    except InvalidMemberError as error:
        print(error, file=sys.stderr)
        return 1
    for path, text in stale.items():
        print(f"{'stale' if arguments else 'written'}: {path.relative_to(root)}")
        if not arguments:
            path.write_text(text, encoding="utf-8")
    if arguments and stale:
        print(f"run: {COMMAND}", file=sys.stderr)
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
