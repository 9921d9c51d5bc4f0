"""The data, the model file and the split that tenonrt-digits ships."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tenonrt_digits
from numpy.typing import NDArray

PROJECT = Path(__file__).parents[1]


def test_heldout_has_360_images_36_of_each_digit() -> None:
    images, labels = tenonrt_digits.heldout()
    assert images.shape == (360, 1, 8, 8)
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [36] * 10


def test_heldout_pixels_are_sixteenths_from_0_to_1() -> None:
    images, _ = tenonrt_digits.heldout()
    assert images.min() == 0
    assert images.max() == 1
    assert np.array_equal(images * 16, np.round(images * 16))


def test_heldout_is_a_fresh_copy_each_time() -> None:
    tenonrt_digits.heldout()[0][:] = -1
    assert tenonrt_digits.heldout()[0].min() == 0


def test_model_file_is_small() -> None:
    assert 10_000 < tenonrt_digits.model_path().stat().st_size < 300_000


def test_missing_file_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenonrt_digits, "_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"digits\.onnx is missing: reinstall tenonrt-digits"):
        tenonrt_digits.model_path()
    with pytest.raises(FileNotFoundError, match=r"heldout\.npz is missing"):
        tenonrt_digits.heldout()


def _probabilities(images: NDArray[np.float32]) -> NDArray[np.float32]:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tenonrt_digits.model_path(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(["probabilities"], {"image": images})
    return np.asarray(result)


def test_accuracy_on_heldout_images() -> None:
    images, labels = tenonrt_digits.heldout()
    assert np.mean(_probabilities(images).argmax(axis=1) == labels) >= 0.97


def test_outputs_are_probabilities() -> None:
    result = _probabilities(tenonrt_digits.heldout()[0])
    assert result.shape == (360, 10)
    assert result.min() >= 0
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 7])
def test_batch_is_symbolic(batch: int) -> None:
    images, _ = tenonrt_digits.heldout()
    np.testing.assert_allclose(_probabilities(images[:batch]), _probabilities(images)[:batch], rtol=0, atol=1e-6)


def test_model_is_valid_and_left_unoptimized() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tenonrt_digits.model_path())
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("BatchNormalization") == kinds.count("Conv") == 6
    assert {"Dropout", "Add", "Concat", "MaxPool", "Gemm", "Softmax"} < set(kinds)
    assert all(node.name for node in model.graph.node)


def test_every_tensor_shape_is_inferred_with_the_batch_symbol() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(tenonrt_digits.model_path()), strict_mode=True, data_prop=True)
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.value_info, *model.graph.output]
    }
    assert set(shapes) >= {output for node in model.graph.node for output in node.output}
    assert all(shape[0] == "N" for shape in shapes.values())
    assert shapes["image"] == ["N", 1, 8, 8]
    assert shapes["concat5"] == ["N", 32, 4, 4]
    assert shapes["probabilities"] == ["N", 10]


def _split_module() -> ModuleType:
    """Import the script's split from its file: it is not part of the package."""
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("digits_split", PROJECT / "digits_split.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_heldout_file_is_the_split_that_training_leaves_out() -> None:
    _, heldout = _split_module().load_split()
    images, labels = tenonrt_digits.heldout()
    np.testing.assert_array_equal(heldout.images, images[:, 0] * 16)
    np.testing.assert_array_equal(heldout.labels, labels)


def test_no_heldout_image_is_trained_on() -> None:
    training, heldout = _split_module().load_split()
    assert len(training.labels) == 1437
    trained = {image.tobytes() for image in training.images}
    assert not trained & {image.tobytes() for image in heldout.images}
    assert len(trained | {image.tobytes() for image in heldout.images}) == 1797


def test_folds_partition_the_training_split() -> None:
    split = _split_module()
    training, _ = split.load_split()
    folds = split.stratified_folds(training.labels, 5)
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(1437))
    counts = np.array([np.bincount(training.labels[fold], minlength=10) for fold in folds])
    assert np.all(counts.max(axis=0) - counts.min(axis=0) <= 1)
