"""`tenonrt run`: one run of a plan or a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenonrt.cli.options import (
    NONE_GIVEN,
    Json,
    Level,
    MaxBatch,
    ParserOptions,
    Shapes,
    Source,
    Threads,
    config,
    pairs_of,
    shapes_of,
)

if TYPE_CHECKING:
    from tenonrt.runtime.engine import Engine
    from tenonrt.types import Array


def run(
    source: Source,
    input: Annotated[
        list[str] | None, typer.Option("--input", "-i", metavar="NAME=FILE", help="An input as .npy. Repeatable.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", metavar="DIR", help="Write each output there as .npy.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random inputs, and of layers that draw random numbers.")] = 0,
    batch: Annotated[int | None, typer.Option(min=1, help="The batch of random inputs.")] = None,
    shape: Shapes = None,
    max_batch: MaxBatch = None,
    opt_level: Level = 3,
    threads: Threads = 1,
    json: Json = False,
    *,
    parser_options: ParserOptions = NONE_GIVEN,
) -> None:
    """Run a plan or a model once and describe its outputs.

    Inputs that are not given are random: standard normal numbers, integers 0 and 1.
    """
    files, shapes = pairs_of("--input", input), shapes_of(shape)
    if output_dir is not None and output_dir.exists() and not output_dir.is_dir():
        raise typer.BadParameter(f"{output_dir} is no folder; name one for a file of each output", param_hint="'-o'")
    settings = config(max_batch=max_batch, optimization_level=opt_level, threads=threads)
    from tenonrt.cli.inputs import fill, input_sizes, load_array
    from tenonrt.cli.sources import open_engine

    engine = open_engine(source, settings, parser_options)
    inputs = [binding for binding in engine.bindings if binding.is_input]
    types = {binding.name: binding.type for binding in inputs}
    arrays = {name: load_array(name, Path(file), types[name]) for name, file in files.items() if name in types}
    unknown = {name: () for name in files if name not in types}
    values = input_sizes(inputs, arrays, {**shapes, **unknown}, batch, engine.profiles)
    given = fill(inputs, arrays, values, seed)
    outputs = engine.create_context(seed).execute(given)
    written = {} if output_dir is None else _write(output_dir, outputs)
    if json:
        from tenonrt.cli.console import print_json

        print_json({name: {**_describe(array), "file": written.get(name)} for name, array in outputs.items()})
    else:
        _report(engine, given, set(arrays), outputs, written)


def _write(folder: Path, outputs: dict[str, Array]) -> dict[str, str]:
    """Write the outputs, under names that any file system takes."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, str] = {}
    for name, array in outputs.items():
        stem = re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "output"
        path, number = folder / f"{stem}.npy", 1
        while str(path) in written.values():
            path, number = folder / f"{stem}.{number}.npy", number + 1
        # Object arrays would need pickle; as fixed-width text strings do not.
        np.save(path, array.astype(np.str_) if array.dtype.hasobject else array, allow_pickle=False)
        written[name] = str(path)
    return written


def _describe(array: Array) -> dict[str, Any]:
    """Type, shape and, for real numbers, least, greatest and mean value."""
    import numpy as np

    from tenonrt.types import dtype_name

    facts: dict[str, Any] = {"dtype": dtype_name(array.dtype), "shape": list(array.shape)}
    if array.size and array.dtype.kind not in "OUSc":
        numbers = array.astype(np.float64)
        facts |= {"min": float(numbers.min()), "max": float(numbers.max()), "mean": float(numbers.mean())}
        facts["finite"] = bool(np.isfinite(numbers).all())
    return facts


def _report(
    engine: Engine, given: dict[str, Array], loaded: set[str], outputs: dict[str, Array], written: dict[str, str]
) -> None:
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.tables import table

    numbers = ("min", "max", "mean")
    made = table(f"{engine.header.network} on {engine.header.device}", "", "name", "type", *numbers, "", right=numbers)
    rows = [("input", name, array, "from a file" if name in loaded else "random") for name, array in given.items()]
    rows += [("output", name, array, written.get(name, "")) for name, array in outputs.items()]
    for role, name, array, remark in rows:
        facts = _describe(array)
        shape = "x".join(map(str, facts["shape"])) or "scalar"
        values = [f"{facts[key]:.5g}" if key in facts else "–" for key in numbers]
        told = Text(remark) if facts.get("finite", True) else Text.assemble(("not all finite ", "red"), remark)
        made.add_row(role, Text(name, "bold"), Text(f"{facts['dtype']}[{shape}]"), *values, told)
    output().print(made)
