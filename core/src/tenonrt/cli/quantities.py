"""Numbers with units, from people and for people."""

from __future__ import annotations

import math
import re

_BINARY = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def seconds(value: float | None) -> str:
    """Three significant digits: ``7.41 µs``, ``1.89 ms``, ``12.3 s``; a dash for what was not measured."""
    if value is None or not math.isfinite(value):
        return "–"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale * 0.9995:
            return f"{_three_digits(value / scale)} {unit}"
    return f"{_three_digits(value / 1e-9)} ns"


def nbytes(value: int | None) -> str:
    """``393216`` -> ``384 KiB``."""
    if value is None:
        return "depends on the shapes"
    size, unit = float(value), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{value} B" if unit == "B" else f"{_three_digits(size)} {unit}"


def _three_digits(value: float) -> str:
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f}"


def parse_bytes(text: str) -> int:
    """``67108864``, ``64M``, ``64MiB``; `ValueError` says what is accepted."""
    found = re.fullmatch(r"(\d+)\s*([KMGT]?)(?:iB|B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text!r} is no size in bytes; write 67108864, 64M or 64MiB")
    return int(found[1]) * _BINARY[found[2].upper()]


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``image=1x3x224x224`` -> ``("image", (1, 3, 224, 224))``; ``NAME=scalar`` has no dimensions."""
    name, shapes = parse_shapes(text)
    if len(shapes) > 1:
        raise ValueError(f"{text!r} is a range of shapes, which `tenonrt build` takes; write one, NAME=1x3x224x224")
    return name, shapes[0]


def parse_shapes(text: str) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """``ids=1x1:1x128:8x512``, the least shape, those to tune for and the greatest, or ``ids=1x128`` alone."""
    name, sign, shapes = text.rpartition("=")
    if not sign or not name:
        raise ValueError(f"{text!r} is no shape; write NAME=1x3x224x224")
    return name, tuple(_dimensions(part, text) for part in shapes.split(":"))


def _dimensions(part: str, text: str) -> tuple[int, ...]:
    if part == "scalar":
        return ()
    if not re.fullmatch(r"\d+([x,]\d+)*", part):
        raise ValueError(f"{part!r} in {text!r} is no shape; write dimensions as 1x3x224x224")
    return tuple(int(size) for size in re.split("[x,]", part))
