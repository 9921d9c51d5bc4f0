"""The exporter of ONNX models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tenonrt.contracts import Exporter, Model, UnsupportedError


class OnnxExporter(Exporter):
    """Any network as an ONNX model: standard operators where there are any, else operators of the domain "tenonrt".

    Those have the layer's kind as their type and its attributes; a third party's ``acme.RoiAlign`` is RoiAlign of the
    domain "acme". The operator set is the lowest from 18 on that has the operators used.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def export(self, model: Model) -> Iterable[bytes | memoryview]:
        """`UnsupportedError` for a network of more than protobuf's two gibibytes."""
        from google.protobuf.message import EncodeError

        from tenonrt_parser_onnx.exporting.model import to_model

        made = to_model(model.network())
        try:
            return [made.SerializeToString()]
        except (EncodeError, ValueError) as error:
            size = made.ByteSize()
            raise UnsupportedError(
                f"the model would have {size} bytes, past what one file of ONNX holds", []
            ) from error
