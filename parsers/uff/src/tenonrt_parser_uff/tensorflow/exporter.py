"""UFF files from frozen TensorFlow graphs, node by node."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import ClassVar

from tenonrt.contracts import Exporter, Model, ParseError

from tenonrt_parser_uff.order import located


class TensorFlowToUff(Exporter):
    """What TensorRT's users knew as convert-to-uff: names, weights and orders as they are in the graph.

    Operations that UFF does not have become custom ones, ``_Name``, with TensorFlow's attributes as fields.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".uff",)

    def export(self, model: Model) -> Iterable[bytes | memoryview]:
        """`UnsupportedError` lists the nodes that UFF cannot hold."""
        from tenonrt_parser_uff.tensorflow.conversion import Conversion
        from tenonrt_parser_uff.tensorflow.parser import graph_of
        from tenonrt_parser_uff.tensorflow.selection import Selection, wanted
        from tenonrt_parser_uff.wire import read_file

        try:
            conversion = Conversion(Selection(graph_of(read_file(model.path)), wanted(model.options)))
            conversion.run()
        except ParseError as error:
            raise located(str(model.path), error) from error
        if conversion.custom:
            names = ", ".join(sorted(conversion.custom))
            warnings.warn(f"UFF has no operation for {names}: written as custom operations", stacklevel=2)
        return conversion.encode()
