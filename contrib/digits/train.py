"""Train the digit classifier and write it, with the held-out images, into the package.

    python train.py                    train, write digits.onnx and heldout.npz, report the held-out accuracy
    python train.py --output FOLDER    the same, into another folder
    python train.py --cross-validate   compare recipes on the training split alone; the held-out images are not read

requirements-train.txt says what must be installed.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from digits_network import DigitsNetwork
from digits_onnx import build_model
from digits_split import Examples, load_split, stratified_folds
from digits_training import Recipe, accuracy, as_tensors, train
from numpy.typing import NDArray

PACKAGE = Path(__file__).parent / "src" / "tenonrt_digits"
FOLDS = 5
RECIPES = [Recipe(epochs=epochs, distortion=distortion) for epochs in (30, 60) for distortion in (0.0, 1.0)]


def main() -> None:
    """Read the command line and train or cross-validate."""
    parser = argparse.ArgumentParser(description="Train the digit classifier of tenonrt-digits.")
    parser.add_argument("--cross-validate", action="store_true", help="compare recipes on the training split alone")
    parser.add_argument("--output", type=Path, default=PACKAGE, help="folder for digits.onnx and heldout.npz")
    options = parser.parse_args()
    training, heldout = load_split()
    if options.cross_validate:
        cross_validate(training)
    else:
        train_and_write(training, heldout, options.output)


def cross_validate(training: Examples) -> None:
    """Print each recipe's mean accuracy over the folds of the training split."""
    folds = stratified_folds(training.labels, FOLDS)
    for recipe in RECIPES:
        scores = [_fold_accuracy(training, fold, recipe) for fold in folds]
        print(f"{np.mean(scores):.4f}  worst fold {min(scores):.4f}  {recipe}", flush=True)


def train_and_write(training: Examples, heldout: Examples, folder: Path) -> None:
    """Train with the default recipe, write both files to `folder` and print the held-out accuracy."""
    recipe = Recipe()
    begin = time.perf_counter()
    network = train(training, recipe)
    seconds = time.perf_counter() - begin
    weights = {name: value.numpy() for name, value in network.state_dict().items() if value.is_floating_point()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "digits.onnx"
    onnx.save(build_model(weights, recipe.dropout), path)
    np.savez_compressed(folder / "heldout.npz", images=heldout.images, labels=heldout.labels)
    _require_same_probabilities(network, path, heldout)
    score = accuracy(network, heldout)
    print(f"trained on {len(training.labels)} images in {seconds:.1f} s; {path.stat().st_size:,} bytes")
    print(f"held-out accuracy {score:.4f} ({round(score * len(heldout.labels))} of {len(heldout.labels)})")


def _fold_accuracy(training: Examples, fold: NDArray[np.int64], recipe: Recipe) -> float:
    rest = np.setdiff1d(np.arange(len(training.labels)), fold)
    return accuracy(train(training.take(rest), recipe), training.take(fold))


def _require_same_probabilities(network: DigitsNetwork, path: Path, examples: Examples) -> None:
    """Raise AssertionError when the ONNX file does not compute what the trained network does."""
    images, _ = as_tensors(examples)
    with torch.no_grad():
        expected = torch.softmax(network(images), dim=1).numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"image": images.numpy()})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=f"{path} differs from the trained network")


if __name__ == "__main__":
    main()
