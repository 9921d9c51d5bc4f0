"""One training run: a recipe and training examples in, a trained network out."""

import math
import os
from dataclasses import dataclass

import numpy as np
import torch
from digits_network import DigitsNetwork
from digits_split import FULL_PIXEL, Examples
from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on besides its examples.

    `distortion` scales the random affine maps of the training images: at 1 they rotate by up to 10 degrees, scale by
    up to 10 % and shift by up to half a pixel; at 0 images are left alone.
    """

    epochs: int = 30
    batch: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    dropout: float = 0.2
    label_smoothing: float = 0.05
    distortion: float = 1.0
    seed: int = 0


def train(examples: Examples, recipe: Recipe) -> DigitsNetwork:
    """Return a network trained on `examples` with AdamW and a one-cycle learning rate, in evaluation mode."""
    _use_reproducible_arithmetic()
    torch.manual_seed(recipe.seed)
    images, labels = as_tensors(examples)
    network = DigitsNetwork(recipe.dropout).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * (len(labels) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    for _ in range(recipe.epochs):
        for rows in _batches(len(labels), recipe.batch):
            optimizer.zero_grad()
            loss = loss_of(network(_distort(images[rows], recipe.distortion)), labels[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network: DigitsNetwork, examples: Examples) -> float:
    """Return the fraction of `examples` whose largest logit is the label's."""
    images, labels = as_tensors(examples)
    with torch.no_grad():
        return float((network(images).argmax(dim=1) == labels).double().mean())


def as_tensors(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return images float32 [n, 1, 8, 8] in 0..1 and labels int64 [n]."""
    images = torch.from_numpy(examples.images[:, np.newaxis].astype(np.float32) / np.float32(FULL_PIXEL))
    return images, torch.from_numpy(examples.labels.astype(np.int64))


def _use_reproducible_arithmetic() -> None:
    """Make a second run give the same weights, on any x86-64 processor: each sum is taken in one order.

    Instruction sets differ in vector length, hence in the order of a sum, and training amplifies the last bit to one
    or two of the 360 held-out images. All three libraries read their variable at their first operation.
    """
    os.environ.update(ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41", MKL_CBWR="COMPATIBLE")
    if (capability := torch.backends.cpu.get_cpu_capability()) != "DEFAULT":
        raise RuntimeError(
            f"PyTorch already runs its {capability} kernels, so the result would not be reproducible: "
            "train in a fresh process, before any other PyTorch operation"
        )
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def _batches(count: int, size: int) -> list[Tensor]:
    """Shuffle 0..count-1 into batches of `size`; the rest is left out, a tiny batch has poor statistics."""
    return list(torch.randperm(count)[: count - count % size].view(-1, size))


def _distort(images: Tensor, strength: float) -> Tensor:
    """Apply an own random affine map to each image of float32 [n, 1, 8, 8]."""
    if strength == 0:
        return images
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * math.radians(10) * strength
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.1 * strength
    # Coordinates run from -1 to 1 over 8 pixels: half a pixel is 1/8.
    shift = (torch.rand(count, 2) * 2 - 1) / 8 * strength
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    affine = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1).view(count, 2, 3)
    grid = nn.functional.affine_grid(affine, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)
