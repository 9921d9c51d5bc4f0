"""The short way in: parse a file, compile it, run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from warnings import warn

import msgspec

from tenonrt.builder.builder import Builder
from tenonrt.builder.config import BuilderConfig
from tenonrt.calibration.insertion import is_quantized, quantize_network
from tenonrt.calibration.session import Calibration, calibrate
from tenonrt.contracts import LayerType, Parser, ParserOptions
from tenonrt.errors import BuildError, ParseError
from tenonrt.graph.network import Network
from tenonrt.graph.verification import verify
from tenonrt.plan.container import MAGIC
from tenonrt.plugins.registry import PARSERS, Registry, current_registry
from tenonrt.runtime.engine import Engine

_HEAD = 4096


def layer_type(kind: str) -> LayerType:
    """The layer type of a kind, from the plugins in force."""
    return current_registry().layer_type(kind)


def parse(
    path: str | Path,
    format: str | None = None,
    registry: Registry | None = None,
    options: Mapping[str, Any] | None = None,
) -> Network:
    """The network of a model file. The parser is chosen by suffix, then by the file's first bytes, or named.

    options: of the parser, by name; texts are converted. `ParseError` names those that it does not have or take.
    """
    path, registry = Path(path), registry or current_registry()
    name = format or detect(path, registry)
    parser = registry.parser(name)
    network = Network(path.stem, registry)
    parser.parse_with(path, network, parser_options(name, parser, options or {}))
    verify(network.graph)
    return network


def detect(path: Path, registry: Registry) -> str:
    """The name of the parser that reads a file; `ParseError` when there is none, or no such file."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ParseError(f"{path} cannot be read: {error.strerror or error}") from error
    if head.startswith(MAGIC):
        raise ParseError(f"{path} is a plan already; run, bench and inspect take it as it is")
    names = [entry.name for entry in registry.usable(PARSERS)]
    parsers = {name: registry.parser(name) for name in names}
    for name, parser in parsers.items():
        if path.suffix in parser.suffixes:
            return name
    for name, parser in parsers.items():
        if parser.sniff(head):
            return name
    raise ParseError(
        f"{path} is of no format that an installed parser reads (installed: {', '.join(names) or 'none'}); "
        f"install the parser, tenonrt-parser-onnx for instance, or name the format"
    )


def parser_options(name: str, parser: Parser, given: Mapping[str, Any]) -> ParserOptions:
    """The parser's options of plain values; `ParseError` names those that it does not have or take."""
    known = parser.Options.__struct_fields__
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ParseError(f"the {name} parser has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    try:
        return msgspec.convert(dict(given), parser.Options, strict=False)
    except msgspec.ValidationError as error:
        raise ParseError(f"options of the {name} parser: {error}") from error


def compile(
    model: str | Path | Network,
    *,
    options: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
    **config: Any,
) -> Engine:
    """Build an engine from a file or a network; the keywords are those of `BuilderConfig`.

    options: of the file's parser, as for `parse`. calibration: where the ranges for int8 come from, which
    ``precision="int8"`` wants unless the model is quantized itself, and ``"best"`` may have.
    """
    known = {field.name for field in fields(BuilderConfig)}
    unknown = sorted(set(config) - known)
    if unknown:
        raise TypeError(f"compile() does not know {unknown}; its keywords are {sorted(known)}")
    settings = replace(BuilderConfig(), **config)
    if not isinstance(model, Network):
        registry = Registry(settings.plugins) if settings.plugins is not None else None
        model = parse(model, registry=registry, options=options)
    if calibration is not None:
        if settings.precision not in ("int8", "best"):
            raise BuildError(f"calibration is for precision int8 or best, not {settings.precision}")
        unsigned = model.registry.device(settings.device).multiplies_unsigned
        quantize_network(model, calibrate(model, settings, calibration), calibration.keep, unsigned=unsigned)
    elif settings.precision == "int8" and not is_quantized(model.graph):
        warn(
            f"nothing in {model.graph.name} is quantized, so that int8 changes nothing: give samples or a cache of "
            f"ranges (calibration=, --calibrate), or a model with QuantizeLinear operators",
            stacklevel=2,
        )
    return Builder(settings).build(model)
