"""A parser that takes everything for its own and lets other errors through."""

from __future__ import annotations

from pathlib import Path

from tenonrt.contracts import GraphBuilder, Parser


class BrokenParser(Parser):
    suffixes = (".broken",)

    def sniff(self, head: bytes) -> bool:
        return True

    def parse(self, path: Path, builder: GraphBuilder) -> None:
        raise ValueError(f"{path.read_bytes()[:4]!r} is no model")
