"""Calibration: run a network on samples, show every tensor to a calibrator, keep the ranges it finds."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.progress import Teller
from tenonrt.calibration.batches import CalibrationCallbacks, batches_of
from tenonrt.calibration.cache import CacheError, CalibrationCache, check_names, load_ranges, read_cache, write_cache
from tenonrt.calibration.insertion import quantizable_tensors
from tenonrt.calibration.taps import real_tensors, tapped_engine
from tenonrt.contracts import Calibrator
from tenonrt.errors import BuildError, PluginError
from tenonrt.files import written_whole
from tenonrt.graph.network import Network
from tenonrt.graph.passes import run_passes
from tenonrt.graph.shaping import specialise_inputs
from tenonrt.plugins.registry import CALIBRATORS, Registry, using
from tenonrt.types import Range


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
    try:
        made = made_by(**options)
    except Exception as error:
        if options and isinstance(error, TypeError | ValueError):
            raise PluginError(f"the calibrator {name!r} does not take these options: {error}") from error
        raise PluginError(f"{entry.id}: making the calibrator {name!r} raised {error!r}") from error
    if not isinstance(made, Calibrator):
        raise PluginError(f"{entry.id} makes {type(made).__name__}, which is no Calibrator")
    return made


def calibrate(network: Network, config: BuilderConfig, calibration: Calibration) -> dict[str, Range]:
    """The range of each real tensor by name. The network is rewritten by the installed passes, as a build does.

    A tensor that took values of no range, such as a mask of infinities, is left out; one that int8 would read must not.
    `CacheError` for a cache that is malformed, of another calibrator or of another network, `BuildError` where data do
    not fit. A cache that lacks some of the ranges that int8 needs is a warning: the layers stay real.
    """
    registry = network.registry
    calibrator = make_calibrator(registry, calibration.calibrator, calibration.options)
    prepare(network, config)
    needed = [tensor.name for tensor in quantizable_tensors(network.graph, calibration.keep)]
    cached = _cached(calibration, calibrator, needed)
    if cached is not None:
        return cached
    if calibration.data is None:
        raise BuildError(f"there is nothing to calibrate with: no data, and no cache at {calibration.cache}")
    _check_can_keep(network, calibration)
    ranges = _observe(network, config, calibration.data, calibrator, needed)
    _keep(calibration, write_cache(calibrator.algorithm, ranges, calibrator.numbers()))
    return ranges


def prepare(network: Network, config: BuilderConfig) -> None:
    """Passes first: ranges are those of the tensors that a build will see."""
    specialise_inputs(network.graph, config.max_batch, config.shapes)
    with using(network.registry):
        run_passes(network.graph, network.registry)


def _cached(calibration: Calibration, calibrator: Calibrator, needed: Sequence[str]) -> dict[str, Range] | None:
    """What a cache has; None where there is none yet."""
    cache: CalibrationCache | None
    if isinstance(calibration.data, CalibrationCallbacks):
        source, given = "read_calibration_cache()", calibration.data.read_calibration_cache()
        if given is None:
            return None
        cache = found = read_cache(_decoded(given, source), source)
        ranges = found.ranges()
    elif calibration.cache is not None and Path(calibration.cache).exists():
        source = str(calibration.cache)
        cache, ranges = load_ranges(Path(calibration.cache))
    else:
        return None
    if cache is not None:
        _check_origin(cache, source, calibrator)
    _check_covers(ranges, source, needed, whole=cache is not None)
    return ranges


def _decoded(given: Any, source: str) -> str:
    try:
        return bytes(given).decode("utf-8")
    except (TypeError, ValueError) as error:
        raise CacheError(f"{source} gave no bytes of text: {error}; give None to calibrate again") from error


def _check_origin(cache: CalibrationCache, source: str, calibrator: Calibrator) -> None:
    """`CacheError` where another calibrator made it, or one with other options."""
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


def _check_covers(ranges: Mapping[str, Range], source: str, needed: Sequence[str], *, whole: bool) -> None:
    """`CacheError` for ranges of another network. whole: they should be all, so that some that lack are a warning."""
    lacking = [name for name in needed if name not in ranges]
    told = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
    if lacking and len(lacking) == len(needed):
        raise CacheError(
            f"{source} has no range for any tensor that int8 would read ({told}): it is of another network, or cut "
            f"off; remove it to calibrate again"
        )
    if lacking and whole:
        warnings.warn(f"{source} has no range for {told}; the layers that read them stay real", stacklevel=5)


def _check_can_keep(network: Network, calibration: Calibration) -> None:
    """Before minutes are spent: `CacheError` for what could not be kept afterwards."""
    if calibration.cache is None and not isinstance(calibration.data, CalibrationCallbacks):
        return
    check_names(tensor.name for tensor in real_tensors(network.graph))
    if calibration.cache is not None and not Path(calibration.cache).parent.is_dir():
        raise CacheError(f"the calibration cache {calibration.cache} cannot be written: there is no such folder")


def _keep(calibration: Calibration, text: str) -> None:
    if isinstance(calibration.data, CalibrationCallbacks):
        calibration.data.write_calibration_cache(text.encode("utf-8"))
    if calibration.cache is not None:
        try:
            with written_whole(Path(calibration.cache)) as file:
                file.write(text.encode("utf-8"))
        except OSError as error:
            raise CacheError(f"the calibration cache {calibration.cache} cannot be written: {error}") from error


def _observe(
    network: Network, config: BuilderConfig, data: Any, calibrator: Calibrator, needed: Collection[str]
) -> dict[str, Range]:
    """The ranges that a calibrator finds in the data, but for tensors that took values of no range."""
    without = set[str]()
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
        for tensor in (t for t in tensors if t.name not in without):
            values = made[taps[tensor.name]] if tensor.name in taps else batch[tensor.name]
            try:
                calibrator.observe(tensor.name, values)
            except ValueError as error:
                if tensor.name in needed:
                    raise BuildError(f"calibrating the tensor {tensor.name!r}: {error}") from error
                without.add(tensor.name)
        done += 1
        teller.tell("calibrate", done, max(total, done), "")
    if not done:
        raise BuildError("the calibration data have no batch")
    return {name: found for name, found in calibrator.ranges().items() if name not in without}
