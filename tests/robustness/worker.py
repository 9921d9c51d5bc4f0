"""Parses and builds hostile models, each in a forked child, and prints what became of them as lines of JSON.

    python worker.py bombs                      every model of bombs.py
    python worker.py cases SEED KIND=COUNT...   damaged models, KIND "bytes" or "meaning"

A child that crashes, hangs or takes too much memory is one line more, not the end.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import bombs
import mutations
import tenonrt
from onnx import ModelProto, NodeProto, TensorProto, helper
from tenonrt import PluginSet, Registry
from tenonrt.plugins.registry import LAYERS, MAPPINGS, PASSES, PluginWarning
from tenonrt_parser_onnx.standard import function_schema

SECONDS = {"bombs": 10.0, "cases": 5.0}  # of the processor, so that a busy machine changes no outcome
IDLE = 60.0  # by the clock, for one that waits for ever
ADDRESS_SPACE = 8 << 30  # a last resort, so that a failure of a test is not one of the machine
BATCH = 250
Report = dict[str, Any]


def attempt(path: Path, registry: Registry | None) -> str:
    """Parse and build at level 0. Errors that `TenonRT` promises have names; any other is re-raised."""
    try:
        network = tenonrt.parse(path, registry=registry)
    except tenonrt.UnsupportedError as error:
        return _checked(error, path, "unsupported")
    except tenonrt.ParseError as error:
        return _checked(error, path, "refused")
    try:
        tenonrt.compile(network, optimization_level=0)
    except (tenonrt.BuildError, tenonrt.GraphError) as error:
        return type(error).__name__
    return "built"


def _checked(error: tenonrt.ParseError, path: Path, outcome: str) -> str:
    if not str(error).startswith(str(path)):
        raise AssertionError(f"the message does not begin with the file: {error}")
    return outcome


def forked(work: Callable[[Callable[[Report], None]], None]) -> Iterator[Report]:
    """What the child reports; then how it ended and what it took, under the key "end"."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            work(lambda report: (pipe.write(json.dumps(report) + "\n"), pipe.flush(), None)[-1])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        yield from (json.loads(line) for line in pipe)
    _, status, usage = os.wait4(child, 0)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield {"end": status, "mebibytes": max(0, usage.ru_maxrss - own) >> 10}


def guarded(path: Path, registry: Registry | None, seconds: float) -> Report:
    """The outcome, or the traceback of what should not have been raised. A hang ends the process by a signal."""
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, IDLE)
    try:
        report = {"outcome": attempt(path, registry)}
    except BaseException:  # noqa: BLE001 - that is what is looked for
        report = {"outcome": "raised", "traceback": traceback.format_exc()[-3000:]}
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {**report, "seconds": round(time.process_time() - started, 2)}


# Their first runs need a process with a compiler in it, more than the limit of address space leaves.
GENERATED = ("tenonrt-kernel-llvm",)


def limit() -> None:
    for number in (signal.SIGPROF, signal.SIGALRM):  # tell where, then end
        faulthandler.register(number, chain=True)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", category=PluginWarning)  # a pass or a kernel that raised


def prepare(path: Path, registry: Registry) -> None:
    """Import and build what children would, each of them again."""
    for group in (LAYERS, MAPPINGS, PASSES):
        for entry in registry.usable(group):
            entry.source.load()
    types = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [2, 3]) for tensor in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "plain", types[:1], types[1:])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    if attempt(path, registry) != "built":
        raise AssertionError("a model without any damage is not built")


def run_bombs(folder: Path) -> Iterator[Report]:
    registry = Registry(PluginSet(deny=GENERATED))
    prepare(folder / "plain.onnx", registry)
    for name, make in bombs.BOMBS.items():
        path = folder / f"{name}.onnx"
        made = make()
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())

        def work(tell: Callable[[Report], None], path: Path = path) -> None:
            limit()
            tell(guarded(path, registry, SECONDS["bombs"]))

        report: Report = {"name": name, "outcome": "died", "kilobytes": path.stat().st_size >> 10}
        for part in forked(work):
            report |= part
        yield report


def originals(registry: Registry) -> list[tuple[str, ModelProto]]:
    """onnx's own models of single operators, of those that are mapped or that onnx defines as functions of others."""
    warnings.simplefilter("ignore")  # of the code that makes their data
    from onnx.backend.test.case.node import collect_testcases

    mapped = set(registry.names("tenonrt.mappings"))
    found = [(case.name, case.model) for case in collect_testcases(None) if case.model is not None]
    return [
        (name, model)
        for name, model in found
        if model.ByteSize() < 4000 and all(_taken(n, model, mapped) for n in model.graph.node)
    ]


def _taken(node: NodeProto, model: ModelProto, mapped: set[str]) -> bool:
    """Whether a node is parsed without the pack, whose operators are onnx's own code."""
    if f"onnx:{node.domain}:{node.op_type}" in mapped:
        return True
    versions = {entry.domain: entry.version for entry in model.opset_import}
    return function_schema(node.domain, node.op_type, versions.get(node.domain, 1)) is not None


def run_cases(
    folder: Path, kind: str, seeds: Sequence[int], models: Sequence[tuple[str, ModelProto]]
) -> Iterator[Report]:
    """A case is its seed; children take them in batches, the next one goes on after a case that killed its child."""
    registry = Registry(PluginSet(deny=("tenonrt-kernel-numpy:cpu/*", *GENERATED)))  # whose trials would take the time
    operators = sorted({node.op_type for _, model in models for node in model.graph.node})
    path, position = folder / "case.onnx", 0
    prepare(path, registry)

    def work(tell: Callable[[Report], None]) -> None:
        limit()
        for seed in seeds[position : position + BATCH]:
            random = Random(seed)
            name, model = random.choice(models)
            report = {"kind": kind, "seed": seed, "name": name}
            tell({**report, "outcome": "died"})
            path.unlink()  # some file systems write a file out when it is overwritten
            if kind == "meaning":
                path.write_bytes(mutations.change_meaning(model, random, operators))
            else:
                path.write_bytes(random.choice(mutations.BYTES)(model.SerializeToString(), random))
            tell({**report, **guarded(path, registry, SECONDS["cases"])})

    while position < len(seeds):
        pending: Report | None = None
        for report in forked(work):
            if report.get("outcome") == "died":
                pending, position = report, position + 1
            elif "end" not in report:
                pending = None
                yield report
            elif pending is not None:
                yield {**pending, **report}
            else:
                yield {"kind": kind, "outcome": "batch", "name": f"up to seed {seeds[position - 1]}", **report}


def run_kinds(folder: Path, first: int, counts: dict[str, int]) -> Iterator[Report]:
    """The cases of each kind. They share the models, whose making takes onnx six seconds."""
    models = originals(Registry())
    for kind, count in counts.items():
        yield from run_cases(folder, kind, range(first, first + count), models)


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments[0] == "bombs":
            reports = run_bombs(folder)
        else:
            counts = dict(argument.split("=") for argument in arguments[2:])
            reports = run_kinds(folder, int(arguments[1]), {kind: int(count) for kind, count in counts.items()})
        for report in reports:
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
