"""The data, the model file and the split that tenonrt-patches ships."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tenonrt_patches
from hypothesis import given, settings
from hypothesis import strategies as st

PROJECT = Path(__file__).parents[1]


def test_heldout_has_patches_of_every_class() -> None:
    images, labels = tenonrt_patches.heldout()
    assert images.shape[1:] == (1, 32, 32)
    assert images.dtype == np.float32
    assert images.min() == 0
    assert images.max() == 1
    assert len(images) == len(labels) > 2000
    assert set(labels.tolist()) == set(range(2 * len(tenonrt_patches.SOURCES)))


def test_turns_of_a_patch_follow_each_other() -> None:
    images, labels = tenonrt_patches.heldout()
    by_patch = images.reshape(-1, 4, 32, 32)
    for turn in range(4):
        np.testing.assert_array_equal(np.rot90(by_patch[:, 0], turn, axes=(1, 2)), by_patch[:, turn])
    np.testing.assert_array_equal(labels.reshape(-1, 4) - labels[::4, np.newaxis], [[0, 1, 0, 1]] * len(by_patch))


def test_patches_without_contrast_are_left_out() -> None:
    for images, _ in (tenonrt_patches.heldout(), tenonrt_patches.calibration()):
        assert (images.std(axis=(1, 2, 3)) * 255 > 7.999).all()
    sky = np.full((2, 32, 32), 200, np.uint8)
    sky[1, ::2] = 220
    assert tenonrt_patches.has_contrast(sky).tolist() == [False, True]


def test_files_are_small() -> None:
    folder = tenonrt_patches.model_path().parent
    assert tenonrt_patches.model_path().stat().st_size < 400_000
    assert (folder / "cells.npz").stat().st_size < 400_000


def test_missing_file_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenonrt_patches, "_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"patches\.onnx is missing: reinstall tenonrt-patches"):
        tenonrt_patches.model_path()
    with pytest.raises(FileNotFoundError, match=r"cells\.npz is missing"):
        tenonrt_patches.heldout()


def test_model_has_depthwise_and_residual_layers_and_is_left_unoptimized() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tenonrt_patches.model_path())
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("BatchNormalization") == kinds.count("Conv") == 20
    assert kinds.count("Add") == 4
    groups = [attribute.i for node in model.graph.node for attribute in node.attribute if attribute.name == "group"]
    assert sum(group > 1 for group in groups) == 6


# the split ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def split() -> ModuleType:
    """The script's split from its file: it is not part of the package."""
    spec = importlib.util.spec_from_file_location("patches_split", PROJECT / "patches_split.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@settings(max_examples=12, deadline=None)
@given(st.integers(64, 200), st.integers(192, 260), st.integers(0, 9))
def test_no_pixel_of_a_heldout_cell_is_trained_on(split: ModuleType, height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    trained = np.zeros(image.shape, bool)
    corners = split.training_corners(image)
    for top, left in corners[::7].tolist() + corners[-1:].tolist():
        trained[top : top + 32, left : left + 32] = True
    heldout = np.zeros(image.shape, bool)
    for top, left in split.cell_corners(image, heldout=True):
        heldout[top : top + 64, left : left + 64] = True
    assert heldout.any()
    assert not (trained & heldout).any()
    free = np.lib.stride_tricks.sliding_window_view(~heldout, (32, 32)).all(axis=(2, 3))
    assert len(corners) == free.sum()  # noise has contrast everywhere: no other patch is left out


def test_cells_are_either_heldout_or_trained_on(split: ModuleType) -> None:
    image = np.arange(330 * 200, dtype=np.int64).reshape(330, 200)
    parts = [split.cells(image, heldout=heldout) for heldout in (True, False)]
    assert [len(part) for part in parts] == [3, 12]
    assert len(np.unique(np.concatenate(parts))) == 15 * 64 * 64
    assert split.calibration_cells(image).shape == (3, 64, 64)
    assert set(split.calibration_cells(image)[:, 0, 0]) <= set(parts[1][:, 0, 0])


def test_files_hold_the_cells_of_the_split(split: ModuleType) -> None:
    pytest.importorskip("skimage")
    images = split.load_sources()
    with np.load(tenonrt_patches.model_path().parent / "cells.npz") as arrays:
        np.testing.assert_array_equal(
            arrays["heldout"], np.concatenate([split.cells(image, heldout=True) for image in images])
        )
        np.testing.assert_array_equal(
            arrays["calibration"], np.concatenate([split.calibration_cells(image) for image in images])
        )
