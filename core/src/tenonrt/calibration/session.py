"""Calibration: run a network on samples, show every tensor to a calibrator, keep the ranges it finds."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.progress import Teller
from tenonrt.calibration.batches import CalibrationCallbacks, batches_of
from tenonrt.calibration.cache import CacheError, load_ranges, read_cache, write_cache
from tenonrt.calibration.taps import real_tensors, tapped_engine
from tenonrt.contracts import Calibrator
from tenonrt.errors import BuildError, PluginError
from tenonrt.graph.network import Network
from tenonrt.graph.passes import run_passes
from tenonrt.graph.shaping import specialise_inputs
from tenonrt.plugins.registry import CALIBRATORS, Registry, using
from tenonrt.types import Array, Range


@dataclass(frozen=True)
class Calibration:
    """How to find ranges.

    data: an iterable of batches, an object with TensorRT's callbacks, or a path; None: the cache has them all.
    calibrator: the name of an installed one. options: its own. cache: read where the file exists, else written.
    keep: names of layers that stay real.
    """

    data: Any = None
    calibrator: str = "entropy"
    cache: Path | str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: frozenset[str] = frozenset()


def make_calibrator(registry: Registry, name: str, options: Mapping[str, Any]) -> Calibrator:
    """A calibrator of its own for one calibration; `PluginError` names what is installed, or its options."""
    entry = registry.find(CALIBRATORS, name)
    if entry is None:
        known = ", ".join(registry.names(CALIBRATORS)) or "none"
        raise PluginError(f"no installed distribution offers the calibrator {name!r}; installed: {known}")
    made_by = registry.load(entry)
    try:
        inspect.signature(made_by).bind(**options)
    except TypeError as error:
        raise PluginError(f"the calibrator {name!r} does not take these options: {error}") from error
    made = made_by(**options)
    if not isinstance(made, Calibrator):
        raise PluginError(f"{entry.id} makes {type(made).__name__}, which is no Calibrator")
    return made


def calibrate(network: Network, config: BuilderConfig, calibration: Calibration) -> dict[str, Range]:
    """The range of each real tensor by name. The network is rewritten by the installed passes, as a build does.

    `CacheError` for a cache that is malformed or of another calibrator, `BuildError` where data do not fit.
    """
    registry = network.registry
    calibrator = make_calibrator(registry, calibration.calibrator, calibration.options)
    prepare(network, config)
    cached = _cached(calibration, calibrator)
    if cached is not None:
        return cached
    if calibration.data is None:
        raise BuildError(f"there is nothing to calibrate with: no data, and no cache at {calibration.cache}")
    _observe(network, config, calibration.data, calibrator)
    ranges = dict(calibrator.ranges())
    _keep(calibration, write_cache(calibrator.algorithm, ranges, calibrator.numbers()))
    return ranges


def prepare(network: Network, config: BuilderConfig) -> None:
    """Passes first: ranges are those of the tensors that a build will see."""
    specialise_inputs(network.graph, config.max_batch, config.shapes)
    with using(network.registry):
        run_passes(network.graph, network.registry)


def _cached(calibration: Calibration, calibrator: Calibrator) -> dict[str, Range] | None:
    """What a cache has; None where there is none yet."""
    if isinstance(calibration.data, CalibrationCallbacks):
        given = calibration.data.read_calibration_cache()
        cache = None if given is None else read_cache(bytes(given).decode("utf-8"), "read_calibration_cache()")
        ranges = {} if cache is None else cache.ranges()
        source = "read_calibration_cache()"
    elif calibration.cache is not None and Path(calibration.cache).exists():
        cache, ranges = load_ranges(Path(calibration.cache))
        source = str(calibration.cache)
        if cache is None:
            return ranges
    else:
        return None
    if cache is None:
        return None
    if cache.algorithm and cache.algorithm != calibrator.algorithm:
        raise CacheError(
            f"{source} was written by {cache.algorithm}, not {calibrator.algorithm}: name the calibrator that "
            f"wrote it, or remove the file to calibrate again"
        )
    if cache.numbers and cache.numbers != calibrator.numbers():
        raise CacheError(
            f"{source} was made with cutoff and quantile {cache.numbers}, the calibrator has {calibrator.numbers()}; "
            f"give it the same options, or remove the file to calibrate again"
        )
    return ranges


def _keep(calibration: Calibration, text: str) -> None:
    if isinstance(calibration.data, CalibrationCallbacks):
        calibration.data.write_calibration_cache(text.encode("utf-8"))
    if calibration.cache is not None:
        Path(calibration.cache).write_text(text, encoding="utf-8")


def _observe(network: Network, config: BuilderConfig, data: Any, calibrator: Calibrator) -> None:
    tensors = real_tensors(network.graph)
    engine, taps = tapped_engine(network, tensors, config)
    context = engine.create_context()
    teller, done = Teller(config.progress), 0
    try:
        total = len(data)
    except TypeError:
        total = 0
    for batch in batches_of(data, network.graph.inputs):
        made = context.execute(dict(batch))
        for tensor in tensors:
            _show(calibrator, tensor.name, made[taps[tensor.name]] if tensor.name in taps else batch[tensor.name])
        done += 1
        teller.tell("calibrate", done, max(total, done), "")
    if not done:
        raise BuildError("the calibration data have no batch")


def _show(calibrator: Calibrator, name: str, values: Array) -> None:
    try:
        calibrator.observe(name, values)
    except ValueError as error:
        raise BuildError(f"calibrating the tensor {name!r}: {error}") from error
