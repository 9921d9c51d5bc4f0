"""From one model format to another: which exporter writes a file, and the file it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenonrt.api import detect, parse, parser_options
from tenonrt.contracts import Exporter, NetworkView
from tenonrt.errors import GraphError, TenonError
from tenonrt.files import written_whole
from tenonrt.plugins.registry import EXPORTERS, Registry, current_registry

ANY = "network"  # the source of exporters that write the network of any file


@dataclass(frozen=True)
class ModelFile:
    """A file, how it is read and what was said about it. Implements `Model`."""

    path: Path
    format: str
    registry: Registry
    given: Mapping[str, Any]

    @property
    def options(self) -> Any:
        return parser_options(self.format, self.registry.parser(self.format), self.given)

    def network(self) -> NetworkView:
        return parse(self.path, self.format, self.registry, self.given).graph


def convert(
    source: str | Path,
    target: str | Path,
    format: str | None = None,
    registry: Registry | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write a model file in the format that the target's suffix says; it appears whole or not at all.

    format and options: of the source, as for `parse`. `GraphError` says what can be written when this cannot.
    """
    source, target, registry = Path(source), Path(target), registry or current_registry()
    if target.exists() and target.resolve() == source.resolve():
        raise GraphError(f"{target} is the model itself")
    model = ModelFile(source, format or detect(source, registry), registry, options or {})
    chunks = _exporter(model, target).export(model)
    try:
        with written_whole(target) as file:
            for chunk in chunks:
                file.write(chunk)
    except OSError as error:
        raise TenonError(f"{target} cannot be written: {error}") from error


def _exporter(model: ModelFile, target: Path) -> Exporter:
    """That of the source's own format before one of any network."""
    known: list[str] = []
    for wanted in (model.format, ANY):
        for entry in model.registry.usable(EXPORTERS):
            source, _, _ = entry.name.rpartition("-")
            if source != wanted:
                continue
            exporter: Exporter = model.registry.instance(entry)
            if target.suffix in exporter.suffixes:
                return exporter
            known.extend(exporter.suffixes)
    raise GraphError(
        f"no installed exporter writes {target.suffix or 'files without a suffix'} from {model.path.name} "
        f"({model.format}); from this model there are {', '.join(sorted(set(known))) or 'none'}"
    )
