"""The parser: reads a Caffe network and its weights into a graph builder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

from tenonrt.contracts import GraphBuilder, GraphError, ParseError, Parser, ParserOptions, Tensor, UnsupportedError

from tenonrt_parser_caffe.options import CaffeOptions
from tenonrt_parser_caffe.sniff import is_caffe


class UnknownFieldWarning(UserWarning):
    """A prototxt has fields that no schema knows; they were passed over."""


class CaffeParser(Parser):
    """Networks of BVLC Caffe, NVCaffe 0.16 and the SSD branch, as prototxt or caffemodel, V0 and V1 included.

    protobuf is imported when a file is parsed, not before.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".prototxt", ".caffemodel")
    Options: ClassVar[type[ParserOptions]] = CaffeOptions

    def sniff(self, head: bytes) -> bool:
        return is_caffe(head)

    def parse(self, path: Path, builder: GraphBuilder) -> None:
        self.parse_with(path, builder, CaffeOptions())

    def parse_with(self, path: Path, builder: GraphBuilder, options: Any) -> None:
        read(path, builder, options)


def read(path: Path, builder: GraphBuilder, options: CaffeOptions | None = None) -> dict[str, Tensor]:
    """Fill the builder and return the tensors by the name of their blob, of an in-place layer the last version.

    The files are trusted in nothing; every error begins with the file's name. Fields that the schema does not know are
    an `UnknownFieldWarning`.
    """
    from tenonrt_parser_caffe.network import read_mean, read_network, read_weights
    from tenonrt_parser_caffe.parameters import Store
    from tenonrt_parser_caffe.translate import Translator

    options = options or CaffeOptions()
    with _naming(path):
        network = read_network(path)
    weights = dict(network.weights)
    if options.weights is not None:
        with _naming(Path(options.weights)):
            weights |= read_weights(Path(options.weights))
    mean = None
    if options.mean is not None:
        with _naming(Path(options.mean)):
            mean = read_mean(Path(options.mean)).array()
    with _naming(path):
        tensors = Translator(builder, network, Store(weights, options.random_weights), options, mean).run()
    if network.unknown:
        told = ", ".join(network.unknown[:5]) + (f" and {len(network.unknown) - 5} more" * (len(network.unknown) > 5))
        warnings.warn(f"{path}: passed over unknown fields: {told}", UnknownFieldWarning, stacklevel=2)
    return tensors


class _naming:  # noqa: N801 - read as a word
    """Errors raised inside begin with a file's name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UnsupportedError):
            raise UnsupportedError(f"{self.path}: {error}", error.operators) from error
        if isinstance(error, ParseError | GraphError):
            raise ParseError(f"{self.path}: {error}") from error
