"""Train the classifier of patches and write it, with the cells of the photographs that are shipped, into the package.

    python train.py                    write patches.onnx and cells.npz, report the held-out accuracy
    python train.py --output FOLDER    the same, into another folder

requirements-train.txt says what must be installed, besides this distribution itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tenonrt_patches
import torch
from numpy.typing import NDArray
from patches_network import PatchesNetwork
from patches_onnx import build_model
from patches_split import calibration_cells, cells, load_sources
from patches_training import Recipe, train
from tenonrt_patches import SOURCES, Pixels

PACKAGE = Path(__file__).parent / "src" / "tenonrt_patches"


def main() -> None:
    """Read the command line, train, write and report."""
    parser = argparse.ArgumentParser(description="Train the classifier of tenonrt-patches.")
    parser.add_argument("--output", type=Path, default=PACKAGE, help="folder for patches.onnx and cells.npz")
    folder: Path = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    images = load_sources()
    write_cells(images, folder / "cells.npz")
    begin = time.perf_counter()
    network = train(images, Recipe())
    weights = {name: value.numpy() for name, value in network.state_dict().items() if value.is_floating_point()}
    path = folder / "patches.onnx"
    onnx.save(build_model(weights), path)
    print(f"trained in {time.perf_counter() - begin:.0f} s; {path.stat().st_size:,} bytes")
    report(network, path, *tenonrt_patches.patches_of(folder / "cells.npz", "heldout"))


def write_cells(images: list[Pixels], path: Path) -> None:
    """Save the held-out cells and some of the others, for calibration, each with the number of its source."""
    parts: dict[str, Callable[[Pixels], Pixels]] = {
        "heldout": lambda image: cells(image, heldout=True),
        "calibration": calibration_cells,
    }
    arrays = {}
    for part, cut in parts.items():
        found = [cut(image) for image in images]
        arrays[part] = np.concatenate(found)
        arrays[f"{part}_sources"] = np.repeat(np.arange(len(images), dtype=np.uint8), [len(each) for each in found])
    np.savez_compressed(path, **arrays)


def report(network: PatchesNetwork, path: Path, patches: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Print the accuracy of the file by source; AssertionError where it does not compute what was trained."""
    with torch.no_grad():
        expected = torch.softmax(network(torch.from_numpy(patches)), dim=1).numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"image": patches})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4, err_msg=f"{path} differs from the trained network")
    classes = found.argmax(axis=1)
    right, placed = classes == labels, classes // 2 == labels // 2
    for number, source in enumerate(SOURCES):
        own = labels // 2 == number
        print(f"{source:>10}  {own.sum():4} patches, {right[own].mean():.1%} right, source {placed[own].mean():.1%}")
    print(f"held-out accuracy {right.mean():.4f} ({right.sum()} of {len(labels)}), source {placed.mean():.1%}")


if __name__ == "__main__":
    main()
