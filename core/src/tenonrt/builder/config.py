"""How to build: everything a caller may say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from numbers import Real
from operator import index
from pathlib import Path
from typing import Literal, get_args

from tenonrt.contracts import Progress
from tenonrt.plan.plan import MAX_THREADS
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
        """`ValueError` names the option that nothing can be built with, and what it may be."""
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision is {self.precision!r}; it must be one of {', '.join(get_args(Precision))}")
        _check_whole("optimization_level", self.optimization_level, 0, 5)
        _check_whole("threads", self.threads, 1, MAX_THREADS)
        if self.max_batch is not None:
            _check_whole("max_batch", self.max_batch, 1)
        if self.workspace is not None:
            _check_whole("workspace", self.workspace, 0)
        for name in ("trial_seconds", "tuning_seconds", "tolerance"):
            if (value := getattr(self, name)) is not None:
                _check_positive(name, value)
        if not isinstance(self.shapes, Mapping):
            raise ValueError(f"shapes is {self.shapes!r}; it must be a dict of shapes by the inputs' names")
        for profile in self.profiles:
            if not isinstance(profile, Mapping):
                raise ValueError(f"a profile is {profile!r}; it must be a dict of three or more shapes by input")
            for name, given in profile.items():
                _check_shapes(name, given)


def _check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if number < least or (most is not None and number > most):
        raise ValueError(f"{name} is {value!r}; it must be a whole number {limits}")


def _check_positive(name: str, value: object) -> None:
    """0 is a limit too, infinity is none."""
    if not isinstance(value, Real) or not float(value) >= 0:
        raise ValueError(f"{name} is {value!r}; it must be a number of at least 0")


def _check_shapes(name: str, shapes: object) -> None:
    if not isinstance(shapes, Sequence) or not all(isinstance(shape, Sequence) for shape in shapes):
        raise ValueError(
            f"a profile has {shapes!r} for {name!r}; give the least shape, those to tune for, the greatest"
        )
    given: Sequence[Sequence[int]] = shapes
    if len(given) < 3:
        raise ValueError(
            f"a profile has {len(given)} shapes for {name!r}; give the least, one to tune for, the greatest"
        )
    for least, shape, most in ((given[0], shape, given[-1]) for shape in given):
        if not len(least) == len(shape) == len(most):
            raise ValueError(f"a profile has shapes of different rank for {name!r}: {list(map(tuple, given))}")
        if not all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            raise ValueError(f"a profile has {tuple(shape)} for {name!r}, outside of {tuple(least)} to {tuple(most)}")
