"""Patches of images with few channels, in shared memory: every pixel is a word there, however its planes lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tenonrt_kernel_nvrtc.products.problem import Geometry

PIXELS = 16  # rows of an instruction: pixels of a row of the result
WARPS = 4
MULTIPROCESSORS = 132
_AHEAD = 8  # pixels that a thread reads before it uses the first: memory is far away


@dataclass(frozen=True)
class Patch:
    """A block computes ``rows`` by ``columns`` pixels of the result at a time; blocks: on a multiprocessor.

    taps: of a window's row, those without weight included, by which instructions go.
    """

    rows: int
    columns: int
    blocks: int
    taps: int

    @classmethod
    def parsed(cls, key: str, taps: int) -> Patch:
        rows, columns, blocks = (int(text) for text in key.split("x"))
        return cls(rows, columns, blocks, taps)

    @property
    def key(self) -> str:
        return f"{self.rows}x{self.columns}x{self.blocks}"

    @property
    def threads(self) -> int:
        return 32 * WARPS

    def read(self, g: Geometry) -> tuple[int, int]:
        """Pixels of the image that it needs, down and across."""
        return (self.rows - 1) * g.rows.stride + g.rows.window, (self.columns - 1) * g.columns.stride + self.taps

    def pixels(self, g: Geometry) -> int:
        """Those in all."""
        down, across = self.read(g)
        return down * across

    def counts(self, g: Geometry) -> tuple[int, int]:
        """Patches of an image."""
        return ceil(g.rows.positions / self.rows), ceil(g.columns.positions / self.columns)

    def tiles(self, g: Geometry) -> int:
        """Patches of all images."""
        down, across = self.counts(g)
        return g.images * down * across

    def grid(self, g: Geometry) -> int:
        return min(self.tiles(g), MULTIPROCESSORS * self.blocks)


@dataclass(frozen=True)
class Pixel:
    """How an image is read. stored: its C type; once: statements before all tiles; word: an expression of its channels
    ``raw[b][0]`` and so on; outside: the word of what is outside of the image."""

    stored: str
    once: str
    word: str
    outside: str = "0"


def where(g: Geometry, patch: Patch) -> str:
    """Statements: of a tile's number, the image, the first pixel of the result, and the one where its window begins."""
    down, across = patch.counts(g)
    return f"""const int image = tile / {down * across}, p0 = tile / {across} % {down} * {patch.rows};
        const int q0 = tile % {across} * {patch.columns};
        const int top = p0 * {g.rows.stride} - {g.rows.before}, left = q0 * {g.columns.stride} - {g.columns.before};"""


def read_pixels(g: Geometry, patch: Patch, pixel: Pixel) -> str:
    """The pixels of a tile become words; channels are planes of an image.

    Several are read, from wherever there is something to read, before the first is waited for.
    """
    _, across = patch.read(g)
    count, plane = patch.pixels(g), g.rows.size * g.columns.size
    inside = f"y >= 0 && y < {g.rows.size} && x >= 0 && x < {g.columns.size}"
    read = " ".join(f"raw[b][{c}] = pixels[from + {c * plane}];" for c in range(g.channels))
    return f"""for (int i = t; i < {count}; i += {_AHEAD * patch.threads}) {{
            {pixel.stored} raw[{_AHEAD}][{g.channels}]; bool inside[{_AHEAD}];
            _Pragma("unroll") for (int b = 0; b < {_AHEAD}; ++b) {{
                const int place = i + b * {patch.threads}, y = top + place / {across}, x = left + place % {across};
                inside[b] = place < {count} && {inside};
                const long long from = inside[b]
                    ? ((long long)image * {g.channels * g.rows.size} + y) * {g.columns.size} + x : 0;
                {read}
            }}
            _Pragma("unroll") for (int b = 0; b < {_AHEAD}; ++b) {{
                const int place = i + b * {patch.threads};
                if (place < {count}) patch[place] = inside[b] ? {pixel.word} : {pixel.outside};
            }}
        }}"""
