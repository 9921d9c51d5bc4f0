"""The parser: reads a model file into a graph builder."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tenonrt import PluginError
from tenonrt.contracts import GraphBuilder, GraphError, ParseError, Parser

from tenonrt_parser_onnx.lacking import Lacking
from tenonrt_parser_onnx.model import Model, read_model
from tenonrt_parser_onnx.probe import Probe
from tenonrt_parser_onnx.sniff import is_onnx
from tenonrt_parser_onnx.survey import Survey
from tenonrt_parser_onnx.translate import PACK, Frame, MappingError, Scope, Translator, located


class OnnxParser(Parser):
    """ONNX models of opsets 1 to 28. onnx is imported when a file is parsed, not before."""

    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def sniff(self, head: bytes) -> bool:
        return is_onnx(head)

    def parse(self, path: Path, builder: GraphBuilder) -> None:
        """Fill the builder with the model's main graph. The file is trusted in nothing."""
        try:
            self._parse(path, builder)
        except (ParseError, GraphError) as error:
            raise located(str(path), error) from error
        except MappingError as error:
            raise PluginError(f"{path}: {error}") from error

    def _parse(self, path: Path, builder: GraphBuilder) -> None:
        model = read_model(path)
        translator = Translator(model)
        survey = Survey(
            model.functions,
            lambda domain, kind, version: translator.mapping(builder, domain, kind, version),
            lambda domain, kind: builder.mapping(PACK, domain, kind),
        )
        lacking = survey.check(model.graph.node, model.versions)
        if lacking.uses:
            raise _everything(model, builder, lacking)
        try:
            translator.graph(model.graph, Scope(builder, model), Frame(model.versions), nested=False)
        except MappingError:
            raise
        except PluginError as error:
            raise _everything(model, builder, lacking, error) from error


def _everything(model: Model, builder: GraphBuilder, lacking: Lacking, error: PluginError | None = None) -> ParseError:
    """What a model lacks, after looking for more of it than was found first."""
    Probe(model, lacking).run(builder)
    return lacking.error() if lacking.uses else ParseError(str(error))
