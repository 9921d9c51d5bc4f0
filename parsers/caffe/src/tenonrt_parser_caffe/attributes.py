"""A layer's parameters as plain values: what mappings are given."""

from __future__ import annotations

from typing import Any

from tenonrt_parser_caffe.network import LayerSpec

# Types whose parameters do not go by the type's own name.
_PARAMETERS = {
    "Deconvolution": ("convolution_param",), "ConvolutionDepthwise": ("convolution_param",),
    "DepthwiseConvolution": ("convolution_param",), "Im2col": ("convolution_param",),
    "SoftmaxWithLoss": ("softmax_param",), "SigmoidCrossEntropyLoss": ("sigmoid_param",), "Normalize": ("norm_param",),
    "LSTM": ("recurrent_param",), "RNN": ("recurrent_param",),
    "RPROI": ("region_proposal_param", "roi_pooling_param"),
}  # fmt: skip
_OF_TRAINING = {"transform_param", "loss_param"}


def attributes(spec: LayerSpec) -> dict[str, Any]:
    """The fields of the layer's parameter messages by name, defaults included, and those that the schema lacks.

    An optional field without a default is None, a repeated one a tuple, a message a dictionary (None when absent), an
    enumeration its word. Of a type that the schema does not know: all parameters that the layer sets.
    """
    known = spec.message.DESCRIPTOR.fields_by_name
    names = _PARAMETERS.get(spec.type) or _own(spec.type, known)
    if not names:
        names = tuple(
            descriptor.name
            for descriptor, _ in spec.message.ListFields()
            if descriptor.name.endswith("_param") and descriptor.name not in _OF_TRAINING
        )
    found: dict[str, Any] = {}
    for name in names:
        found |= plain(getattr(spec.message, name))
    extra: dict[str, Any] = {}
    for name, value in spec.extra.items():
        extra |= value if isinstance(value, dict) else {name: value}
    return {**extra, **found}  # what the schema knows has been checked


def _own(kind: str, known: Any) -> tuple[str, ...]:
    wanted = kind.lower()
    return tuple(name for name in known if name.endswith("_param") and name[:-6].replace("_", "") == wanted)


def plain(message: Any) -> dict[str, Any]:
    """A message's fields as plain values, defaults included."""
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def _value(message: Any, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return tuple(plain(item) if field.message_type is not None else _word(field, item) for item in value)
    if field.message_type is not None:
        return plain(value) if message.HasField(field.name) else None
    if message.HasField(field.name) or field.has_default_value:
        return _word(field, value)
    return None


def _word(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        found = field.enum_type.values_by_number.get(value)
        return value if found is None else found.name
    return value
