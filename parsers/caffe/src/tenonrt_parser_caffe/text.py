"""Protobuf's text format, read into plain trees: every field is kept, with its line, whether a schema knows it or not.

protobuf's own reader forgets unknown fields; here they are reported, and custom layers get their parameters from them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tenonrt.contracts import ParseError

MAX_DEPTH = 64  # of messages in messages; protobuf's binary reader stops at 100, networks need 5

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
    |(?P<number>[-+]?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?|(?:inf|infinity|nan)\b))
    |(?P<name>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<mark>[-{}<>:;,\[\]/])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_SIMPLE = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


@dataclass(frozen=True)
class Word:
    """A scalar as it is written. kind: number, name (also of true, false and enumeration values) or string."""

    kind: str
    text: str


@dataclass(frozen=True)
class Entry:
    """One field of a message: a scalar or a message, where it stands."""

    name: str
    value: Word | Tree
    line: int


@dataclass(frozen=True)
class Tree:
    """The fields of a message in the order of the file."""

    entries: tuple[Entry, ...]

    def plain(self) -> dict[str, Any]:
        """Names to plain values; of a field that is given more than once, the list of its values."""
        found: dict[str, Any] = {}
        counts: dict[str, int] = {}
        for entry in self.entries:
            value = entry.value.plain() if isinstance(entry.value, Tree) else _guess(entry.value)
            counts[entry.name] = count = counts.get(entry.name, 0) + 1
            if count == 1:
                found[entry.name] = value
            else:
                found[entry.name] = [*([found[entry.name]] if count == 2 else found[entry.name]), value]
        return found


def read_text(text: str) -> Tree:
    """The tree of a text; `ParseError` names the line."""
    return _Reader(text).message(None, 0)


def number(text: str) -> int | float:
    """A number as written; `ValueError` when it is none."""
    text = "".join(text.split()).lower()
    sign, digits = (text[0] if text[:1] in "+-" else ""), text.lstrip("+-")
    if re.fullmatch(r"0x[0-9a-f]+", digits):
        return int(sign + digits, 16)
    if re.fullmatch(r"0[0-7]+", digits):
        return int(sign + digits, 8)
    if digits.isdigit():
        if len(digits) > 20:  # more than 64 bits, and quadratic to convert
            return float(sign + digits)
        return int(sign + digits)
    return float(text.removesuffix("f") if digits != "inf" else text)


def _guess(word: Word) -> Any:
    """A scalar whose type no schema tells."""
    if word.kind == "number":
        return number(word.text)
    return {"true": True, "false": False}.get(word.text, word.text) if word.kind == "name" else word.text


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.line = 1
        self.kind, self.word = "", ""
        self.advance()

    def advance(self) -> None:
        """Go to the next token; kind "end" after the last."""
        while self.position < len(self.text):
            found = _TOKEN.match(self.text, self.position)
            if found is None:
                raise self.error(f"{self.text[self.position]!r} begins nothing that belongs here")
            self.kind, self.word = str(found.lastgroup), found[0]
            self.position = found.end()
            if self.kind != "space":
                return
            self.line += self.word.count("\n")
        self.kind, self.word = "end", ""

    def error(self, what: str) -> ParseError:
        return ParseError(f"line {self.line}: {what}")

    def message(self, close: str | None, depth: int) -> Tree:
        """The fields up to the closing mark, or to the end of the text."""
        if depth > MAX_DEPTH:
            raise self.error(f"messages are nested more than {MAX_DEPTH} deep")
        entries: list[Entry] = []
        while not (self.word == close and self.kind == "mark"):
            if self.kind == "end":
                if close is None:
                    break
                raise self.error(f"the text ends where {close!r} must close a message")
            if self.kind == "mark" and self.word in ";," and entries:
                self.advance()
                continue
            self.field(entries, depth)
        if close is not None:
            self.advance()
        return Tree(tuple(entries))

    def field(self, entries: list[Entry], depth: int) -> None:
        line, name = self.line, self.name()
        colon = self.take(":")
        if self.take("["):
            while not self.take("]"):
                entries.append(Entry(name, self.value(name, depth), line))
                if not self.take(",") and not (self.kind == "mark" and self.word == "]"):
                    raise self.error(f"{self.word!r} follows a value in the list of {name!r}; expected ',' or ']'")
        elif colon or (self.kind == "mark" and self.word in "{<"):
            entries.append(Entry(name, self.value(name, depth), line))
        else:
            raise self.error(f"{self.word!r} follows the field {name!r}; expected ':' or '{{'")

    def name(self) -> str:
        if self.take("["):  # an extension, or a type's address
            parts = []
            while not self.take("]"):
                if self.kind == "end":
                    raise self.error("the text ends inside the name of an extension")
                parts.append(self.word)
                self.advance()
            return f"[{''.join(parts)}]"
        if self.kind not in {"name", "number"} or not re.fullmatch(r"[A-Za-z_]\w*", self.word):
            raise self.error(f"found {self.word or 'the end'!r}; expected the name of a field")
        name = self.word
        self.advance()
        return name

    def take(self, mark: str) -> bool:
        """Go past a mark if it is the next token."""
        if self.kind == "mark" and self.word == mark:
            self.advance()
            return True
        return False

    def value(self, name: str, depth: int) -> Word | Tree:
        for opening, closing in (("{", "}"), ("<", ">")):
            if self.take(opening):
                return self.message(closing, depth + 1)
        kind, text = self.kind, self.word
        if kind == "string":
            parts = []
            while self.kind == "string":
                parts.append(_unescaped(self.word[1:-1]))
                self.advance()
            return Word(kind, "".join(parts))
        if kind not in {"number", "name"}:
            raise self.error(f"found {text or 'the end'!r}; expected a value of {name!r}")
        self.advance()
        return Word(kind, text)


def _unescaped(text: str) -> str:
    """Escapes stand for bytes of UTF-8; what is none stays as surrogates, for fields of bytes."""

    def replaced(found: re.Match[bytes]) -> bytes:
        if found[1]:
            return bytes([int(found[1], 8) & 255])
        return bytes([int(found[2], 16)]) if found[2] else _SIMPLE.get(found[3], found[3])

    if "\\" not in text:
        return text
    return _ESCAPE.sub(replaced, text.encode()).decode("utf-8", "surrogateescape")
