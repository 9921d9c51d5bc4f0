"""Calibration caches in TensorRT's text format, and files of dynamic ranges.

A header line says which algorithm made it; then ``name: xxxxxxxx`` for each tensor, the hexadecimal digits being the
big-endian bits of a float32 scale, range / 127. Three headers exist: ``TRT-5105-EntropyCalibration2`` since 5.x; ``1``
of the entropy calibrator of 2.1 to 4.x; ``0`` with the bits of two float64, cutoff and quantile, of the legacy one.
A file of dynamic ranges has no header, and ``name:value`` with a decimal max |x|.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from tenonrt.errors import BuildError
from tenonrt.types import Range

_PRODUCT = "TENONRT-1"
_LARGEST = float(np.finfo(np.float32).max)
_HEADER = re.compile(r"^(?P<product>[A-Za-z]+-[\w.]+)-(?P<algorithm>\w*Calibration\w*)$")
_LEGACY = re.compile(r"^0([0-9a-fA-F]{16})([0-9a-fA-F]{16})$")
_LINE = re.compile(r"^(?P<name>.*): ?(?P<scale>[0-9a-fA-F]{8})$")


class CacheError(BuildError):
    """A calibration cache is malformed or of another calibrator; names the file and line."""


class CalibrationCache(msgspec.Struct, frozen=True):
    """What a cache holds. algorithm: ``EntropyCalibration2`` and so on; numbers: the legacy cutoff and quantile."""

    algorithm: str
    scales: Mapping[str, float]
    numbers: tuple[float, ...] = ()
    product: str = ""

    def ranges(self) -> dict[str, Range]:
        """Symmetric intervals."""
        return {name: Range(-scale * 127.0, scale * 127.0, "calibrator") for name, scale in self.scales.items()}


def read_cache(text: str, source: str = "calibration cache") -> CalibrationCache:
    """Any of the three forms; `CacheError` names the line that is wrong. An unknown header is a warning."""
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise CacheError(f"{source} is empty: it lacks the header line; calibrate again to write it")
    product, algorithm, numbers = _header(lines[0][1], source)
    scales: dict[str, float] = {}
    for number, line in lines[1:]:
        name, scale = _entry(line, f"{source}, line {number}")
        if name in scales and scales[name] != scale:
            raise CacheError(f"{source}, line {number}: a second scale for {name!r}, {scale:g} after {scales[name]:g}")
        scales[name] = scale
    return CalibrationCache(algorithm, scales, numbers, product)


def _header(line: str, source: str) -> tuple[str, str, tuple[float, ...]]:
    line = line.strip()
    if found := _HEADER.match(line):
        return found["product"], found["algorithm"], ()
    if line == "1":
        return "TRT", "EntropyCalibration", ()
    if found := _LEGACY.match(line):
        cutoff, quantile = (struct.unpack(">d", bytes.fromhex(digits))[0] for digits in found.groups())
        return "TRT", "LegacyCalibration", (cutoff, quantile)
    if _LINE.match(line):
        raise CacheError(f"{source}, line 1: the header is missing, found the entry {line!r}; is the file cut off?")
    warnings.warn(f"{source}, line 1: unknown header {line!r}; the scales below are taken as they are", stacklevel=3)
    return "", "", ()


def _entry(line: str, where: str) -> tuple[str, float]:
    found = _LINE.match(line)
    if found is None or not found["name"]:
        raise CacheError(f"{where}: {line!r} is not 'name: xxxxxxxx' with the eight digits of a float32")
    scale: float = struct.unpack(">f", bytes.fromhex(found["scale"]))[0]
    if not 0.0 <= scale < float("inf"):
        raise CacheError(f"{where}: the scale of {found['name']!r} is {scale}, which no range has")
    return found["name"], scale


def check_names(names: Iterable[str]) -> None:
    """`CacheError` for a tensor's name that no entry can have, for entries are lines."""
    for name in names:
        if "\n" in name or "\r" in name:
            raise CacheError(
                f"the tensor {name!r} cannot be kept in a calibration cache, for its name has a line break: rename it "
                f"in the model, or calibrate without a cache"
            )


def write_cache(algorithm: str, ranges: Mapping[str, Range], numbers: Sequence[float] = ()) -> str:
    """The text of the 5.x form; that of the legacy form where there are its two numbers."""
    header = f"{_PRODUCT}-{algorithm}"
    if numbers:
        header = "0" + "".join(struct.pack(">d", number).hex() for number in numbers)
    lines = [f"{name}: {struct.pack('>f', found.scale).hex()}" for name, found in ranges.items()]
    return "\n".join([header, *lines]) + "\n"


def read_dynamic_ranges(text: str, source: str = "dynamic ranges") -> dict[str, Range]:
    """``name:value`` lines; `CacheError` names the line that is wrong."""
    ranges: dict[str, Range] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = line.rpartition(":")
        try:
            limit = abs(float(value))
        except ValueError:
            limit = float("inf")
        # Not more than float32 holds, and no NaN.
        if not (colon and name.strip()) or not limit <= _LARGEST:
            raise CacheError(f"{source}, line {number}: {line!r} is not 'name:value' with the largest magnitude")
        found = Range(-limit, limit, "user")
        if ranges.setdefault(name.strip(), found) != found:
            raise CacheError(
                f"{source}, line {number}: a second range for {name.strip()!r}, {limit:g} after "
                f"{ranges[name.strip()].upper:g}"
            )
    return ranges


def load_ranges(path: Path) -> tuple[CalibrationCache | None, dict[str, Range]]:
    """A cache, or a file of dynamic ranges, whichever it is."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CacheError(f"{path} cannot be read as text: {error}") from error
    head = text.lstrip().split("\n", 1)[0].strip()
    if _HEADER.match(head) or _LEGACY.match(head) or head == "1" or ":" not in head:
        cache = read_cache(text, str(path))
        return cache, cache.ranges()
    try:
        return None, read_dynamic_ranges(text, str(path))
    except CacheError:
        if _LINE.match(head):
            read_cache(text, str(path))  # which says that the header is missing
        raise
