"""`tenonrt convert`: a model file becomes one of another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenonrt.cli.options import NONE_GIVEN, ParserOptions


def convert(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model file.")],
    target: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="What to write; its suffix says the format.")
    ],
    *,
    parser_options: ParserOptions = NONE_GIVEN,
) -> None:
    """Write a model in another format: graph.pb as net.uff, anything that can be read as net.onnx.

    What parsers can be told is listed by `tenonrt convert MODEL --help`.
    """
    if not target.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {target.parent}", param_hint="'--output'")
    if target.is_dir():
        raise typer.BadParameter(f"{target} is a folder; name a file in it", param_hint="'--output'")
    from tenonrt.exporting import convert as write

    write(model, target, options=parser_options)
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.quantities import nbytes

    size = nbytes(target.stat().st_size)
    output().print(Text.assemble((model.name, "bold"), " → ", (str(target), "bold green"), f"  {size}"), soft_wrap=True)
