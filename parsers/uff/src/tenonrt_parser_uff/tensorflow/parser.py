"""The parser of frozen TensorFlow graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from tenonrt.contracts import GraphBuilder, GraphError, ParseError, Parser, ParserOptions

from tenonrt_parser_uff.order import located
from tenonrt_parser_uff.tensorflow.options import TensorFlowOptions
from tenonrt_parser_uff.tensorflow.sniff import is_graph_def, is_saved_model


class TensorFlowParser(Parser):
    """A binary GraphDef whose variables are constants (frozen). TensorFlow is not needed.

    Channels stay where the graph has them, in last place mostly: layers that want them first stand between transposes,
    which the optimizer removes.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".pb",)
    Options: ClassVar[type[ParserOptions]] = TensorFlowOptions

    def sniff(self, head: bytes) -> bool:
        return is_graph_def(head)

    def parse(self, path: Path, builder: GraphBuilder) -> None:
        """Fill the builder with the file's graph. The file is trusted in nothing."""
        self.parse_with(path, builder, TensorFlowOptions())

    def parse_with(self, path: Path, builder: GraphBuilder, options: Any) -> None:
        """The same with shapes, element types and outputs said."""
        from tenonrt_parser_uff.wire import read_file

        try:
            self.parse_buffer(read_file(path), builder, options)
        except (ParseError, GraphError) as error:
            raise located(str(path), error) from error

    def parse_buffer(self, data: bytes, builder: GraphBuilder, options: Any = None) -> None:
        """The same of a file's bytes."""
        from tenonrt_parser_uff.tensorflow.reading import Reading
        from tenonrt_parser_uff.tensorflow.selection import Selection, wanted

        said = wanted(TensorFlowOptions() if options is None else options)
        Reading(Selection(graph_of(data), said), builder).run()


def graph_of(data: bytes) -> Any:
    """The GraphDef of a file's bytes; `ParseError` tells a SavedModel, which is another message."""
    from tenonrt_parser_uff.tensorflow.schema import graph_def
    from tenonrt_parser_uff.wire import decode

    if is_saved_model(data[:4096]):
        raise ParseError("is a SavedModel, whose variables lie in other files; freeze it into a GraphDef")
    return decode(graph_def(), data, "a binary GraphDef")
