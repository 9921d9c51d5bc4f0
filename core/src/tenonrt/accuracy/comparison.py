"""`compare`: the outputs of several runners of one model, and what every step of an engine stores on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec

from tenonrt.accuracy.errors import ErrorSummary, summarize, worst
from tenonrt.accuracy.observation import grids_of, observe
from tenonrt.api import compile, parse
from tenonrt.builder.config import BuilderConfig
from tenonrt.calibration.insertion import is_quantized
from tenonrt.calibration.session import Calibration, prepare
from tenonrt.calibration.taps import real_tensors, tapped_engine
from tenonrt.errors import BuildError, TenonError
from tenonrt.graph.network import Network
from tenonrt.plugins.registry import RUNNERS, current_registry
from tenonrt.runtime.engine import Engine
from tenonrt.types import Array

Batch = Mapping[str, Array]
Runner = Callable[[Batch], dict[str, Array]]


@dataclass(frozen=True)
class Tolerances:
    """What passes: an absolute error, or one relative to max |expected|."""

    absolute: float = 1e-5
    relative: float = 1e-3


class Compared(msgspec.Struct, frozen=True):
    """One tensor of one runner against the reference."""

    runner: str
    tensor: str
    summary: ErrorSummary
    passed: bool


@dataclass(frozen=True)
class Comparison:
    """``tensors``: outputs, then, layerwise, what steps store in the order in which they run."""

    reference: str
    outputs: tuple[Compared, ...]
    tensors: tuple[Compared, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every output is within the tolerance."""
        return all(row.passed for row in self.outputs)


@dataclass(frozen=True)
class Request:
    """What to compare. runners: names; the last one is the reference. batches: of inputs by name. options: of the
    model's parser.
    """

    model: Path
    batches: Sequence[Batch]
    runners: Sequence[str] = ("tenonrt", "onnxruntime")
    config: BuilderConfig = field(default_factory=BuilderConfig)
    calibration: Calibration | None = None
    layerwise: bool = False
    tolerances: Tolerances = field(default_factory=Tolerances)
    options: Mapping[str, Any] = field(default_factory=dict)


def compare(request: Request) -> Comparison:
    """Run all runners on all batches; of each tensor the worst batch counts."""
    if len(request.runners) < 2:
        raise BuildError(f"comparing takes two runners, not {', '.join(request.runners) or 'none'}")
    if not request.batches:
        raise BuildError("comparing takes at least one batch of inputs")
    _require_quantization(request)
    ours = _built(request) if "tenonrt" in request.runners or request.layerwise else None
    runners = {name: _runner(name, request, ours) for name in request.runners}
    *others, reference = request.runners
    expected = [runners[reference](batch) for batch in request.batches]
    rows = [
        row
        for name in others
        for row in _rows(name, [runners[name](batch) for batch in request.batches], expected, request.tolerances)
    ]
    tensors = _layerwise(request, *ours) if ours is not None and request.layerwise else ()
    return Comparison(reference, tuple(rows), tuple(tensors))


def _rows(name: str, found: Sequence[Batch], expected: Sequence[Batch], tolerances: Tolerances) -> Iterable[Compared]:
    for tensor in expected[0]:
        if tensor not in found[0]:
            raise BuildError(f"the runner {name} has no output {tensor!r}; it has {', '.join(found[0])}")
        summary = worst([summarize(f[tensor], e[tensor]) for f, e in zip(found, expected, strict=True)])
        yield Compared(name, tensor, summary, summary.passes(tolerances.absolute, tolerances.relative))


# runners --------------------------------------------------------------------------------------------------------------


def _runner(name: str, request: Request, ours: tuple[Engine, Network] | None) -> Runner:
    if name == "tenonrt" and ours is not None:
        return _running(ours[0])
    if name == "reference":
        return _reference(request)
    registry = current_registry()
    entry = registry.find(RUNNERS, name)
    if entry is None:
        known = ", ".join(["tenonrt", "reference", *registry.names(RUNNERS)])
        raise BuildError(f"there is no runner {name!r}; there are {known}")
    return _of_plugin(name, registry.load(entry), request.model)


def _of_plugin(name: str, make: Callable[[Path], Runner], model: Path) -> Runner:
    """Another runtime's runner. What it raises, in whatever class of its own, becomes a `BuildError` that names it."""

    def guarded(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except TenonError:
            raise
        except Exception as error:
            raise BuildError(f"the runner {name} cannot run {model}: {error}") from error

    run: Runner = guarded(lambda: make(model))
    return lambda batch: guarded(lambda: run(batch))


def _require_quantization(request: Request) -> None:
    """Without it int8 would be float32 by another name."""
    if request.config.precision != "int8" or request.calibration is not None:
        return
    if not is_quantized(parse(request.model, options=request.options).graph):
        raise BuildError(
            f"{request.model} is not quantized, so that nothing would be computed in int8: give samples to calibrate "
            "with, or a calibration cache"
        )


def _built(request: Request) -> tuple[Engine, Network]:
    """The engine that is compared, and its network as the build left it."""
    config = {field.name: getattr(request.config, field.name) for field in fields(request.config)}
    network = parse(request.model, options=request.options)
    return compile(network, calibration=request.calibration, **config), network


def _running(engine: Engine) -> Runner:
    context = engine.create_context(0)
    return lambda batch: context.execute(dict(batch))


def _reference(request: Request) -> Runner:
    """Our own engine in float32, of exact kernels that are chosen without timing."""
    given = request.config
    engine = compile(
        request.model,
        options=request.options,
        optimization_level=0,
        allow_inexact=False,
        max_batch=given.max_batch,
        shapes=given.shapes,
    )
    return _running(engine)


# layer by layer -------------------------------------------------------------------------------------------------------


def _layerwise(request: Request, engine: Engine, built: Network) -> list[Compared]:
    """Every real tensor that a step stores, against an engine that computes it in float32.

    Steps are looked at where they stop anyway, so the engine is the one that is compared, its fusions included.
    """
    grids = grids_of(built.graph)
    network = parse(request.model, options=request.options)
    prepare(network, request.config)
    tensors = [t for t in real_tensors(network.graph) if t not in network.graph.inputs]
    exact, taps = tapped_engine(network, tensors, request.config)
    context, found = exact.create_context(0), dict[str, list[ErrorSummary]]()
    for batch in request.batches:
        expected = context.execute(dict(batch))
        for name, values in observe(engine, grids, batch).items():
            if name in taps and values.shape == expected[taps[name]].shape:
                found.setdefault(name, []).append(summarize(values, expected[taps[name]]))
    limits = request.tolerances
    summaries = {name: worst(each) for name, each in found.items()}
    return [Compared("tenonrt", n, s, s.passes(limits.absolute, limits.relative)) for n, s in summaries.items()]
