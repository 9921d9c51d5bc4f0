"""The registry: an entry is found, then blocked, incompatible, loaded or failed; the last two only when asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import msgspec

from tenonrt.contracts import Device, Exporter, Kernel, LayerMapping, LayerType, Parser, Pass
from tenonrt.errors import PluginError
from tenonrt.plugins.discovery import Entry, incompatibility, scan
from tenonrt.plugins.discovery import PluginWarning as PluginWarning  # noqa: PLC0414 - others import it from here
from tenonrt.plugins.selection import PluginSet

LAYERS, KERNELS, MAPPINGS = "tenonrt.layers", "tenonrt.kernels", "tenonrt.mappings"
PARSERS, PASSES, DEVICES = "tenonrt.parsers", "tenonrt.passes", "tenonrt.devices"
EXPORTERS = "tenonrt.exporters"
COMMANDS, HOOKS, CALIBRATORS, REPLACES = "tenonrt.commands", "tenonrt.hooks", "tenonrt.calibrators", "tenonrt.replaces"
RUNNERS = "tenonrt.runners"

_BASES: dict[str, type] = {
    LAYERS: LayerType, KERNELS: Kernel, PARSERS: Parser, EXPORTERS: Exporter, PASSES: Pass, DEVICES: Device,
}  # fmt: skip

State = Literal["found", "blocked", "incompatible", "loaded", "failed"]


class Record(msgspec.Struct):
    """What became of an entry."""

    entry: Entry
    state: State = "found"
    why: str = ""
    value: Any = None
    traceback: str = ""


class Registry:
    """The entries an application may use, loaded one by one. ``entries`` replaces discovery (tests)."""

    def __init__(self, plugins: PluginSet | None = None, entries: Sequence[Entry] | None = None) -> None:
        self.plugins = plugins or PluginSet.from_environment()
        self.plugins.check_required()
        self._groups: Mapping[str, Sequence[Entry]] = scan() if entries is None else _grouped(entries)
        self._records: dict[tuple[str, str], Record] = {}
        self._instances: dict[tuple[str, str], Any] = {}
        self._kinds: dict[str, LayerType] = {}
        self._found: dict[tuple[str, str], Entry | None] = {}
        self._incompatible: set[str] = set()

    # finding ---------------------------------------------------------------------------------------------------------

    def entries(self, group: str) -> Sequence[Entry]:
        """Usable or not, sorted by name and distribution."""
        return self._groups.get(group, ())

    def names(self, group: str) -> list[str]:
        return sorted({entry.name for entry in self.entries(group)})

    def record(self, entry: Entry) -> Record:
        """The state of an entry, deciding what can be decided without importing it."""
        key = (entry.group, entry.id)
        if key not in self._records:
            self._records[key] = self._judge(entry)
        return self._records[key]

    def records(self) -> list[Record]:
        return [self.record(entry) for group in sorted(self._groups) for entry in self._groups[group]]

    def usable(self, group: str) -> list[Entry]:
        """Entries that are not blocked, incompatible or failed."""
        return [entry for entry in self.entries(group) if self.record(entry).state in ("found", "loaded")]

    def _judge(self, entry: Entry) -> Record:
        if why := self.plugins.blocked(entry):
            return Record(entry, "blocked", why)
        if why := incompatibility(entry.distribution):
            record = Record(entry, "incompatible", why)
            # One line for a distribution, however many entry points it has.
            said = entry.distribution in self._incompatible
            self._incompatible.add(entry.distribution)
            return record if said else self._complain(record)
        return Record(entry)

    # loading ---------------------------------------------------------------------------------------------------------

    def load(self, entry: Entry) -> Any:
        """The object an entry point names; `PluginError` with the reason when it cannot be had."""
        record = self.record(entry)
        if record.state == "found":
            self._import(record)
        if record.state != "loaded":
            raise PluginError(f"plugin {entry.id} {entry.version} is {record.state}: {record.why}")
        return record.value

    def instance(self, entry: Entry) -> Any:
        """One instance per entry: layer types, kernels, passes, devices and parsers keep no state."""
        key = (entry.group, entry.id)
        if key not in self._instances:
            self._instances[key] = self._construct(entry, self.load(entry))
        return self._instances[key]

    def _construct(self, entry: Entry, made_by: Any) -> Any:
        base = _BASES.get(entry.group, object)
        try:
            instance = made_by()
            if not isinstance(instance, base):
                raise TypeError(f"{entry.value} makes {type(instance).__name__}, which is no {base.__name__}")
        except Exception as error:  # noqa: BLE001 - a plugin's constructor may raise anything at all
            self._fail(self.record(entry), f"making an instance of {entry.value} raised {error!r}")
            return self.load(entry)  # raises, as it will from now on
        return instance

    def _import(self, record: Record) -> None:
        try:
            record.value = record.entry.source.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's import may raise anything at all
            self._fail(record, f"importing {record.entry.value} raised {error!r}")
        else:
            record.state = "loaded"

    @property
    def strict(self) -> bool:
        """Whether a plugin that is present and unusable is an error: TENONRT_STRICT=1."""
        return os.environ.get("TENONRT_STRICT") == "1"

    def fail(self, entry: Entry, why: str) -> None:
        """Use an entry no more: it loaded, but breaks its contract."""
        self._fail(self.record(entry), why)

    def _fail(self, record: Record, why: str) -> None:
        from traceback import format_exc  # nothing fails in most processes

        record.state, record.why, record.traceback = "failed", why, format_exc()
        self._complain(record)

    def _complain(self, record: Record) -> Record:
        """One loud line for a plugin that is present and unusable; an error where TENONRT_STRICT=1 asks for it."""
        entry = record.entry
        line = f"plugin {entry.id} {entry.version} is {record.state}: {record.why}"
        if self.strict:
            raise PluginError(line)
        warnings.warn(f"{line} (tenonrt plugins --why {entry.distribution})", PluginWarning, stacklevel=2)
        return record

    # asking by name --------------------------------------------------------------------------------------------------

    def find(self, group: str, name: str) -> Entry | None:
        """The only usable entry of a name, a declared and allowed replacement winning; two others are an error."""
        if (group, name) not in self._found:
            self._found[group, name] = self._search(group, name)
        return self._found[group, name]

    def _search(self, group: str, name: str) -> Entry | None:
        found = [entry for entry in self.entries(group) if entry.name == name]
        usable = [entry for entry in found if self.record(entry).state in ("found", "loaded")]
        if len(usable) > 1:
            usable = self._settle(group, name, usable)
        if not usable and found:
            reasons = "; ".join(f"{e.id} is {self.record(e).state}: {self.record(e).why}" for e in found)
            raise PluginError(f"{name!r} of {group} is installed but not usable: {reasons}")
        return usable[0] if usable else None

    def _settle(self, group: str, name: str, rivals: list[Entry]) -> list[Entry]:
        declared = {e.distribution for e in self.entries(REPLACES) if e.name == f"{group}/{name}"}
        winners = [e for e in rivals if e.distribution in declared and e.distribution in self.plugins.replace]
        if len(winners) == 1:
            return winners
        who = " and ".join(f"{e.distribution} {e.version}" for e in rivals)
        raise PluginError(
            f"{who} both offer {name!r} of {group}. Deny one (PluginSet(deny=...) or TENONRT_PLUGINS_DENY), or let one "
            f"declare a tenonrt.replaces entry and allow it with PluginSet(replace=...)."
        )

    def layer_type(self, kind: str) -> LayerType:
        """The layer type of a kind; `PluginError` says which distribution to install."""
        if kind not in self._kinds:
            entry = self.find(LAYERS, kind)
            if entry is None:
                raise PluginError(
                    f"no installed distribution offers the layer kind {kind!r}; {_advice(kind, self.names(LAYERS))}"
                )
            self._kinds[kind] = self.instance(entry)
        return self._kinds[kind]

    def mapping(self, key: str) -> LayerMapping | None:
        entry = self.find(MAPPINGS, key)
        found: LayerMapping | None = self.load(entry) if entry else None
        return found

    def parser(self, name: str) -> Parser:
        return self._named(PARSERS, name, "parser")  # type: ignore[no-any-return]

    def device(self, name: str) -> Device:
        return self._named(DEVICES, name, "device")  # type: ignore[no-any-return]

    def kernel(self, kernel_id: str) -> Kernel:
        """A kernel by its entry id; `PluginError` when its distribution is not installed or not usable."""
        for entry in self.entries(KERNELS):
            if entry.id == kernel_id:
                kernel: Kernel = self.instance(entry)
                return kernel
        distribution, _, _ = kernel_id.partition(":")
        raise PluginError(f"kernel {kernel_id!r} is not installed; install the distribution {distribution}")

    def passes(self, entry: Entry) -> Pass:
        return self.instance(entry)  # type: ignore[no-any-return]

    def _named(self, group: str, name: str, word: str) -> Any:
        entry = self.find(group, name)
        if entry is None:
            known = ", ".join(self.names(group)) or "none"
            raise PluginError(f"no installed distribution offers the {word} {name!r}; installed: {known}")
        return self.instance(entry)


# First-party kinds by distribution, for the advice in the error: pip can be asked for what is not installed.
_HOMES = {
    "convolution": "Convolution Deconvolution",
    "matmul": "MatrixMultiply FullyConnected Einsum",
    "activation": "Activation ParametricRelu",
    "elementwise": "Elementwise Unary Select Cast Bitcast",
    "scale": "Scale",
    "pooling": "Pooling",
    "lrn": "LRN",
    "softmax": "Softmax Hardmax",
    "normalization": "BatchNormalization LayerNormalization RmsNormalization InstanceNormalization GroupNormalization "
    "LpNormalization",
    "concatenation": "Concatenation Split",
    "padding": "Padding",
    "shuffle": "Transpose Reshape Squeeze Unsqueeze Flatten Expand Tile Identity Reformat DepthToSpace SpaceToDepth "
    "SqueezeAlong UnsqueezeAlong",
    "shape": "Shape Size Fill Range NonZero",
    "slice": "Slice",
    "gather": "Gather GatherElements GatherND ScatterElements ScatterND OneHot ReverseSequence",
    "reduce": "Reduce CumulativeSum CumulativeProduct ReduceAlong",
    "topk": "TopK ArgReduce",
    "resize": "Resize GridSample",
    "recurrent": "LSTM GRU RNN",
    "control": "If Loop Scan",
    "quantization": "Quantize Dequantize Saturate",
    "detection": "PriorBox DetectionOutput NonMaxSuppression RoiPooling PositionSensitiveRoiPooling Proposal",
}


def _advice(kind: str, offered: Sequence[str]) -> str:
    for family, kinds in _HOMES.items():
        if kind in kinds.split():
            return f"install tenonrt-layer-{family}"
    from difflib import get_close_matches

    near = get_close_matches(kind, offered, cutoff=0.75)
    meant = f"did you mean {' or '.join(near)}? Otherwise " if near else ""
    return f"{meant}install the plugin that provides it, or offer it under the entry-point group tenonrt.layers"


def _grouped(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    return {group: sorted(found, key=lambda e: (e.name, e.distribution)) for group, found in groups.items()}


_current: ContextVar[Registry | None] = ContextVar("tenonrt_registry", default=None)
_default: list[Registry] = []


def current_registry() -> Registry:
    """The registry in force: one set by `using`, else a process-wide one over everything installed."""
    if (registry := _current.get()) is not None:
        return registry
    if not _default:
        _default.append(Registry())
    return _default[0]


@contextmanager
def using(registry: Registry) -> Iterator[Registry]:
    """Make a registry the current one inside the block."""
    token = _current.set(registry)
    try:
        yield registry
    finally:
        _current.reset(token)
