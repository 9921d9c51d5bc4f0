"""The parser of UFF files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from tenonrt.contracts import GraphBuilder, GraphError, ParseError, Parser, ParserOptions

from tenonrt_parser_uff.factory import PluginFactory
from tenonrt_parser_uff.inputs import InputOrder, Registration, registration
from tenonrt_parser_uff.options import UffOptions
from tenonrt_parser_uff.order import located
from tenonrt_parser_uff.sniff import is_uff


class UffParser(Parser):
    """UFF files of metagraph version 1, with TensorRT's words.

    ``literal`` takes every field at its word. By default two flaws of the TensorFlow converter are set right: it wrote
    the radius of a local response normalization as its window with an alpha that is not divided by it, and Pow as a
    Unary operation.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".uff",)
    Options: ClassVar[type[ParserOptions]] = UffOptions

    def __init__(self, *, literal: bool = False) -> None:
        self.literal = literal
        self.factory: PluginFactory | None = None
        self.registered: dict[str, Registration] = {}
        self.wanted: list[str] = []

    def register_input(self, name: str, dims: Iterable[int], order: InputOrder | int = "NCHW") -> None:
        """Say what an input will be given: dimensions without the batch, in the order that is named.

        Optional where the file has a shape. The file's nodes may read another order: then a transpose stands between.
        `ValueError` for dimensions that are not positive.
        """
        self.registered[name] = registration(dims, order)

    def register_output(self, name: str) -> None:
        """Mark a node's result; without any, those that the file marks are the outputs."""
        self.wanted.append(name)

    def set_plugin_factory(self, factory: PluginFactory | None) -> None:
        """Who makes custom operations, asked before the registry of mappings."""
        self.factory = factory

    def sniff(self, head: bytes) -> bool:
        return is_uff(head)

    def parse(self, path: Path, builder: GraphBuilder) -> None:
        """Fill the builder with the file's graph. The file is trusted in nothing."""
        from tenonrt_parser_uff.wire import read_file

        try:
            self._read(read_file(path), builder)
        except (ParseError, GraphError) as error:
            raise located(str(path), error) from error

    def parse_with(self, path: Path, builder: GraphBuilder, options: Any) -> None:
        """The same with what was said on a command line, beside what was registered here."""
        parser = UffParser(literal=self.literal or options.uff_literal)
        parser.factory, parser.registered, parser.wanted = self.factory, dict(self.registered), list(self.wanted)
        for text in options.uff_input:
            name, dims = _named_dims(text)
            parser.register_input(name, dims, "NHWC" if options.uff_nhwc else "NCHW")
        for name in options.uff_output:
            parser.register_output(name)
        parser.parse(path, builder)

    def parse_buffer(self, data: bytes, builder: GraphBuilder) -> None:
        """The same of a file's bytes."""
        try:
            self._read(data, builder)
        except (ParseError, GraphError) as error:
            raise located("the buffer", error) from error

    def _read(self, data: bytes, builder: GraphBuilder) -> None:
        from tenonrt_parser_uff.reading import Reading
        from tenonrt_parser_uff.schema import meta_graph
        from tenonrt_parser_uff.wire import decode

        Reading(decode(meta_graph(), data, "UFF"), builder, self).run()


def _named_dims(text: str) -> tuple[str, tuple[int, ...]]:
    """The parts of ``NAME,C,H,W``."""
    name, *dims = text.split(",")
    if not name or not dims or not all(d.strip().isdecimal() and int(d) > 0 for d in dims):
        raise ParseError(f"the input {text!r} must be its name and its sizes, separated by commas: data,3,224,224")
    return name, tuple(map(int, dims))
