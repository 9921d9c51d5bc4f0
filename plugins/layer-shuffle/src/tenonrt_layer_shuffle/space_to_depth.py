"""The SpaceToDepth layer: pixels become channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenonrt.contracts import Array, Attributes, Case, Dim, Dimension, LayerType, Run, TensorInfo, TensorType, required


class SpaceToDepthAttributes(Attributes, frozen=True):
    """block_size: pixels per side of the blocks that become channels."""

    block_size: int


class SpaceToDepthLayer(LayerType):
    """[N, C, H, W] to [N, C b^2, H / b, W / b], the block's position outermost (ONNX SpaceToDepth)."""

    Attrs = SpaceToDepthAttributes
    pattern = "movement"

    def infer(self, attrs: SpaceToDepthAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        b = attrs.block_size
        if x.rank != 4 or b < 1:
            raise ValueError(
                f"SpaceToDepth needs a tensor [N, C, H, W] and a block size above zero, found {x.type} and {b}"
            )
        n, c, h, w = x.shape
        rests = [size % b for size in (h, w)]
        if any(rest for rest in rests if not isinstance(rest, Dim)):
            raise ValueError(f"{h} x {w} pixels cannot be divided into blocks of {b} x {b}")
        return [x.like([n, c * (b * b), h // b, w // b])]

    def reference(self, attrs: SpaceToDepthAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        n, c, h, w = x.shape
        b = attrs.block_size
        blocks = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
        return [blocks.reshape(n, c * b * b, h // b, w // b)]

    def flops(
        self, attrs: SpaceToDepthAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        for block, shape in ((2, (2, 3, 4, 6)), (3, (1, 1, 3, 9)), (1, (1, 3, 4, 4)), (2, (0, 4, 2, 2))):
            yield Case(SpaceToDepthAttributes(block), (TensorType(shape),), f"{block} {shape}")
