"""onnx's native code, in a process of its own: it can abort, and is asked only after what it gets has been checked."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Sequence
from functools import cache

import msgspec
from tenonrt import WorkerDiedError, WorkerProcess
from tenonrt.contracts import ParseError

SECONDS = 60.0  # the largest bodies take milliseconds; the process needs a second to start, more on a busy machine


class BodyRequest(msgspec.Struct, frozen=True):
    """The body of a function whose definition depends on its node and on the types of its inputs."""

    kind: str
    version: int
    domain: str
    definition: int  # the opset of the definition to take
    node: bytes  # NodeProto
    types: tuple[bytes, ...]  # TypeProto of each input, empty where it is absent


class BodyReply(msgspec.Struct, frozen=True):
    """A FunctionProto, or why there is none."""

    body: bytes = b""
    why: str = ""


class NativeOnnx:
    """One process, kept for the next question: to start it takes longer than any answer."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._worker = WorkerProcess("tenonrt_parser_onnx.native_worker", seconds)
        self._lock = threading.Lock()

    def body(self, kind: str, version: int, domain: str, definition: int, node: bytes, types: Sequence[bytes]) -> bytes:
        """The serialized body; `ParseError` where onnx refuses, or its code does not survive the question."""
        request = BodyRequest(kind, version, domain, definition, node, tuple(types))
        try:
            with self._lock:
                answer = self._worker.ask(msgspec.msgpack.encode(request))
        except WorkerDiedError as death:
            raise ParseError(f"cannot be expanded by onnx: {death}") from death
        reply = msgspec.msgpack.decode(answer, type=BodyReply)
        if reply.why:
            raise ParseError(f"cannot be expanded by onnx: {reply.why}")
        return reply.body

    def stop(self) -> None:
        """End the process."""
        self._worker.stop()


@cache
def native_onnx() -> NativeOnnx:
    """The one that all parsers of this process share."""
    made = NativeOnnx()
    atexit.register(made.stop)
    return made
