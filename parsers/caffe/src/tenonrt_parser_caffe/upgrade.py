"""Networks of older formats in the form of the current one, by the rules and in the order of Caffe."""

from __future__ import annotations

from typing import Any

from tenonrt.contracts import ParseError

from tenonrt_parser_caffe.schema import new

# Types of V0 layers; those that are not here have the same name in capitals.
_V0_TYPES = {
    "conv": "CONVOLUTION", "pool": "POOLING", "innerproduct": "INNER_PRODUCT", "softmax_loss": "SOFTMAX_LOSS",
    "images": "IMAGE_DATA", "hdf5_data": "HDF5_DATA", "hdf5_output": "HDF5_OUTPUT", "window_data": "WINDOW_DATA",
    "euclidean_loss": "EUCLIDEAN_LOSS", "infogain_loss": "INFOGAIN_LOSS",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
}  # fmt: skip
_V0_SAME = {"relu", "sigmoid", "tanh", "lrn", "softmax", "dropout", "concat", "flatten", "split", "accuracy", "bnll",
            "data", "im2col"}  # fmt: skip
# V0 scalar -> by V0 type: the parameter message and field that take it.
_V0_FIELDS: dict[str, dict[str, tuple[str, str]]] = {
    "num_output": {"conv": ("convolution_param", "num_output"), "innerproduct": ("inner_product_param", "num_output")},
    "biasterm": {"conv": ("convolution_param", "bias_term"), "innerproduct": ("inner_product_param", "bias_term")},
    "weight_filler": {"conv": ("convolution_param", "weight_filler"),
                      "innerproduct": ("inner_product_param", "weight_filler")},
    "bias_filler": {"conv": ("convolution_param", "bias_filler"),
                    "innerproduct": ("inner_product_param", "bias_filler")},
    "pad": {"conv": ("convolution_param", "pad"), "pool": ("pooling_param", "pad")},
    "kernelsize": {"conv": ("convolution_param", "kernel_size"), "pool": ("pooling_param", "kernel_size")},
    "group": {"conv": ("convolution_param", "group")},
    "stride": {"conv": ("convolution_param", "stride"), "pool": ("pooling_param", "stride")},
    "pool": {"pool": ("pooling_param", "pool")},
    "dropout_ratio": {"dropout": ("dropout_param", "dropout_ratio")},
    "local_size": {"lrn": ("lrn_param", "local_size")},
    "alpha": {"lrn": ("lrn_param", "alpha")},
    "beta": {"lrn": ("lrn_param", "beta")},
    "k": {"lrn": ("lrn_param", "k")},
    "concat_dim": {"concat": ("concat_param", "concat_dim")},
    "batchsize": {kind: (f"{param}_param", "batch_size") for kind, param in
                  (("data", "data"), ("images", "image_data"), ("hdf5_data", "hdf5_data"),
                   ("window_data", "window_data"))},
    "cropsize": dict.fromkeys(("data", "images", "window_data"), ("transform_param", "crop_size")),
    "scale": dict.fromkeys(("data", "images", "window_data"), ("transform_param", "scale")),
    "mirror": dict.fromkeys(("data", "images", "window_data"), ("transform_param", "mirror")),
    "meanfile": dict.fromkeys(("data", "images", "window_data"), ("transform_param", "mean_file")),
}  # fmt: skip

# V1 types whose names are not the words in CamelCase.
_V1_TYPES = {"NONE": "", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output", "LRN": "LRN", "RELU": "ReLU",
             "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH", "ARGMAX": "ArgMax", "MVN": "MVN", "BNLL": "BNLL",
             "ABSVAL": "AbsVal"}  # fmt: skip


def upgrade(net: Any) -> Any:
    """The network with layers of the current format only, and its inputs as a layer."""
    if len(net.layers) and len(net.layer):
        raise ParseError("has both 'layers' (the V1 format) and 'layer' (the current one); it must have one of them")
    if any(layer.HasField("layer") for layer in net.layers):
        net = _without_padding(net)
        for layer in net.layers:
            if layer.HasField("layer"):
                _upgrade_v0(layer)
    for index, old in enumerate(net.layers):
        net.layer.append(_upgraded_v1(old, index))
    del net.layers[:]
    _upgrade_inputs(net)
    return net


def _without_padding(net: Any) -> Any:
    """V0's padding layers become the padding of the convolution or pooling layers that read them."""
    padded = {layer.top[0]: layer for layer in net.layers if layer.layer.type == "padding" and len(layer.top)}
    kept = new("NetParameter")
    kept.CopyFrom(net)
    del kept.layers[:]
    for layer in net.layers:
        if layer.layer.type == "padding":
            continue
        made = kept.layers.add()
        made.CopyFrom(layer)
        source = next((padded[name] for name in layer.bottom if name in padded), None)
        if source is None:
            continue
        if layer.layer.type not in {"conv", "pool"} or len(layer.bottom) != 1 or len(source.bottom) != 1:
            raise ParseError(
                f"layer {layer.layer.name!r} reads the padding layer {source.layer.name!r}; only convolution and "
                f"pooling layers with one bottom may"
            )
        made.layer.pad = source.layer.pad
        made.bottom[0] = source.bottom[0]
    return kept


def _upgrade_v0(layer: Any) -> None:
    """Move what a V0 layer holds into the V1 layer around it."""
    old = new("V0LayerParameter")
    old.CopyFrom(layer.layer)
    layer.ClearField("layer")
    layer.name = old.name
    word = _V0_TYPES.get(old.type, old.type.upper() if old.type in _V0_SAME else None)
    if word is None:
        raise ParseError(f"layer {old.name!r}: {old.type!r} is no type of the V0 format")
    layer.type = layer.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_name[word].number
    for blobs in ("blobs", "blobs_lr", "weight_decay"):
        getattr(layer, blobs).extend(getattr(old, blobs))
    for descriptor, value in old.ListFields():
        target = _V0_FIELDS.get(descriptor.name, {}).get(old.type)
        if target is not None:
            _put(getattr(layer, target[0]), target[1], value)


def _put(message: Any, name: str, value: Any) -> None:
    known = message.DESCRIPTOR.fields_by_name[name]
    if known.message_type is not None:
        getattr(message, name).CopyFrom(value)
    elif known.is_repeated:
        getattr(message, name).append(value)
    else:
        setattr(message, name, value)


def _upgraded_v1(old: Any, index: int) -> Any:
    made = new("LayerParameter")
    for descriptor, value in old.ListFields():
        name = descriptor.name
        if name in {"name", "bottom", "top", "blobs", "include", "exclude", "loss_weight"} or name.endswith("_param"):
            if descriptor.is_repeated:
                getattr(made, name).extend(value)
            elif descriptor.message_type is not None:
                getattr(made, name).CopyFrom(value)
            else:
                setattr(made, name, value)
    values = old.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
    word = values[old.type].name
    made.type = _V1_TYPES.get(word, "".join(part.capitalize() for part in word.split("_")))
    if not made.type:
        raise ParseError(f"layer {old.name or index!r} has no type")
    for place in range(max(len(old.param), len(old.blobs_lr), len(old.weight_decay))):
        spec = made.param.add()
        if place < len(old.param) and old.param[place]:
            spec.name = old.param[place]
        if place < len(old.blobs_lr):
            spec.lr_mult = old.blobs_lr[place]
        if place < len(old.weight_decay):
            spec.decay_mult = old.weight_decay[place]
    return made


def _upgrade_inputs(net: Any) -> None:
    """The network's ``input`` with shapes becomes a layer; without shapes, as in trained models, it is dropped."""
    names, shapes, sizes = list(net.input), list(net.input_shape), list(net.input_dim)
    for name in ("input", "input_shape", "input_dim"):
        net.ClearField(name)
    if not names or not (shapes or sizes):
        return
    if (len(shapes) if shapes else len(sizes) / 4) != len(names):
        found = f"{len(shapes)} input_shape" if shapes else f"{len(sizes)} input_dim (four for each)"
        raise ParseError(f"has {len(names)} inputs and {found}")
    layer = new("LayerParameter")
    layer.name, layer.type = "input", "Input"
    layer.top.extend(names)
    for index in range(len(names)):
        dims = shapes[index].dim if shapes else sizes[4 * index : 4 * index + 4]
        layer.input_param.shape.add().dim.extend(dims)
    rest = list(net.layer)
    copies = [new("LayerParameter") for _ in rest]
    for copy, original in zip(copies, rest, strict=True):
        copy.CopyFrom(original)
    del net.layer[:]
    net.layer.extend([layer, *copies])
