"""The DepthToSpace layer: channels become pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from tenonrt.contracts import Array, Attributes, Case, Dim, Dimension, LayerType, Run, TensorInfo, TensorType, required


class DepthToSpaceAttributes(Attributes, frozen=True):
    """mode: whether the block's position is the outer (DCR) or the inner (CRD) part of the channel's number."""

    block_size: int
    mode: Literal["DCR", "CRD"] = "DCR"


class DepthToSpaceLayer(LayerType):
    """[N, C, H, W] to [N, C / b^2, H b, W b] (ONNX DepthToSpace)."""

    Attrs = DepthToSpaceAttributes
    pattern = "movement"

    def infer(self, attrs: DepthToSpaceAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        b = attrs.block_size
        if x.rank != 4 or b < 1 or attrs.mode not in {"DCR", "CRD"}:
            raise ValueError(
                f"DepthToSpace needs a tensor [N, C, H, W], a block size above zero and mode DCR or CRD, "
                f"found {x.type}, {b} and {attrs.mode!r}"
            )
        n, c, h, w = x.shape
        rest = c % (b * b)
        if not isinstance(rest, Dim) and rest:
            raise ValueError(f"{c} channels cannot be divided into blocks of {b} x {b}")
        return [x.like([n, c // (b * b), h * b, w * b])]

    def reference(self, attrs: DepthToSpaceAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        n, c, h, w = x.shape
        b = attrs.block_size
        if attrs.mode == "DCR":
            blocks = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            blocks = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        return [blocks.reshape(n, c // (b * b), h * b, w * b)]

    def flops(
        self, attrs: DepthToSpaceAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        modes: tuple[Literal["DCR", "CRD"], ...] = ("DCR", "CRD")
        for mode in modes:
            for block, shape in ((2, (2, 12, 3, 5)), (3, (1, 9, 2, 1)), (1, (1, 3, 4, 4)), (2, (0, 4, 2, 2))):
                attrs = DepthToSpaceAttributes(block, mode)
                yield Case(attrs, (TensorType(shape),), f"{mode} {block} {shape}")
