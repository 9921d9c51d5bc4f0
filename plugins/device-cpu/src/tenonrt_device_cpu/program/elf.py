"""The machine code in an object file, when it needs no linker: one `.text` without relocations."""

from __future__ import annotations

import struct
from typing import NamedTuple

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB, _RELA, _REL = 2, 4, 9


class _Section(NamedTuple):
    name: str
    type: int
    link: int
    info: int
    data: bytes


def text_of(elf: bytes) -> tuple[bytes, dict[str, int]]:
    """The bytes of `.text` and where each global symbol in it begins; `ValueError` says what else would be needed."""
    sections = _sections(elf)
    names = [section.name for section in sections]
    text = names.index(".text")
    relocated = [s.name for s in sections if s.type in (_RELA, _REL) and s.info == text and s.data]
    if relocated:
        raise ValueError(f"the code has relocations ({', '.join(relocated)}), so it cannot be loaded without a linker")
    table = next(section for section in sections if section.type == _SYMTAB)
    strings = sections[table.link].data
    found = {}
    for name, info, _, section, value, _ in _SYMBOL.iter_unpack(table.data):
        if section == text and info >> 4 == 1:
            found[_string(strings, name)] = value
    return sections[text].data, found


def _sections(elf: bytes) -> list[_Section]:
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"an object file of 64-bit little-endian ELF is needed, not {elf[:6]!r}")
    fields = _HEADER.unpack_from(elf)
    start, size, count, strings = fields[6], fields[11], fields[12], fields[13]
    heads = [_SECTION.unpack_from(elf, start + i * size) for i in range(count)]
    names = elf[heads[strings][4] :]
    return [
        _Section(_string(names, h[0]), h[1], h[6], h[7], b"" if h[1] == 8 else elf[h[4] : h[4] + h[5]]) for h in heads
    ]


def _string(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()
