"""LayerNormalization over the last axes (ONNX LayerNormalization 17, Ba et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Pattern,
    Run,
    TensorInfo,
    TensorType,
    normalize_axis,
    optional,
    product,
    required,
)

from tenonrt_layer_normalization.moments import affine, standardized, widened
from tenonrt_layer_normalization.operands import check_broadcast, check_epsilon, floats


class LayerNormalizationAttributes(Attributes, frozen=True):
    """axis: it and all later ones are normalized over. statistics: also return mean and inverse deviation."""

    axis: int = -1
    epsilon: float = 1e-5
    statistics: bool = False


class LayerNormalizationLayer(LayerType):
    """input to (x - mean) / sqrt(variance + epsilon) * scale + bias, the parameters broadcast to the input.

    With statistics, two more outputs: the mean and 1 / sqrt(variance + epsilon), their normalized axes of size 1, in
    float32 or the input's type if that is wider.
    """

    Attrs: ClassVar[type[Attributes]] = LayerNormalizationAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "scale?", "bias?")
    pattern: ClassVar[Pattern] = "reduction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        source = floats(inputs, 1, "one axis")
        axis = normalize_axis(attrs.axis, source.rank)
        check_epsilon(attrs.epsilon)
        check_broadcast(source, ("scale", "bias"), inputs[1:])
        if not attrs.statistics:
            return [source.like()]
        wide = "float64" if source.dtype == "float64" else "float32"
        statistics = source.like((*source.shape[:axis], *[1] * (source.rank - axis)), wide)
        return [source.like(), statistics, statistics]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source,), scale, bias = required(arrays, 1), optional(arrays, 1), optional(arrays, 2)
        axes = range(attrs.axis % source.ndim, source.ndim)
        normalized, *statistics = standardized(widened(source), axes, attrs.epsilon)
        result = affine(normalized, scale, bias).astype(source.dtype, copy=False)
        return [result, *statistics] if attrs.statistics else [result]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        source = floats(inputs, 1, "one axis")
        return product(source.shape[normalize_axis(attrs.axis, source.rank) :])

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """For each element a sum, a difference, a multiply-add of squares, a product and the affine map."""
        return 7 * outputs[0].type.size

    def cases(self) -> Iterable[Case]:
        def case(name: str, shape: tuple[int, ...], *parameters: tuple[int, ...] | None, **attrs: Any) -> Case:
            types = [None if p is None else TensorType(p) for p in parameters]
            return Case(LayerNormalizationAttributes(**attrs), (TensorType(shape), *types), name)

        yield case("tokens", (2, 7, 33), (33,), (33,))
        yield case("no bias", (3, 16), (16,), None)
        yield case("no parameters", (3, 16), None, None)
        yield case("bias only", (3, 16), None, (16,))
        yield case("axis 1", (2, 3, 4, 5), (3, 4, 5), (3, 4, 5), axis=1)
        yield case("first axis", (3, 4), (3, 4), (3, 4), axis=0, epsilon=0.1)
        yield case("axis from the end", (2, 3, 4), (3, 4), (3, 4), axis=-2)
        yield case("statistics", (2, 5, 6), (6,), (6,), statistics=True)
        yield case("statistics axis 1", (2, 5, 6), (5, 6), (5, 6), axis=1, statistics=True)
        yield case("broadcast parameters", (2, 5, 6), (1, 6), (5, 1), axis=1)
        yield case("one element", (4, 1), (1,), (1,))
        yield case("empty batch", (0, 8), (8,), (8,))
