"""The door: everything a plugin sees of TenonRT, in the order a model meets it.

Authors subclass the base classes (`LayerType`, `Pass`, `Kernel`, `Parser`, `Exporter`, `Device`, and the calibrators of
`tenonrt.calibration.calibrator`): only the abstract methods are required, every other one says "nothing to add", and
later versions only add such methods. The Protocols are what authors are handed, or abilities an executable may have.
Plugins import this module and `tenonrt` itself, nothing else of the core. `CONTRACT_VERSION` rises when something here
changes meaning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import msgspec
import numpy as np

from tenonrt.containers import boxed, contents, is_container, joined, ranked
from tenonrt.dims import Dim, Dimension, Symbol, maximum, minimum, product, symbol, unknown
from tenonrt.drawing import Draws
from tenonrt.errors import ExecutionError, GraphError, ParseError, TenonError, UnsupportedError
from tenonrt.launches import Launch, Runnable
from tenonrt.layout import Part, from_storage, load, logical_shape, store, to_storage
from tenonrt.problem import Code, NativeCode, Problem, ProblemInput, ProblemLayer, Role, Support, Tactic, Weights
from tenonrt.types import (
    LINEAR,
    NCHW16C,
    NHWC,
    Array,
    Format,
    Place,
    Quant,
    Range,
    Shape,
    TensorInfo,
    TensorType,
    dtype_name,
    is_float,
    numpy_dtype,
)
from tenonrt.views import GraphBuilder, GraphView, Layer, NetworkView, Tensor

if TYPE_CHECKING:
    from pathlib import Path

    from tenonrt.axis_taps import Rounding, nearest_elements, weighed_elements
    from tenonrt.byte_regions import BYTES, FLOAT8, ByteRegion, byte_problems, byte_regions, read_byte_region
    from tenonrt.calibration.calibrator import Calibrator, HistogramCalibrator
    from tenonrt.calibration.histogram import Histogram
    from tenonrt.coordinates import Coordinates, ResizedAxis, Transformation, original_coordinates
    from tenonrt.libraries import load_library
    from tenonrt.patch import NewTensor, Patch
    from tenonrt.progress import Progress
    from tenonrt.random_values import draw
    from tenonrt.region_patterns import (
        MOVES,
        AttentionLayers,
        SumTail,
        added_operand,
        attention_layers,
        only_reader,
        row_product_refusal,
    )
    from tenonrt.shapes import (
        FLOATS,
        INTEGERS,
        broadcast,
        broadcasts_to,
        common_place,
        differ,
        known_values,
        normalize_axes,
        normalize_axis,
        optional,
        required,
        same,
        surely_less,
        vector_length,
        working_dtype,
    )
    from tenonrt.special import erf
    from tenonrt.verdicts import Candidate, Verdict, hookimpl
    from tenonrt.windows import PaddingMode, WindowAxis, per_axis, share_padding, transposed_crop, window_axes

CONTRACT_VERSION = 1

# What only authors of layers, passes, calibrators and hooks need is imported when it is asked for: running a plan
# needs a `Device` from here and no more.
_ELSEWHERE = {
    "axis_taps": "Rounding nearest_elements weighed_elements",
    "byte_regions": "BYTES FLOAT8 ByteRegion byte_problems byte_regions read_byte_region",
    "calibration.calibrator": "Calibrator HistogramCalibrator",
    "calibration.histogram": "Histogram",
    "coordinates": "Coordinates ResizedAxis Transformation original_coordinates",
    "libraries": "load_library",
    "patch": "NewTensor Patch",
    "progress": "Progress",
    "random_values": "draw",
    "region_patterns": "MOVES AttentionLayers SumTail added_operand attention_layers only_reader row_product_refusal",
    "shapes": "FLOATS INTEGERS broadcast broadcasts_to common_place differ known_values normalize_axes normalize_axis "
    "optional required same surely_less vector_length working_dtype",
    "special": "erf",
    "verdicts": "Candidate Verdict hookimpl",
    "windows": "PaddingMode WindowAxis per_axis share_padding transposed_crop window_axes",
}
_WHERE = {name: module for module, names in _ELSEWHERE.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"tenonrt.{_WHERE[name]}"), name)
    return found


class Attributes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of a layer type's attributes: plain values only (numbers, strings, booleans, tuples of them, None).

    ``forbid_unknown_fields`` makes a misspelt attribute an error that names it.
    """


A = TypeVar("A", bound=Attributes)
Pattern = Literal["pointwise", "reduction", "contraction", "movement", "opaque"]


# --- layer types (group tenonrt.layers, name = kind) ----------------------------------------------------------------


class Run(Protocol):
    """Handed to `LayerType.reference`: the subgraphs of a control layer and the context's random generator."""

    @property
    def generator(self) -> np.random.Generator: ...
    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        """Run subgraph ``index`` on its declared inputs; what it captures is supplied by the core."""


class Case(msgspec.Struct, frozen=True):
    """One example of a layer for the conformance kit. An input is a type (values are drawn), an array, or absent."""

    attrs: Any
    inputs: tuple[Any, ...]
    name: str = ""


class Tolerance(msgspec.Struct, frozen=True):
    """An output is right when ``|y - ref| <= relative * |ref| + absolute * max |ref|`` everywhere."""

    relative: float
    absolute: float


class View(msgspec.Struct, frozen=True):
    """A layer that need not move data. parts None: input 0 and output 0 are the same bytes in the same order.

    Otherwise the ``whole`` side is one tensor and every tensor of the other side is the given slice of it.
    """

    whole: Literal["input", "output"] = "input"
    parts: tuple[Part, ...] | None = None


class LayerType(ABC):
    """The meaning of a layer kind. One instance serves all layers; keep no state."""

    Attrs: ClassVar[type[Attributes]] = Attributes
    # Names of the inputs; "bias?" may be absent, a last "inputs*" takes any number.
    inputs: ClassVar[tuple[str, ...]] = ("input",)
    # Indices of inputs that infer wants to know the value of (shapes, axes): they are kept on the host.
    shape_inputs: ClassVar[tuple[int, ...]] = ()
    # Indices of inputs whose values are bound with the weights and never enter a problem: scales, zero points.
    bound_inputs: ClassVar[tuple[int, ...]] = ()
    # True: integers that it makes are rounded real numbers, so that a kernel may be one off the exact reference.
    rounds: ClassVar[bool] = False
    pattern: ClassVar[Pattern] = "opaque"
    # False: draws random numbers or has effects; never folded, merged or deduplicated.
    pure: ClassVar[bool] = True
    # True: reference also works on object arrays of int and Dim, so that shapes can be computed while inferring.
    shape_arithmetic: ClassVar[bool] = False

    @abstractmethod
    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        """Types of the outputs. `ValueError` (with found and expected values) refuses; the core names the layer."""

    @abstractmethod
    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        """The meaning, in plain NumPy, for any dtype infer accepts; must not change its inputs.

        Floating-point results have the inputs' dtype; the core passes float64 to judge kernels. Always arrays, also of
        rank 0, never NumPy scalars.
        """

    def infer_control(
        self, attrs: Any, inputs: Sequence[TensorInfo | None], graphs: Sequence[GraphTypes]
    ) -> list[TensorInfo]:
        """Replaces `infer` for layers that own subgraphs."""
        return self.infer(attrs, inputs)

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        """Valid random inputs of these static types, None for absent ones: normal floats, small integers.

        Override where values matter (indices, variances).
        """
        from tenonrt.random_values import draw

        return [None if t is None else draw(t, rng) for t in types]

    def cases(self) -> Iterable[Case]:
        """Examples that cover the attributes; the conformance kit runs them on every kernel that supports them."""
        return ()

    def view(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> View | None:
        """Offered as a tactic of no cost where layouts allow; None: this layer computes."""
        return None

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        """How many terms are summed into one output element; sets the tolerance."""
        return 1

    def tolerance(self, dtype: str, reduction: int) -> Tolerance:
        """Allowed deviation from the float64 reference for a kernel that computes in ``dtype``."""
        if not is_float(dtype):
            return Tolerance(0.0, 0.0)
        eps = float(np.finfo(dtype).eps) if dtype.startswith("float") and dtype[5:].isdigit() else 2.0**-7
        return Tolerance(64 * eps, 8 * eps * max(1.0, float(reduction)) ** 0.5)

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """Arithmetic operations of one run; a multiply-add counts two."""
        size = sum((o.type.size for o in outputs), start=0)
        return size * self.reduction(attrs, inputs)


class GraphTypes(Protocol):
    """The types of a subgraph, for `LayerType.infer_control`."""

    @property
    def inputs(self) -> Sequence[TensorInfo]: ...
    @property
    def outputs(self) -> Sequence[TensorInfo]: ...


# --- parsers and mappings (groups tenonrt.parsers and tenonrt.mappings) ---------------------------------------------


class SourceNode(msgspec.Struct, frozen=True):
    """One operator of a model file in plain values: what a mapping translates."""

    format: str
    domain: str
    type: str
    name: str
    version: int  # of the operator set, 1 where the format has none
    attrs: Mapping[str, Any]  # numbers, strings, arrays, sequences of them; a subgraph is a `SourceGraph`
    outputs: tuple[bool, ...]  # which outputs the model uses
    declared: tuple[TensorType | None, ...] = ()  # what the model says of their types, where it does: a hint


class SourceGraph(Protocol):
    """A nested graph of a model file, as an attribute of a `SourceNode`."""

    def build(self, builder: GraphBuilder) -> None:
        """Translate it into a builder made by `GraphBuilder.subgraph`."""


LayerMapping = Callable[[GraphBuilder, SourceNode, Sequence[Tensor | None]], Sequence[Tensor]]


class ParserOptions(Attributes, frozen=True):
    """Base of what a parser may be told besides the model: plain values with defaults.

    The command line offers each field as an option, ``output_blob`` as ``--output-blob``, described by its
    `msgspec.Meta`; a field that is a tuple may be given repeatedly, a boolean is a switch.
    """


class Parser(ABC):
    """Reads one model format."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type[ParserOptions]] = ParserOptions

    @abstractmethod
    def sniff(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes (up to 4096) is surely of this format."""

    @abstractmethod
    def parse(self, path: Path, builder: GraphBuilder) -> None:
        """Fill the builder. `ParseError` names byte, node or field; `UnsupportedError` lists every unknown operator."""

    def parse_with(self, path: Path, builder: GraphBuilder, options: Any) -> None:
        """Called instead of `parse` with an instance of ``Options``; override it where there are some."""
        self.parse(path, builder)


# --- exporters (group tenonrt.exporters, name <source>-<format>) -----------------------------------------------------


class Model(Protocol):
    """A model file that is written in another format."""

    @property
    def path(self) -> Path: ...
    @property
    def options(self) -> Any:
        """An instance of the ``Options`` of the parser that reads the file."""

    def network(self) -> NetworkView:
        """What that parser makes of the file, which is read now; no pass has changed it."""


class Exporter(ABC):
    """Writes one model format.

    It is found by the format of the model it is given and by its own: ``network-onnx`` takes the network of any file
    that a parser reads, ``tensorflow-uff`` the files of one parser alone, which it may take apart itself.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def export(self, model: Model) -> Iterable[bytes | memoryview]:
        """The bytes of the new file. `UnsupportedError` lists everything that the format cannot say."""


# --- passes (group tenonrt.passes, name <phase>.<name>) -------------------------------------------------------------


class Pass(ABC):
    """A rewrite that is right on every device. Called for each layer until no pass has anything to offer.

    The phases run in this order: clean, fold, fuse, tidy.
    """

    kinds: ClassVar[frozenset[str] | None] = None  # only these layers are shown; None: all

    @abstractmethod
    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        """A patch around this layer, or None."""


# --- kernels (group tenonrt.kernels, name <device>/<kind|@pattern|*>.<implementation>) ------------------------------


class Kernel(ABC):
    """One implementation, for any number of problems. One instance serves all; keep no state."""

    # True: it runs `LayerType.reference` itself, so there is nothing to compare it with.
    runs_reference: ClassVar[bool] = False
    # True: it may also be asked for siblings, layers of one kind that read one tensor: what `regions` proposes at each
    # of them, joined by the core into one region with an output for each.
    aggregates: ClassVar[bool] = False
    # True: it works on the device's own arrays: packed weights are there when it binds, and a launch only enqueues on
    # the stream, so that it can be recorded. False: it works on NumPy arrays, and devices that have others copy.
    on_device: ClassVar[bool] = False

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        """Regions anchored at a layer that the entry point's name routes here: the layer alone by default.

        A region must be convex; those that are not are refused by the core.
        """
        return ([layer],)

    @abstractmethod
    def supports(self, problem: Problem) -> Support:
        """Asked once per distinct problem; pure, and quick (under 1 ms)."""

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        """The ways to solve a supported problem, of every precision, best guess first."""
        return (Tactic(),)

    def tactics_within(self, problem: Problem, permits: Callable[[str], bool]) -> Sequence[Tactic]:
        """What a build is offered that permits only some precisions; it leaves out tactics of others in any case.

        Override it where listing tactics costs, as asking a library does, or where each precision has as many.
        """
        return self.tactics(problem)

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """Expected seconds, for ranking before anything is timed; None when unknown."""
        return None

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        """Generate code; may be slow, runs in a worker process."""
        return Code(problem, tactic)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Arrange the weights for this code; saved in plans. Must depend on its arguments only, not on the host."""
        return weights.constants

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        """How `pack` arranges: tactics of one problem for which this is equal have equal packed weights."""
        return tactic.key

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable | NativeCall:
        """Make something that can be launched; must not copy ``packed`` (it is memory-mapped and shared).

        Needed unless `compile` makes native code, which the device loads itself.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no native code, so it must define bind()")


@runtime_checkable
class Executable(Protocol):
    """A bound kernel."""

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        """Compute outputs from inputs (arrays of the tactic's physical shapes, in Problem order, constants excluded).

        Allocates nothing that outlives it, does not synchronise, assumes no aliasing that its tactic did not declare.
        """


@runtime_checkable
class NativeCall(Protocol):
    """Ability of CPU executables: a C function that the runtime calls without Python.

    ``int32_t f(void *const *buffers, const int64_t *symbols, void *scratch, int64_t begin, int64_t end)``

    buffers: outputs, inputs, packed weights, then the workspace, 64-byte aligned (null where it has no bytes). symbols:
    the values of `Problem.symbols`, then the byte strides of each operand that the executable lists in an attribute
    ``strided_operands``, positions in (outputs + inputs), which must be those its tactic declares strided. Called
    concurrently on disjoint ranges of 0..units(symbols), each thread with its own scratch. Allocates nothing, takes no
    lock, does not unwind; a non-zero status raises `ExecutionError`.
    """

    @property
    def address(self) -> int: ...
    @property
    def packed(self) -> Sequence[Array]: ...
    @property
    def scratch(self) -> int:
        """Bytes each thread needs."""

    def units(self, symbols: Sequence[int]) -> int | Sequence[int]:
        """Units of work; several counts are phases: each begins when the one before is done on every thread.

        Units are counted on from phase to phase: of (3, 2) the second phase has units 3 and 4.
        """


NATIVE_ABI_VERSION = 1


@runtime_checkable
class AllocatesOutputs(Protocol):
    """Ability of executables whose output shapes depend on data: the core calls this instead of `launch`."""

    def launch_allocating(
        self, inputs: Sequence[Any], allocate: Callable[[int, Sequence[int]], Any], stream: Any | None
    ) -> None:
        """Ask ``allocate(output index, shape)`` for each output once its shape is known, then fill it."""


# --- devices (group tenonrt.devices) --------------------------------------------------------------------------------


class Device(ABC):
    """Where engines run."""

    # True: candidates are timed by `race`. False: by the core's clock around `Runnable.time`.
    races: ClassVar[bool] = False
    # Whether kernels here multiply uint8 too: calibrated tensors that are never negative are stored so then.
    multiplies_unsigned: ClassVar[bool] = True
    # Precisions in which kernels here are no faster than in more precise ones: "best" does not permit them.
    no_faster: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """What must be equal for measured times to carry over: model, features, driver. Always has "kind"."""

    @abstractmethod
    def allocate(self, nbytes: int) -> Any:
        """A buffer of bytes (a 1-D uint8 array, 64-byte aligned) that lives as long as it is referenced."""

    @abstractmethod
    def upload(self, host: Array, buffer: Any) -> None: ...
    @abstractmethod
    def download(self, buffer: Any, host: Array) -> None: ...
    def stream(self) -> Any | None:
        """A new stream; None where the device has none."""
        return None

    def synchronize(self, stream: Any | None) -> None:  # noqa: B027 - a device without streams has nothing to wait for
        """Wait for all work on a stream."""

    def follow_caller(self, stream: Any | None) -> None:  # noqa: B027 - as `synchronize`
        """Let a stream of this device's own wait, and nobody else, for what its caller has enqueued so far."""

    @abstractmethod
    def bind(self, launches: Sequence[Launch], threads: int) -> Runnable: ...

    def place(self, weights: Array) -> Any:
        """A packed constant where kernels of this device read it; called once for all contexts of an engine."""
        return weights

    def adopt(self, array: Any) -> Any:
        """An array of any library, on the device or the host, without a copy where it is on the device already."""
        return np.asarray(array)

    def copy(self, source: Any, target: Any, stream: Any | None) -> None:
        """Enqueue a copy of an adopted array on a stream."""
        target[...] = source

    def wrap_stream(self, stream: Any) -> Any:
        """A caller's stream, of any library, as this device uses it; `ExecutionError` where there are none."""
        raise ExecutionError(f"{type(self).__name__} has no streams")

    def record(self, event: Any, stream: Any | None) -> None:
        """Record a caller's event on a stream; `ExecutionError` where there are none."""
        raise ExecutionError(f"{type(self).__name__} has no events")

    def race(self, entrants: Sequence[Callable[[], Launch]]) -> list[float | Exception]:
        """Seconds of each entrant of one problem, or what it raised; asked where ``races``. A call binds it anew."""
        raise NotImplementedError(f"{type(self).__name__} says that it races candidates, and does not")

    def load(self, code: Code, packed: Sequence[Array]) -> Executable | NativeCall:
        """Make native code callable; `ExecutionError` names what this machine lacks. Must not copy ``packed``."""
        raise ExecutionError(f"{type(self).__name__} does not run native code")


__all__ = [
    "BYTES", "CONTRACT_VERSION", "FLOAT8", "FLOATS", "INTEGERS", "LINEAR", "MOVES", "NATIVE_ABI_VERSION", "NCHW16C",
    "NHWC", "AllocatesOutputs", "Array", "AttentionLayers", "Attributes", "ByteRegion", "Calibrator", "Candidate",
    "Case", "Code", "Coordinates", "Device", "Dim", "Dimension", "Draws", "Executable", "ExecutionError", "Exporter",
    "Format", "GraphBuilder", "GraphError", "GraphTypes", "GraphView", "Histogram", "HistogramCalibrator", "Kernel",
    "Launch", "Layer", "LayerMapping", "LayerType", "Model", "NativeCall", "NativeCode", "NetworkView", "NewTensor",
    "PaddingMode", "ParseError", "Parser", "ParserOptions", "Part", "Pass", "Patch", "Pattern", "Place", "Problem",
    "ProblemInput", "ProblemLayer", "Progress", "Quant", "Range", "ResizedAxis", "Role", "Rounding", "Run", "Runnable",
    "Shape", "SourceGraph", "SourceNode", "SumTail", "Support", "Symbol", "Tactic", "TenonError", "Tensor",
    "TensorInfo", "TensorType", "Tolerance", "Transformation", "UnsupportedError", "Verdict", "View", "Weights",
    "WindowAxis", "added_operand", "attention_layers", "boxed", "broadcast", "broadcasts_to", "byte_problems",
    "byte_regions", "common_place", "contents", "differ", "draw", "dtype_name", "erf", "from_storage", "hookimpl",
    "is_container", "is_float", "joined", "known_values", "load", "load_library", "logical_shape", "maximum", "minimum",
    "nearest_elements", "normalize_axes", "normalize_axis", "numpy_dtype", "only_reader", "optional",
    "original_coordinates", "per_axis", "product", "ranked", "read_byte_region", "required", "row_product_refusal",
    "same", "share_padding", "store", "surely_less", "symbol", "to_storage", "transposed_crop", "unknown",
    "vector_length", "weighed_elements", "window_axes", "working_dtype",
]  # fmt: skip
