"""The network in PyTorch; submodule names are the node names of the ONNX file."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Block(NamedTuple):
    """An inverted residual block: channels in, expanded and out, and the stride of its depthwise convolution."""

    inputs: int
    expanded: int
    outputs: int
    stride: int

    @property
    def is_residual(self) -> bool:
        """Whether its input is added to its output."""
        return self.stride == 1 and self.inputs == self.outputs


STEM, HEAD = 16, 128  # channels
BLOCKS = (
    Block(16, 32, 16, 1), Block(16, 64, 32, 2), Block(32, 96, 32, 1), Block(32, 96, 32, 1), Block(32, 96, 64, 2),
    Block(64, 192, 64, 1),
)  # fmt: skip


class PatchesNetwork(nn.Module):
    """Patches float32 [n, 1, 32, 32] in 0..1 to logits float32 [n, classes].

    MobileNetV2 made small (Sandler et al. 2018, https://arxiv.org/abs/1801.04381): blocks that expand with a 1x1
    convolution, filter depthwise, and project without an activation; where the shape stays, the input is added.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem, self.stem_bn = _convolution(1, STEM, 3, stride=2)
        for number, block in enumerate(BLOCKS, 1):
            layers = {
                "expand": _convolution(block.inputs, block.expanded, 1),
                "depthwise": _convolution(block.expanded, block.expanded, 3, block.stride, block.expanded),
                "project": _convolution(block.expanded, block.outputs, 1),
            }
            for name, (convolution, normalization) in layers.items():
                self.add_module(f"{name}{number}", convolution)
                self.add_module(f"{name}{number}_bn", normalization)
        self.head, self.head_bn = _convolution(BLOCKS[-1].outputs, HEAD, 1)
        self.fc = nn.Linear(HEAD, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; the softmax is in the loss, and a node of the exported graph."""
        values = self._active("stem", image)
        for number, block in enumerate(BLOCKS, 1):
            inner = self._active(f"depthwise{number}", self._active(f"expand{number}", values))
            projected = self._normalized(f"project{number}", inner)
            values = projected + values if block.is_residual else projected
        logits: Tensor = self.fc(self._active("head", values).mean(dim=(2, 3)))
        return logits

    def _normalized(self, name: str, values: Tensor) -> Tensor:
        modules = dict(self.named_children())
        normalized: Tensor = modules[f"{name}_bn"](modules[name](values))
        return normalized

    def _active(self, name: str, values: Tensor) -> Tensor:
        return nn.functional.relu6(self._normalized(name, values))


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return a padded convolution and its batch normalization, which has the bias."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(outputs)
