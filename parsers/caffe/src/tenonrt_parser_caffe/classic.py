"""TensorRT's plugin factories: `isPlugin` and `createPlugin` by layer name, and the layer that runs their plugins.

An application registers its factory under a name before it parses, and again before it loads a plan. A factory has
``isPlugin(layer)`` and ``createPlugin(layer, weights, count)`` for parsing (the Ext form: `isPluginExt`), and
``createPlugin(layer, data, size)`` for plans, with the bytes that the plugin's `serialize` gave. A plugin is a Python
object with the methods of IPlugin, or of IPluginExt: it gets float32 arrays, and dimensions without the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    GraphBuilder,
    LayerType,
    ParseError,
    Run,
    SourceNode,
    Tensor,
    TensorInfo,
    TensorType,
)

_FLOAT, _NCHW = 0, 0  # DataType and PluginFormat


class ClassicPluginAttributes(Attributes, frozen=True):
    """factory: the name it is registered under. layer: the model's. data: what `serialize` gave, in hexadecimal."""

    factory: str
    layer: str
    data: str = ""


class CopyFactory:
    """A factory of plugins that copy their input: the smallest there is, and always registered, as "copy"."""

    def isPlugin(self, layer: str) -> bool:  # noqa: N802 - TensorRT's name
        return False

    def createPlugin(self, layer: str, given: Any, count: int) -> Any:  # noqa: N802
        return _Copy()


class _Copy:
    def getNbOutputs(self) -> int:  # noqa: N802
        return 1

    def getOutputDimensions(self, index: int, inputs: Any, count: int) -> tuple[int, ...]:  # noqa: N802
        return tuple(inputs[0])

    def enqueue(self, batch: int, inputs: Any, outputs: Any, workspace: Any, stream: Any) -> int:
        outputs[0][...] = inputs[0]
        return 0


_FACTORIES: dict[str, Any] = {"copy": CopyFactory()}
_PLUGINS: dict[ClassicPluginAttributes, Any] = {}


def register_factory(name: str, factory: Any) -> None:
    """Let a factory make plugins, in parsing and for plans that name it; replaces one of the same name."""
    _FACTORIES[name] = factory
    for attrs in [known for known in _PLUGINS if known.factory == name]:
        del _PLUGINS[attrs]


def unregister_factory(name: str) -> None:
    """Forget a factory and its plugins, which are told by `terminate`."""
    del _FACTORIES[name]
    for attrs in [known for known in _PLUGINS if known.factory == name]:
        _call(_PLUGINS.pop(attrs), "terminate")


def factory_of(layer: str) -> str | None:
    """The name of the first factory that says a layer is its plugin."""
    for name, factory in _FACTORIES.items():
        if _call(factory, "isPlugin", layer) or _call(factory, "isPluginExt", layer):
            return name
    return None


def add_plugin(builder: GraphBuilder, node: SourceNode, inputs: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """A mapping: the layer that runs what a factory makes of the node's weights."""
    name = factory_of(node.name)
    assert name is not None, "the factory was asked before"
    weights = [array.ravel() for array in node.attrs["blobs"]]
    plugin = _FACTORIES[name].createPlugin(node.name, weights, len(weights))
    if plugin is None:
        raise ParseError(f"the plugin factory {name!r} made no plugin of it")
    if plugin.getNbOutputs() != len(node.outputs):
        raise ParseError(f"its plugin has {plugin.getNbOutputs()} outputs; the layer has {len(node.outputs)} tops")
    size = _call(plugin, "getSerializationSize") or 0
    data = bytearray(size)
    if size:
        plugin.serialize(data)
    attrs = ClassicPluginAttributes(name, node.name, bytes(data).hex())
    _PLUGINS[attrs] = plugin
    return builder.add("ClassicPlugin", inputs, attrs, name=node.name)


class ClassicPluginLayer(LayerType):
    """What a plugin of a registered factory computes; every tensor is float32 and has the batch as its first axis."""

    Attrs: ClassVar[type[Attributes]] = ClassicPluginAttributes
    inputs: ClassVar[tuple[str, ...]] = ("inputs*",)
    pure: ClassVar[bool] = False  # nobody knows what it does

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        given = [info for info in inputs if info is not None]
        if not given or any(info.dtype != "float32" or not info.rank for info in given):
            raise ValueError(f"inputs are {', '.join(str(i.type) for i in given)}, expected float32 with a batch axis")
        plugin = _plugin(attrs)
        dims = [tuple(info.shape[1:]) for info in given]
        count = plugin.getNbOutputs()
        shapes = [tuple(plugin.getOutputDimensions(i, dims, len(dims))) for i in range(count)]
        return [given[0].like((given[0].shape[0], *shape)) for shape in shapes]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        given = [np.ascontiguousarray(array, np.float32) for array in arrays if array is not None]
        plugin, batch = _plugin(attrs), given[0].shape[0]
        dims = [array.shape[1:] for array in given]
        shapes = [tuple(plugin.getOutputDimensions(i, dims, len(dims))) for i in range(plugin.getNbOutputs())]
        outputs = [np.zeros((batch, *shape), np.float32) for shape in shapes]
        _configure(plugin, dims, shapes, batch)
        workspace = np.zeros(_call(plugin, "getWorkspaceSize", batch) or 0, np.uint8)
        status = plugin.enqueue(batch, given, outputs, workspace, None)
        if status:
            raise ValueError(f"the plugin of layer {attrs.layer!r} returned {status}")
        dtype = next(array.dtype for array in arrays if array is not None)
        return [output.astype(dtype, copy=False) for output in outputs]

    def cases(self) -> Iterable[Case]:
        yield Case(ClassicPluginAttributes("copy", "copied"), (TensorType((2, 3, 4)),), "copy")


def _plugin(attrs: ClassicPluginAttributes) -> Any:
    if attrs not in _PLUGINS:
        factory = _FACTORIES.get(attrs.factory)
        if factory is None:
            raise ValueError(
                f"no plugin factory is registered as {attrs.factory!r}; the application must register it "
                f"(tenonrt_parser_caffe.classic.register_factory) before it uses the network"
            )
        data = bytes.fromhex(attrs.data)
        _PLUGINS[attrs] = factory.createPlugin(attrs.layer, data, len(data))
    return _PLUGINS[attrs]


def _configure(plugin: Any, inputs: Sequence[Any], outputs: Sequence[Any], batch: int) -> None:
    """Tell sizes as IPluginExt wants them, or as IPlugin does, and let the plugin begin."""
    if hasattr(plugin, "configureWithFormat"):
        if not plugin.supportsFormat(_FLOAT, _NCHW):
            raise ValueError("the plugin does not support float32 in NCHW")
        plugin.configureWithFormat(inputs, len(inputs), outputs, len(outputs), _FLOAT, _NCHW, batch)
    else:
        _call(plugin, "configure", inputs, len(inputs), outputs, len(outputs), batch)
    if _call(plugin, "initialize"):
        raise ValueError("the plugin's initialize() failed")


def _call(target: Any, method: str, *arguments: Any) -> Any:
    """The result of a method that need not be there."""
    found = getattr(target, method, None)
    return None if found is None else found(*arguments)
