"""One training run: a recipe and the photographs in, a trained network out."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from patches_network import PatchesNetwork
from patches_split import training_corners
from tenonrt_patches import PATCH, Pixels, classes_of
from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on besides the photographs.

    `steps` batches of `batch` patches at random corners, sources and turns alike frequent, half of them mirrored. Their
    contrast is scaled by up to `contrast`, and they are made lighter or darker by up to `brightness` of the full range.
    """

    steps: int = 3000
    batch: int = 96
    learning_rate: float = 6e-3
    weight_decay: float = 2e-2
    label_smoothing: float = 0.05
    contrast: float = 0.3
    brightness: float = 0.1
    seed: int = 0


def train(images: list[Pixels], recipe: Recipe) -> PatchesNetwork:
    """Return a network trained with AdamW and a one-cycle learning rate, in evaluation mode."""
    use_reproducible_arithmetic()
    torch.manual_seed(recipe.seed)
    network = PatchesNetwork(len(images) * 2).train()
    network = network.to(memory_format=torch.channels_last)  # half the time of a step
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    drawer = _Drawer(images, recipe)
    for _ in range(recipe.steps):
        patches, labels = drawer.batch()
        optimizer.zero_grad()
        loss_of(network(patches), labels).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


class _Drawer:
    """Draws batches. The legacy generator is used on purpose: NumPy guarantees its stream (NEP 19)."""

    def __init__(self, images: list[Pixels], recipe: Recipe) -> None:
        self.images, self.recipe = images, recipe
        self.corners = [training_corners(image) for image in images]
        self.generator = np.random.RandomState(recipe.seed)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Patches float32 [batch, 1, PATCH, PATCH] and their classes."""
        sources = self.generator.randint(len(self.images), size=self.recipe.batch)
        turns = self.generator.randint(4, size=self.recipe.batch)
        drawn = [self._patch(source, turn) for source, turn in zip(sources, turns, strict=True)]
        patches = self._relit(np.stack(drawn)[:, np.newaxis].astype(np.float32) / np.float32(255))
        return torch.from_numpy(patches), torch.from_numpy(classes_of(sources, turns))

    def _patch(self, source: int, turn: int) -> Pixels:
        corners = self.corners[source]
        top, left = corners[self.generator.randint(len(corners))]
        patch = self.images[source][top : top + PATCH, left : left + PATCH]
        return np.rot90(np.fliplr(patch) if self.generator.randint(2) else patch, turn)

    def _relit(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        shape = (len(patches), 1, 1, 1)
        gain = 1 + self.generator.uniform(-1, 1, shape) * self.recipe.contrast
        light = self.generator.uniform(-1, 1, shape) * self.recipe.brightness
        middle = patches.mean(axis=(2, 3), keepdims=True)
        return np.clip((patches - middle) * gain + middle + light, 0, 1).astype(np.float32)


def use_reproducible_arithmetic() -> None:
    """Make a second run give the same weights on any x86-64 processor with AVX2: each sum is taken in one order.

    All three libraries read their variable at their first operation.
    """
    os.environ.update(ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", MKL_CBWR="AVX2")
    if (capability := torch.backends.cpu.get_cpu_capability()) != "AVX2":
        raise RuntimeError(
            f"PyTorch already runs its {capability} kernels, so the result would not be reproducible: "
            "train in a fresh process, before any other PyTorch operation"
        )
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
