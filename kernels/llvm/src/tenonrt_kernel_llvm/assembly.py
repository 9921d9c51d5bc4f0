"""From IR to position-independent machine code: LLVM's code generator, then a linker for what one object file needs.

Only the code generator runs. LLVM's passes over the IR take longer than it does and make these kernels no faster.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tenonrt_kernel_llvm.emitter import Function
from tenonrt_kernel_llvm.objects import KnownObjects
from tenonrt_kernel_llvm.target import Target

# Addresses are computed where they are used, once a turn. LLVM's search for better ones takes up to a second for deep
# loop nests, and what it finds is no faster.
_OPTION = "-disable-lsr"
_GENERATOR: dict[str, Any] = {"opt": 3, "reloc": "pic", "codemodel": "small"}
_objects = KnownObjects()

_ALLOCATED, _NO_BITS = 0x2, 8
_SYMBOL_TABLE, _RELOCATIONS = 2, 4
_R_X86_64_PC32, _R_X86_64_PLT32 = 2, 4
_R_AARCH64_ADR_PREL_PG_HI21 = 275
_R_AARCH64_LO12 = frozenset({277, 278, 284, 285, 286, 299})  # of an addition, and of loads of 1 to 16 bytes


class LinkError(ValueError):
    """The object file needs something that position-independent code of one piece cannot have."""


def assemble(target: Target, functions: Sequence[Function]) -> tuple[bytes, int]:
    """Machine code of functions that call each other, and the byte at which the last of them begins.

    `LinkError` names a symbol from outside, which the code must not need.
    """
    return link(object_file(target, module_text(target, functions)), functions[-1].name)


def module_text(target: Target, functions: Sequence[Function]) -> str:
    """The IR of a module."""
    declarations = sorted({line for function in functions for line in function.declarations})
    width = f'"prefer-vector-width"="{target.lanes * 32}"'
    texts = [function.text() for function in functions]
    return "\n".join(
        [f'target triple = "{target.triple}"', *declarations, *texts, f"attributes #0 = {{ nounwind {width} }}"]
    )


def object_file(target: Target, text: str) -> bytes:
    """An ELF relocatable file."""

    def compile() -> bytes:
        import llvmlite.binding as llvm

        code: bytes = _machine(target).emit_object(llvm.parse_assembly(text))
        return code

    parts = (target.triple, target.cpu, target.extensions, _OPTION, str(_GENERATOR), text)
    return _objects.get(parts, compile)


@lru_cache
def _machine(target: Target) -> Any:
    import llvmlite.binding as llvm

    llvm.set_option("tenonrt", _OPTION)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.extensions, **_GENERATOR)


@dataclass(frozen=True)
class _Section:
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


def link(elf: bytes, entry: str) -> tuple[bytes, int]:
    """The allocated sections of a 64-bit ELF object behind each other, relocated, and where ``entry`` begins."""
    sections = _sections(elf)
    places: dict[int, int] = {}
    image = bytearray()
    for index, section in enumerate(sections):
        wanted = section.flags & _ALLOCATED and section.name.startswith((".text", ".rodata"))
        if not wanted or section.type == _NO_BITS:
            continue
        image += b"\0" * (-len(image) % max(section.align, 64))
        places[index] = len(image)
        image += elf[section.offset : section.offset + section.size]
    symbols = _symbols(elf, sections)
    for section in sections:
        if section.type == _RELOCATIONS and section.info in places:
            _relocate(elf, image, section, places, symbols)
    for name, home, value in symbols:
        if name == entry and home in places:
            return bytes(image), places[home] + value
    raise LinkError(f"the object file has no function {entry!r}")


def _sections(elf: bytes) -> list[_Section]:
    (table,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    raw = [struct.unpack_from("<IIQQQQIIQQ", elf, table + i * size) for i in range(count)]
    strings = raw[names][4]
    return [_Section(_string(elf, strings + r[0]), r[1], r[2], r[4], r[5], r[6], r[7], r[8]) for r in raw]


def _string(elf: bytes, start: int) -> str:
    return elf[start : elf.index(b"\0", start)].decode()


def _symbols(elf: bytes, sections: Sequence[_Section]) -> list[tuple[str, int, int]]:
    """(name, section, value) of every symbol."""
    table = next(section for section in sections if section.type == _SYMBOL_TABLE)
    strings = sections[table.link].offset
    found = []
    for start in range(table.offset, table.offset + table.size, 24):
        name, _, _, home, value, _ = struct.unpack_from("<IBBHQQ", elf, start)
        found.append((_string(elf, strings + name), home, value))
    return found


def _relocate(
    elf: bytes,
    image: bytearray,
    section: _Section,
    places: dict[int, int],
    symbols: Sequence[tuple[str, int, int]],
) -> None:
    pages: set[int] = set()
    for start in range(section.offset, section.offset + section.size, 24):
        offset, info, addend = struct.unpack_from("<QQq", elf, start)
        name, home, value = symbols[info >> 32]
        kind = info & 0xFFFFFFFF
        if home not in places:
            raise LinkError(f"the code needs {name!r} from outside; generated code must be self-contained")
        at, wanted = places[section.info] + offset, places[home] + value + addend
        if kind in (_R_X86_64_PC32, _R_X86_64_PLT32):
            struct.pack_into("<i", image, at, wanted - at)
        elif kind == _R_AARCH64_ADR_PREL_PG_HI21:
            _load_address(image, at, wanted)
            pages.add(wanted)
        elif kind not in _R_AARCH64_LO12 or wanted not in pages:  # those are 0 as they stand: see `_load_address`
            raise LinkError(f"relocation type {kind} of {name!r} is not one of position-independent code")


def _load_address(image: bytearray, at: int, wanted: int) -> None:
    """Make the ADRP at a byte an ADR, which loads the address itself instead of its page's; code lies on any address.

    The instruction that would add the address's low 12 bits then has nothing to add.
    """
    distance = wanted - at
    if not -(1 << 20) <= distance < 1 << 20:
        raise LinkError(f"the code is larger than the reach of ADR, by which its constants are found: {distance} bytes")
    (word,) = struct.unpack_from("<I", image, at)
    word &= 0x0000001F  # the register
    struct.pack_into("<I", image, at, word | 0x10000000 | (distance & 3) << 29 | (distance >> 2 & 0x7FFFF) << 5)
