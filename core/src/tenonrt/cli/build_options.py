"""The options of `tenonrt build`, in groups that each say what they contribute to a `BuilderConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tenonrt.cli.options import (
    Disable,
    Level,
    MaxBatch,
    ShapeRanges,
    Threads,
    calibration_of,
    choice_of,
    layer_precision_of,
    parsed,
    plugin_set,
    profiles_of,
)
from tenonrt.cli.quantities import parse_bytes


class Precision(StrEnum):
    """What kernels may compute in besides float32."""

    float32 = "float32"
    tf32 = "tf32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"
    best = "best"


@dataclass(frozen=True)
class EngineOptions:
    """The engine."""

    device: Annotated[str, typer.Option(help="The device to build for.")] = "cpu"
    threads: Threads = 1
    max_batch: MaxBatch = None
    shape: ShapeRanges = None
    workspace: Annotated[
        str | None, typer.Option(metavar="BYTES", help="The most workspace a tactic may use, such as 64M.")
    ] = None
    disable: Disable = None

    def settings(self) -> dict[str, Any]:
        """Fields of a `BuilderConfig`."""
        shapes, profiles = profiles_of(self.shape)
        return {
            "device": self.device,
            "threads": self.threads,
            "max_batch": self.max_batch,
            "shapes": shapes,
            "profiles": profiles,
            "workspace": None if self.workspace is None else parsed("--workspace", parse_bytes, self.workspace),
            "disable": frozenset(self.disable or ()),
        }


@dataclass(frozen=True)
class TuningOptions:
    """Tuning."""

    opt_level: Level = 3
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep measured times here, for later builds on this machine.")
    ] = None
    tuning_seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop timing after this many seconds; estimates decide the rest.")
    ] = None
    lock: Annotated[bool, typer.Option("--lock", help="Fail on whatever the timing cache does not know.")] = False
    replay: Annotated[
        Path | None, typer.Option(metavar="PLAN", help="Take the choices of this plan as they are, without timing.")
    ] = None
    prefer: Annotated[
        Path | None, typer.Option(metavar="PLAN", help="Keep the choices of this plan where others are hardly faster.")
    ] = None

    def settings(self) -> dict[str, Any]:
        """Fields of a `BuilderConfig`."""
        return {
            "optimization_level": self.opt_level,
            "timing_cache": self.timing_cache,
            "tuning_seconds": self.tuning_seconds,
            "lock": self.lock,
            "replay": None if self.replay is None else choice_of(self.replay),
            "prefer": None if self.prefer is None else choice_of(self.prefer),
        }


@dataclass(frozen=True)
class PluginOptions:
    """Plugins."""

    plugins_allow: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Use only these distributions or entries. Repeatable.")
    ] = None
    plugins_deny: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Use none of these, acme-* for instance. Repeatable.")
    ] = None

    def settings(self) -> dict[str, Any]:
        """Fields of a `BuilderConfig`."""
        return {"plugins": plugin_set(self.plugins_allow, self.plugins_deny)}


@dataclass(frozen=True)
class PrecisionOptions:
    """Precision and calibration."""

    precision: Annotated[
        Precision, typer.Option(help="What kernels may compute in besides float32; best: all that they offer.")
    ] = Precision.float32
    layer_precision: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=MODE:PRECISION", help="fc*=obey:float32, conv*=prefer:bfloat16. Repeatable."),
    ] = None
    int8: Annotated[bool, typer.Option("--int8", help="The same as --precision int8.")] = False
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Samples for int8: an .npz by input, an .npy, or a folder of either."),
    ] = None
    calibrator: Annotated[str, typer.Option(help="The installed calibrator that finds ranges.")] = "entropy"
    calibrator_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Of the calibrator, percentile=99.9. Repeatable.")
    ] = None
    calibration_cache: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ranges as TensorRT writes them: read if it exists, else written."),
    ] = None
    keep: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="Compute this layer in float32 all the same. Repeatable.")
    ] = None

    @property
    def calibrated(self) -> bool:
        """Whether ranges are to be found or read, which is to ask for int8."""
        return self.calibrate is not None or self.calibration_cache is not None

    def settings(self) -> dict[str, Any]:
        """Fields of a `BuilderConfig`."""
        asked = self.precision
        if asked == Precision.float32 and (self.int8 or self.calibrated):
            asked = Precision.int8
        layers = tuple(parsed("--layer-precision", layer_precision_of, text) for text in self.layer_precision or ())
        return {"precision": asked.value, "layer_precisions": layers}

    def calibration(self) -> Any:
        """The `Calibration` that was asked for, or None."""
        if not self.calibrated:
            said = {"--calibrator-option": self.calibrator_option, "--keep": self.keep}
            if unused := [option for option, given in said.items() if given]:
                raise typer.BadParameter(
                    "says how to calibrate; give --calibrate or --calibration-cache too", param_hint=f"'{unused[0]}'"
                )
            return None
        return calibration_of(
            self.calibrate, self.calibrator, self.calibrator_option, self.calibration_cache, self.keep
        )  # fmt: skip
