"""The process in which onnx's native code runs: ``python -m tenonrt_parser_onnx.native_worker``."""

from __future__ import annotations

import msgspec
from onnx import defs
from tenonrt import serve

from tenonrt_parser_onnx.native import BodyReply, BodyRequest


def answer(message: bytes) -> bytes:
    """The reply to one request."""
    request = msgspec.msgpack.decode(message, type=BodyRequest)
    try:
        schema = defs.get_schema(request.kind, request.version, request.domain)
        body = schema.get_context_dependent_function_with_opset_version(  # type: ignore[attr-defined]
            request.definition, request.node, list(request.types)
        )
        reply = BodyReply(body)
    except (RuntimeError, ValueError, defs.SchemaError) as error:  # what onnx makes of its C++ exceptions
        reply = BodyReply(why=str(error) or repr(error))
    return msgspec.msgpack.encode(reply)


if __name__ == "__main__":
    serve(answer)
