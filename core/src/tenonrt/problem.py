"""Problems and tactics: what kernels are asked, what they answer, and the compiled result. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from tenonrt.dims import Dimension, Symbol, evaluate, symbols
from tenonrt.types import LINEAR, Array, Format, TensorType

Role = Literal["activation", "constant", "host"]


class ProblemInput(msgspec.Struct, frozen=True):
    """One distinct tensor that a region reads. ``value``: the flat elements of a constant of at most 64."""

    role: Role
    value: tuple[Any, ...] | None = None


class ProblemLayer(msgspec.Struct, frozen=True):
    """A layer of a problem; tensors are numbers into `Problem.types`, -1 is an absent input."""

    kind: str
    attrs: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Problem(msgspec.Struct, frozen=True):
    """What a kernel is asked to compute: a region without names or large weights. Equal problems are tuned once.

    Tensors are numbered: the inputs first (0 to len(inputs) - 1), then every output of every layer in order. Symbols
    are renamed s0, s1, ... in order of appearance.
    """

    layers: tuple[ProblemLayer, ...]
    inputs: tuple[ProblemInput, ...]
    types: tuple[TensorType, ...]
    outputs: tuple[int, ...]
    device: str
    threads: int = 1

    @property
    def layer(self) -> ProblemLayer:
        """The first layer: the whole problem when it is a single one."""
        return self.layers[0]

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(layer.kind for layer in self.layers)

    @property
    def activations(self) -> tuple[int, ...]:
        """The inputs passed to `Executable.launch`, in order: all but the constants."""
        return tuple(i for i, given in enumerate(self.inputs) if given.role != "constant")

    @property
    def constants(self) -> tuple[int, ...]:
        """The inputs passed to `Kernel.pack`, in order."""
        return tuple(i for i, given in enumerate(self.inputs) if given.role == "constant")

    def shape(self, number: int, values: Sequence[int]) -> tuple[int, ...]:
        """The shape of a tensor for these values of `symbols`, in their order."""
        return self.types[number].concrete({s.name: v for s, v in zip(self.symbols, values, strict=True)})

    def value(self, dimension: Dimension, values: Sequence[int]) -> int:
        """What a dimension over `symbols` is for these values of them, in their order."""
        return evaluate(dimension, {s.name: v for s, v in zip(self.symbols, values, strict=True)})

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The distinct symbols in order of appearance."""
        return tuple(dict.fromkeys(s for t in self.types for d in t.shape for s in symbols(d)))


class Support(msgspec.Struct, frozen=True):
    """Whether a kernel takes a problem; a refusal says why. runtime_symbols: those that may change between launches.

    For the other symbols the engine specialises the kernel per value. "all" is every symbol.
    """

    ok: bool
    why: str = ""
    runtime_symbols: tuple[str, ...] | Literal["all"] = ()


class Tactic(msgspec.Struct, frozen=True):
    """One way a kernel solves a problem. Keys are unique within (kernel, problem) and stable between versions.

    A strided operand is a slice of a larger buffer. In a format without blocks each axis of the physical array but the
    last, which is dense, may have any stride. In one with blocks only whole blocks are sliced off along the blocked
    axis (channels 16 to 48 of NCHW16c): the strides of the axes outside of it vary (the batch's), what lies inside is
    dense, the blocks too.
    """

    key: str = "default"
    inputs: tuple[Format, ...] = ()  # per Problem.activations; () means all linear
    outputs: tuple[Format, ...] = ()  # per Problem.outputs; () means all linear
    precision: str = "float32"
    workspace: Dimension = 0  # bytes, 64-byte aligned when handed over
    inplace: tuple[tuple[int, int], ...] = ()  # (output, activation) pairs that may share one buffer
    exact: bool = True  # False: an algorithm of reduced accuracy, which a configuration may forbid
    reads_strided: tuple[int, ...] = ()  # activations that may be a slice of a larger buffer in their format
    writes_strided: tuple[int, ...] = ()  # outputs that may be

    def input_format(self, index: int) -> Format:
        return self.inputs[index] if self.inputs else LINEAR

    def output_format(self, index: int) -> Format:
        return self.outputs[index] if self.outputs else LINEAR


class NativeCode(msgspec.Struct, frozen=True):
    """How to call a `Code` whose ``blob`` is position-independent machine code: a function of `NativeCall`'s signature.

    phases: units of work per phase, over `Problem.symbols`; a phase begins when every thread has finished the one
    before, and its units are counted on from there. The workspace that the tactic asks for is shared by all threads.
    strided: positions in (outputs + inputs) whose byte strides follow the symbols. features: what the processor must
    have, in the words of the device's fingerprint.
    """

    phases: tuple[Dimension, ...]
    entry: int = 0  # byte of the blob
    scratch: int = 0  # bytes for each thread, 64-byte aligned
    strided: tuple[int, ...] = ()
    features: tuple[str, ...] = ()
    machine: str = ""  # as in the device's fingerprint; "" runs on any

    def lacking(self, fingerprint: Mapping[str, str]) -> tuple[str, ...]:
        """What a device with this fingerprint would need to run the code, in words; empty when it can."""
        if self.machine not in ("", fingerprint.get("machine")):
            return (f"a {self.machine} processor",)
        present = fingerprint.get("features", "").split()
        return tuple(feature for feature in self.features if feature not in present)


class Code(msgspec.Struct, frozen=True):
    """A compiled tactic without weights: kept in caches and plans. ``info`` holds plain values.

    It must depend only on (problem, tactic, the host's features). native: ``blob`` is machine code that the device
    loads and calls without the kernel's distribution. workspace: bytes, where compiling tells that fewer are needed
    than the tactic says.
    """

    problem: Problem
    tactic: Tactic
    blob: bytes = b""
    info: dict[str, Any] = {}
    native: NativeCode | None = None
    workspace: int | None = None

    @property
    def workspace_bytes(self) -> Dimension:
        """What a launch is handed."""
        return self.tactic.workspace if self.workspace is None else self.workspace


class Weights(msgspec.Struct, frozen=True):
    """The real values behind a problem: constants per `Problem.constants`, scales per activation and per output.

    A scale is float32, scalar or per channel, where the tactic's format is quantized; else None.
    """

    constants: tuple[Array, ...]
    input_scales: tuple[Array | None, ...] = ()
    output_scales: tuple[Array | None, ...] = ()
