"""How to build: everything a caller may say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from tenonrt.contracts import Progress
from tenonrt.plan.program import Choice
from tenonrt.plugins.selection import PluginSet

# "best": whatever kernels offer, but for what the device says is no faster.
Precision = Literal["float32", "tf32", "float16", "bfloat16", "int8", "best"]
_PRECISIONS = ("float64", "float32", "tf32", "float16", "bfloat16", "int8")
Mode = Literal["obey", "prefer"]


@dataclass(frozen=True)
class LayerPrecision:
    """A constraint on the layers that a pattern (``conv*``) matches by their own name or a model's node they came from.

    obey: nothing else is taken, and a build without it fails. prefer: taken wherever some kernel offers it.
    """

    pattern: str
    precision: str
    mode: Mode = "obey"

    def __post_init__(self) -> None:
        if self.mode not in ("obey", "prefer"):
            raise ValueError(f"a precision of {self.pattern!r} is to be obeyed or preferred, not {self.mode!r}")
        if self.precision not in _PRECISIONS:
            raise ValueError(
                f"{self.precision!r} for {self.pattern!r} is no precision; there are {', '.join(_PRECISIONS)}"
            )

    def matches(self, names: Iterable[str]) -> bool:
        """Whether one of a layer's names is meant."""
        return any(fnmatchcase(name, self.pattern) for name in names)


@dataclass(frozen=True)
class BuilderConfig:
    """Options of a build.

    precision: what kernels may compute in besides float32, a permission and no demand; best: all that they offer, but
    for precisions in which the device is no faster than in more precise ones.
    layer_precisions: what layers of certain names must, or should, be computed in.
    max_batch: bounds the symbolic first dimension of every input to 1..max_batch and tunes for max_batch.
    workspace: bytes a tactic may use, None: any. optimization_level: 0 picks without timing, 3 times what estimates do
    not rule out, 4 times every tactic. tuning_seconds: after that, estimates decide. shapes: fixes sizes.
    profiles: sizes that the engine takes together, each a mapping from an input to its least shape, those to tune for
    (a program for each of them is in the plan) and its greatest: {"ids": [(1, 1), (1, 128), (8, 512)]}.
    trial_seconds: allowed for a candidate's first run. replay: take this selection as it is, time and compare nothing.
    prefer: keep this recorded selection, whole or tactic by tactic, where what was measured is within the noise.
    lock: `BuildError` for whatever the timing cache does not know, instead of trying or timing it.
    allow_inexact: permit algorithms of reduced accuracy. tolerance: how far the finished engine may be from one of
    exact tactics only, in units of each output's max |y|; past it the worst tactics are dropped. None: by precision
    (1e-3 for float32, 1e-2 tf32 and float16, 5e-2 bfloat16; int8 is judged by its calibration). disable:
    optimizations to leave out, by the names in `tenonrt.builder.optimizations` or those of passes (``fuse.affine``).
    """

    device: str = "cpu"
    precision: Precision = "float32"
    layer_precisions: tuple[LayerPrecision, ...] = ()
    max_batch: int | None = None
    workspace: int | None = None
    optimization_level: int = 3
    plugins: PluginSet | None = None
    timing_cache: Path | str | None = None
    threads: int = 1
    tuning_seconds: float | None = None
    trial_seconds: float = 30.0
    replay: Choice | None = None
    prefer: Choice | None = None
    lock: bool = False
    allow_inexact: bool = True
    tolerance: float | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    disable: frozenset[str] = frozenset()
    profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]] = ()
    progress: Progress | None = None

    @property
    def posed_threads(self) -> int:
        """The threads that kernels are asked for: those of a recorded choice, so that they offer what it names."""
        return self.threads if self.replay is None else self.replay.threads or self.threads

    def __post_init__(self) -> None:
        for profile in self.profiles:
            for name, given in profile.items():
                _check_shapes(name, given)
        if not 0 <= self.optimization_level <= 5:
            raise ValueError(f"optimization_level is {self.optimization_level}; it goes from 0 (no timing) to 5")
        if self.max_batch is not None and self.max_batch < 1:
            raise ValueError(f"max_batch is {self.max_batch}; it must be at least 1")
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}; it must be at least 1")
        if self.workspace is not None and self.workspace < 0:
            raise ValueError(f"workspace is {self.workspace} bytes; it must not be negative")


def _check_shapes(name: str, given: Sequence[Sequence[int]]) -> None:
    if len(given) < 3:
        raise ValueError(
            f"a profile has {len(given)} shapes for {name!r}; give the least, one to tune for, the greatest"
        )
    for least, shape, most in ((given[0], shape, given[-1]) for shape in given):
        if not len(least) == len(shape) == len(most):
            raise ValueError(f"a profile has shapes of different rank for {name!r}: {list(map(tuple, given))}")
        if not all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            raise ValueError(f"a profile has {tuple(shape)} for {name!r}, outside of {tuple(least)} to {tuple(most)}")
