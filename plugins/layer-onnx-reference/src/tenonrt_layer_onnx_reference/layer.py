"""The OnnxReference layer: one operator of ONNX, computed by the onnx package's own implementation of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
)

from tenonrt_layer_onnx_reference.evaluation import evaluate, evaluate_random
from tenonrt_layer_onnx_reference.nodes import Operator, encode
from tenonrt_layer_onnx_reference.rules import infer


class OnnxReferenceAttributes(Attributes, frozen=True):
    """operator: domain and type, ``ai.onnx.ml:Scaler``. version: of the domain's operator set.

    node: its attributes, as a serialized NodeProto. outputs: which of its outputs are used. declared: what the model
    says of their types, None where it says nothing; only what goes into sequences and optionals needs it.
    """

    operator: str
    version: int
    node: bytes
    outputs: tuple[bool, ...] = (True,)
    declared: tuple[str | None, ...] = ()


class OnnxReferenceLayer(LayerType):
    """Any operator with a rule for its outputs' types in `rules`."""

    Attrs: ClassVar[type[Attributes]] = OnnxReferenceAttributes
    inputs = ("operands*",)

    def infer(self, attrs: OnnxReferenceAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        return infer(_operator(attrs), inputs)

    def reference(self, attrs: OnnxReferenceAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        return evaluate(_operator(attrs), arrays)

    def flops(
        self,
        attrs: OnnxReferenceAttributes,
        inputs: Sequence[TensorInfo | None],
        outputs: Sequence[TensorInfo],
    ) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        x = TensorType((3, 4))
        yield _case("ai.onnx.ml:Binarizer", {"threshold": 0.5}, (x,))
        yield _case(":StringConcat", {}, (TensorType((3, 1), "string"), TensorType((4,), "string")))


class OnnxReferenceRandomLayer(OnnxReferenceLayer):
    """An operator that draws random numbers: from the context's generator where the model gives no seed."""

    pure = False

    def reference(self, attrs: OnnxReferenceAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        return evaluate_random(_operator(attrs), arrays, run.generator)

    def cases(self) -> Iterable[Case]:
        yield _case(":RandomUniform", {"shape": (3, 4), "seed": 1.0}, ())


def _operator(attrs: OnnxReferenceAttributes) -> Operator:
    return Operator(attrs.operator, attrs.version, attrs.node, attrs.outputs, attrs.declared)


def _case(operator: str, values: dict[str, object], inputs: tuple[TensorType, ...]) -> Case:
    version = 3 if operator.startswith("ai.onnx.ml") else 22
    return Case(OnnxReferenceAttributes(operator, version, encode(operator, values)), inputs, operator)
