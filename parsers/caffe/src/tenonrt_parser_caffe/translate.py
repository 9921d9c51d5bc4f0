"""The translation of a network's layers, in order, into a graph builder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import Any

from tenonrt import PluginError
from tenonrt.contracts import (
    Array,
    GraphBuilder,
    GraphError,
    LayerMapping,
    ParseError,
    SourceNode,
    Tensor,
    TensorType,
    UnsupportedError,
    symbol,
)

from tenonrt_parser_caffe.attributes import attributes, plain
from tenonrt_parser_caffe.classic import add_plugin, factory_of
from tenonrt_parser_caffe.network import CaffeNetwork, LayerSpec
from tenonrt_parser_caffe.options import CaffeOptions
from tenonrt_parser_caffe.parameters import Store

# Layers that feed the network: their tops become inputs, which are made when something reads them.
SOURCES = {"Input", "Data", "ImageData", "MemoryData", "DummyData", "HDF5Data", "WindowData", "AnnotatedData",
           "VideoData"}  # fmt: skip
# Layers that a deployed network does without. What they alone would read is an output.
DROPPED = {"Accuracy", "EuclideanLoss", "HingeLoss", "InfogainLoss", "MultinomialLogisticLoss", "ContrastiveLoss",
           "L1Loss", "SmoothL1Loss", "MultiBoxLoss", "DetectionEvaluate", "HDF5Output", "DetectNetTransformation",
           "DetectNetGroundtruth"}  # fmt: skip
MAX_ELEMENTS = 1 << 40  # of an input: above, sizes were meant as something else


class Translator:
    """Fills a builder from one network. ``tensors``: those made so far, by blob."""

    def __init__(
        self, builder: GraphBuilder, network: CaffeNetwork, store: Store, options: CaffeOptions, mean: Array | None
    ) -> None:
        self.builder = builder
        self.network = network
        self.store = store
        self.options = options
        self.mean = mean
        self.shapes = dict(map(_shape_option, options.input_shape))
        self.tensors: dict[str, Tensor] = {}
        self.waiting: dict[str, tuple[int, ...] | None] = {}  # inputs that nothing has read yet, with their shapes
        self.inputs: list[Tensor] = []
        self.unread: dict[str, None] = {}  # in order

    def run(self) -> dict[str, Tensor]:
        """Translate every layer and mark the outputs."""
        known = {spec.type: self._mapping(spec) for spec in self.network.layers}
        self._refuse_unknown(known)
        for index, spec in enumerate(self.network.layers):
            name = spec.name or f"layer {index}"
            try:
                self._layer(spec, name, known[spec.type])
            except (ParseError, GraphError, PluginError) as error:
                raise ParseError(f"layer {name!r} ({spec.type}): {error}") from error
        self._outputs()
        if self.mean is not None:
            raise ParseError("a mean is given, and no input that it could be subtracted from is read")
        return self.tensors

    # layers ----------------------------------------------------------------------------------------------------------

    def _mapping(self, spec: LayerSpec) -> LayerMapping | None:
        if spec.type in SOURCES | DROPPED:
            return None
        return self.builder.mapping("caffe", "", spec.type)

    def _refuse_unknown(self, known: dict[str, LayerMapping | None]) -> None:
        """Name every layer that nothing translates, not only the first."""
        missing: dict[str, list[str]] = {}
        for spec in self.network.layers:
            if spec.type in SOURCES | DROPPED or known[spec.type] is not None or self._by_name(spec) is not None:
                continue
            if not self._has_kind(spec.type):
                missing.setdefault(spec.type, []).append(spec.name)
        if missing:
            told = "; ".join(
                f"{kind or 'no type'} (layer {', '.join(map(repr, n[:3]))})" for kind, n in missing.items()
            )
            raise UnsupportedError(
                f"has layers that no installed plugin provides: {told}. Install a distribution that offers the type as "
                f"a layer kind, or a mapping caffe::TYPE or caffe:layer:NAME",
                tuple(missing),
            )

    def _by_name(self, spec: LayerSpec) -> LayerMapping | None:
        """What a factory or a plugin makes of this very layer."""
        if factory_of(spec.name) is not None:
            return add_plugin
        return self.builder.mapping("caffe", "layer", spec.name) if spec.name else None

    def _has_kind(self, kind: str) -> bool:
        """Whether a layer plugin offers a kind: its attributes are refused, unless the kind itself is missing."""
        try:
            self.builder.subgraph("probe").add(kind, (), {"no attribute": None}, name="kind")
        except PluginError:
            return False
        except GraphError:
            pass
        return True

    def _layer(self, spec: LayerSpec, name: str, mapping: LayerMapping | None) -> None:
        if spec.type in SOURCES:
            self._source(spec)
            return
        if spec.type in DROPPED:
            return
        replacing = self._by_name(spec)
        mapping = replacing or mapping or _as_kind
        inputs = [self._find(blob) for blob in self._deployed(spec)]
        given = attributes(spec)
        given["blobs"] = self.store.of(spec.name, [param.name for param in spec.message.param])
        node = SourceNode("caffe", "", spec.type, name, 1, given, (True,) * len(spec.tops))
        with self.builder.origin(name):
            results = list(mapping(self.builder, node, inputs))
        if replacing is None:  # who replaces a layer may do without its blobs
            given["blobs"].check_all_used()
        if len(results) < len(spec.tops):
            raise ParseError(f"has {len(spec.tops)} tops; it makes {len(results)}")
        for blob in spec.bottoms:
            self.unread.pop(blob, None)
        for blob, tensor in zip(spec.tops, results, strict=False):
            if blob in self.tensors and blob not in spec.bottoms:
                raise ParseError(f"writes the blob {blob!r}, which another layer made")
            self.tensors[blob] = tensor
            self.unread.pop(blob, None)
            self.unread[blob] = None

    def _deployed(self, spec: LayerSpec) -> tuple[str, ...]:
        """The bottoms that count once a network is trained: of a loss that is computed, not the labels."""
        return spec.bottoms[:1] if spec.type in {"SoftmaxWithLoss", "SigmoidCrossEntropyLoss"} else spec.bottoms

    def _find(self, blob: str) -> Tensor:
        if blob in self.waiting:
            self._input(blob, self.waiting.pop(blob))
        if blob not in self.tensors and blob in self.shapes:  # the data layer was for training only
            self._input(blob, self.shapes[blob])
        if blob not in self.tensors:
            raise ParseError(
                f"reads the blob {blob!r}, which no layer before it makes; if it is an input, give its shape: "
                f"input_shape {blob}=1x3x224x224"
            )
        return self.tensors[blob]

    # inputs ----------------------------------------------------------------------------------------------------------

    def _source(self, spec: LayerSpec) -> None:
        shapes = _declared_shapes(spec)
        for index, blob in enumerate(spec.tops):
            if blob in self.waiting or blob in self.tensors:
                raise ParseError(f"writes the blob {blob!r}, which another layer made")
            self.waiting[blob] = self.shapes.get(blob, shapes[index] if index < len(shapes) else None)

    def _input(self, blob: str, shape: tuple[int, ...] | None) -> None:
        if shape is None:
            raise ParseError(
                f"reads the input {blob!r}, whose shape the network does not say; give it: "
                f"input_shape {blob}=1x3x224x224"
            )
        if any(size < 0 for size in shape) or prod(shape) > MAX_ELEMENTS:
            raise ParseError(f"input {blob!r} has the shape {'x'.join(map(str, shape))}")
        sizes: tuple[Any, ...] = shape
        if self.options.free_batch and shape:
            sizes = (symbol("N", 1), *shape[1:])
        tensor = self.builder.input(blob, TensorType(sizes))
        self.inputs.append(tensor)
        if self.mean is not None and len(shape) == 4:
            (tensor,) = self.builder.add(
                "Elementwise", [tensor, _cropped(self.mean, shape[1:])], {"operation": "sub"}, name=f"{blob}/mean"
            )
            self.mean = None
        self.tensors[blob] = tensor

    # outputs ---------------------------------------------------------------------------------------------------------

    def _outputs(self) -> None:
        names = list(dict.fromkeys(self.options.output_blob)) or list(self.unread)
        if not names and not any(spec.type not in SOURCES for spec in self.network.layers):
            raise ParseError("has no layers that compute anything in phase TEST; is the file whole?")
        if not names:
            raise ParseError("has no output: every blob is read by some layer; name one (output_blob)")
        seen: set[int] = {id(tensor) for tensor in self.inputs}
        for name in names:
            if name not in self.tensors and name not in self.waiting:
                raise ParseError(f"has no blob {name!r} to put out; it has {', '.join(list(self.tensors)[:20])}")
            tensor = self._find(name)
            if id(tensor) in seen or tensor.constant is not None:
                (tensor,) = self.builder.add("Identity", [tensor], {}, name=f"{name}/output")
            seen.add(id(tensor))
            self.builder.output(tensor, name)


def _as_kind(builder: GraphBuilder, node: SourceNode, inputs: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """A layer of a kind that a plugin offers: its parameters as attributes, its blobs as further inputs."""
    attrs = {name: value for name, value in node.attrs.items() if name != "blobs" and value is not None}
    return builder.add(node.type, [*inputs, *node.attrs["blobs"]], attrs, name=node.name)


def _shape_option(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, dimensions = text.rpartition("=")
    if not name or not re.fullmatch(r"\d{1,10}([x,]\d{1,10})*", dimensions):
        raise ParseError(f"input_shape {text!r} is not BLOB=1x3x224x224")
    return name, tuple(int(size) for size in re.split("[x,]", dimensions))


def _declared_shapes(spec: LayerSpec) -> list[tuple[int, ...]]:
    """The shapes of a source's tops, as far as its parameters tell."""
    message = spec.message
    if spec.type == "Input":
        shapes = [tuple(shape.dim) for shape in message.input_param.shape]
        if len(shapes) not in {1, len(spec.tops)}:
            raise ParseError(f"has {len(spec.tops)} tops and {len(shapes)} shapes")
        return shapes * (len(spec.tops) if len(shapes) == 1 else 1)
    if spec.type == "MemoryData":
        found = plain(message.memory_data_param)
        sizes = [found[name] for name in ("batch_size", "channels", "height", "width")]
        return [] if None in sizes else [tuple(sizes), (sizes[0],)]
    if spec.type == "DummyData":
        dummy = message.dummy_data_param
        shapes = [tuple(shape.dim) for shape in dummy.shape]
        if not shapes and len(dummy.num):
            sides = [
                _for_each_top(spec, tuple(sizes)) for sizes in (dummy.num, dummy.channels, dummy.height, dummy.width)
            ]
            shapes = list(zip(*sides, strict=True))
        return shapes * len(spec.tops) if len(shapes) == 1 else shapes
    return []


def _for_each_top(spec: LayerSpec, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """One size for each top of a DummyData layer: a single one is that of all."""
    if len(sizes) not in {1, len(spec.tops)}:
        raise ParseError(f"has {len(spec.tops)} tops; num, channels, height and width are given {len(sizes)} times")
    return sizes * len(spec.tops) if len(sizes) == 1 else sizes


def _cropped(mean: Array, shape: tuple[int, ...]) -> Array:
    """The part of a mean image that belongs to the centre of the input, as Caffe crops in phase TEST."""
    values = mean.reshape(mean.shape[-3:]) if mean.ndim == 4 and mean.shape[0] == 1 else mean
    channels, height, width = shape
    if values.ndim == 3 and values.shape[0] == channels:
        if values.shape[1:] == (1, 1):
            return values
        top, left = (values.shape[1] - height) // 2, (values.shape[2] - width) // 2
        if top >= 0 and left >= 0:
            return values[:, top : top + height, left : left + width]
    found, expected = ("x".join(map(str, s)) for s in (mean.shape, shape))
    raise ParseError(f"the mean is {found}; an input of {expected} is to be shifted by it")
