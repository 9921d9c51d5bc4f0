"""Calibration of a small network: ranges, caches, callbacks, and the layers that are inserted."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.calibration.batches import batches_of, load_batches
from tenonrt.calibration.cache import CacheError, read_cache, write_cache
from tenonrt.calibration.insertion import quantize_network, quantize_weights
from tenonrt.calibration.session import Calibration, _keep, calibrate, make_calibrator
from tenonrt.errors import BuildError, PluginError
from tenonrt.types import Range

RNG = np.random.default_rng(0)
BATCHES = [RNG.standard_normal((2, 8, 6, 6)).astype(np.float32) for _ in range(3)]
WEIGHTS = [RNG.standard_normal((8, 8, 3, 3)).astype(np.float32) * 0.1 for _ in range(3)]
CONFIG = tenonrt.BuilderConfig(optimization_level=0, precision="int8")


def residual() -> tenonrt.Network:
    """Two convolutions beside a shortcut, then a third."""
    network = tenonrt.Network("residual")
    x = network.add_input("x", (2, 8, 6, 6))
    padding: dict[str, Any] = {"pre_padding": (1, 1), "post_padding": (1, 1)}
    a = network.add_activation(network.add_convolution(x, WEIGHTS[0], name="first", **padding), function="relu")
    b = network.add_convolution(a, WEIGHTS[1], name="second", **padding)
    joined = network.add_activation(network.add_elementwise(b, x, operation="sum"), function="relu", name="joined")
    network.mark_output(network.add_convolution(joined, WEIGHTS[2], name="third", **padding), "y")
    return network


def outputs(engine: tenonrt.Engine) -> list[np.ndarray]:
    context = engine.create_context()
    return [context.execute({"x": batch})["y"] for batch in BATCHES]


def test_a_calibrated_network_is_near_the_real_one(tmp_path: Path) -> None:
    real = outputs(tenonrt.compile(residual(), optimization_level=0))
    cache = tmp_path / "cache"
    told: list[tuple[str, int, int]] = []

    def tell(phase: str, done: int, total: int, detail: str) -> None:
        told.append((phase, done, total))

    def build(data: Any) -> tenonrt.Engine:
        calibration = Calibration(data, "min-max", cache)
        return tenonrt.compile(
            residual(), precision="int8", optimization_level=0, calibration=calibration, progress=tell
        )

    first = outputs(build(BATCHES))
    for found, expected in zip(first, real, strict=True):
        assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert [t for t in told if t[0] == "calibrate"] == [("calibrate", n, 3) for n in (1, 2, 3)]
    again = outputs(build(None))  # from the cache
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_ranges_are_those_of_the_values() -> None:
    ranges = calibrate(residual(), CONFIG, Calibration(BATCHES, "min-max"))
    assert ranges["x"].upper == pytest.approx(max(b.max() for b in BATCHES))
    assert ranges["x"].lower == pytest.approx(min(b.min() for b in BATCHES))
    assert ranges["joined"].lower == 0.0


class Callbacks:
    """TensorRT's words, and in which order they were said."""

    def __init__(self, cache: bytes | None = None) -> None:
        self.cache, self.said, self.left = cache, list[str](), list(BATCHES)

    def get_batch_size(self) -> int:
        return 2

    def get_batch(self, names: Sequence[str]) -> Sequence[np.ndarray] | None:
        self.said.append(f"get {names}")
        return [self.left.pop()] if self.left else None

    def read_calibration_cache(self) -> bytes | None:
        self.said.append("read")
        return self.cache

    def write_calibration_cache(self, cache: bytes) -> None:
        self.said.append("write")
        self.cache = cache


def test_callbacks_are_asked_as_tensorrt_asks() -> None:
    first = Callbacks()
    ranges = calibrate(residual(), CONFIG, Calibration(first, "min-max"))
    assert first.said == ["read", *["get ['x']"] * 4, "write"]
    second = Callbacks(first.cache)
    assert calibrate(residual(), CONFIG, Calibration(second, "min-max")).keys() == ranges.keys()
    assert second.said == ["read"]


def test_caches_of_others_are_refused(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    calibrate(residual(), CONFIG, Calibration(BATCHES, "legacy", cache, {"quantile": 1.0, "cutoff": 1.0}))
    with pytest.raises(CacheError, match="written by LegacyCalibration, not MinMaxCalibration"):
        calibrate(residual(), CONFIG, Calibration(None, "min-max", cache))
    with pytest.raises(CacheError, match="made with cutoff and quantile"):
        calibrate(residual(), CONFIG, Calibration(None, "legacy", cache))


@pytest.mark.parametrize(
    ("calibration", "error", "message"),
    [
        (Calibration(None), BuildError, "nothing to calibrate with"),
        (Calibration([]), BuildError, "have no batch"),
        (Calibration(3), BuildError, "expected an iterable"),
        (Calibration([{"z": BATCHES[0]}]), BuildError, "x, z"),
        (Calibration([[BATCHES[0]] * 2]), BuildError, "2 arrays for the inputs x"),
        (
            Calibration([BATCHES[0] * np.nan], "min-max"),
            BuildError,
            "the tensor 'x': it has values that are not finite",
        ),
        (Calibration(BATCHES, "guess"), PluginError, "offers the calibrator 'guess'; installed: "),
        (Calibration(BATCHES, "min-max", options={"wide": 1}), PluginError, "does not take these options"),
        (Calibration(BATCHES, "percentile", options={"percentile": 0}), PluginError, "options: percentile is 0"),
        (Calibration(BATCHES, "legacy", options={"quantile": "all"}), PluginError, "does not take these options"),
        (Calibration(BATCHES, cache="no folder/cache"), CacheError, "there is no such folder"),
        (Calibration(BATCHES, keep=frozenset({"secnd"})), BuildError, "did you mean second"),
    ],
)
def test_what_cannot_be_calibrated_is_named(calibration: Calibration, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        calibrate(residual(), CONFIG, calibration)


def test_files_of_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.concatenate(BATCHES[:2]))
    np.save(tmp_path / "b.npy", BATCHES[2])
    network = residual()
    found = calibrate(network, CONFIG, Calibration(_pairs(tmp_path), "min-max"))
    assert found == calibrate(residual(), CONFIG, Calibration(BATCHES, "min-max"))
    assert found == calibrate(residual(), CONFIG, Calibration(tmp_path, "min-max"))
    (tmp_path / "c.npy").write_bytes(b"no array")
    with pytest.raises(BuildError, match=r"c\.npy is no \.npy"):
        list(_pairs(tmp_path))


def _pairs(folder: Path) -> Any:
    from tenonrt.calibration.batches import load_batches

    return load_batches(folder, residual().graph.inputs)


@pytest.mark.parametrize(("axis", "sizes"), [(4, [4, 4]), (tenonrt.symbol("N", 1, 3), [3, 3, 2]), (None, [8])])
def test_batches_of_a_file_are_what_the_model_takes(tmp_path: Path, axis: Any, sizes: list[int]) -> None:
    from tenonrt.calibration.batches import load_batches

    network = tenonrt.Network("one input")
    network.add_input("x", (tenonrt.symbol("N") if axis is None else axis, 2))
    np.save(tmp_path / "x.npy", np.zeros((8, 2), np.float32))
    found = load_batches(tmp_path / "x.npy", network.graph.inputs)
    assert [len(batch["x"]) for batch in found] == sizes


def test_files_whose_samples_make_no_batches_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 8, 6, 6), np.float32))
    with pytest.raises(BuildError, match=r"x\.npy has 5 samples, and the model takes batches of 2 and no others"):
        calibrate(residual(), CONFIG, Calibration(tmp_path / "x.npy"))
    network = tenonrt.Network("two inputs")
    for name in "ab":
        network.add_input(name, (tenonrt.symbol("N"), 2))
    np.savez(tmp_path / "ab.npz", a=np.zeros((3, 2)), b=np.zeros((2, 2)))
    np.savez(tmp_path / "scalar.npz", a=np.zeros((3, 2)), b=np.zeros(()))
    from tenonrt.calibration.batches import load_batches

    for name, found in (("ab.npz", "a 3, b 2"), ("scalar.npz", "a 3, b 0")):
        with pytest.raises(BuildError, match=f"same number of samples for each input, .*: {found}"):
            list(load_batches(tmp_path / name, network.graph.inputs))


@pytest.mark.parametrize("batch", [None, "x.npy", 3.0, np.zeros((0, 8, 6, 6), np.float32)])
def test_what_is_no_batch_is_named(batch: Any) -> None:
    with pytest.raises(BuildError, match=r"a calibration batch (is|has no samples)"):
        list(batches_of([batch], residual().graph.inputs))


def test_damaged_files_of_samples_are_named(tmp_path: Path) -> None:
    """Cut off anywhere, with a wrong byte anywhere, of objects, or of more than any memory holds."""
    path, inputs = tmp_path / "x.npz", residual().graph.inputs
    np.savez(path, x=BATCHES[0])
    whole = path.read_bytes()
    cuts = [whole[:at] for at in range(0, len(whole), 251)]
    changed = [whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :] for at in (0, 150, len(whole) - 3)]
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000000, 8, 6, 6), }\n"
    huge = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    for content in (*cuts, *changed, huge, (tmp_path / "objects.npz").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(BuildError, match=r"x\.npz is no \.npy or \.npz file of numbers"):
            list(load_batches(path, inputs))


@pytest.mark.filterwarnings("ignore:.*unknown header")
def test_caches_of_other_networks_and_cut_off_ones(tmp_path: Path) -> None:
    """None of the ranges that int8 needs is an error, some of them a warning; ranges set by hand may be a few."""
    cache, network = tmp_path / "cache", residual()
    lines = write_cache("MinMaxCalibration", {name: Range(-1, 1) for name in ("x", "first", "joined")}).splitlines()
    for text in (lines[0], f"{lines[0]}\nz: 3c010204", "T", "z:1.5"):
        cache.write_text(text)
        with pytest.raises(CacheError, match="no range for any tensor that int8 would read"):
            calibrate(network, CONFIG, Calibration(None, "min-max", cache))
    cache.write_text("\n".join(lines[:2]))
    with pytest.warns(UserWarning, match="has no range for .*joined; the layers that read them stay real"):
        assert set(calibrate(network, CONFIG, Calibration(None, "min-max", cache))) == {"x"}
    cache.write_text("x:1.5")
    assert calibrate(network, CONFIG, Calibration(None, "min-max", cache))["x"] == Range(-1.5, 1.5, "user")


@pytest.mark.parametrize("given", [b"\xff\xfe", "text"])
def test_callbacks_that_give_no_text(given: Any) -> None:
    with pytest.raises(CacheError, match=r"read_calibration_cache\(\) gave no bytes of text"):
        calibrate(residual(), CONFIG, Calibration(Callbacks(given), "min-max"))


def test_a_cache_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    cache.write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheError, match=r"cache cannot be written: .*No space left"):
        _keep(Calibration(cache=cache), "after")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def full(number: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_infinities_that_int_8_does_not_read_are_left_out() -> None:
    """A mask of attention has them."""
    network = tenonrt.Network("masked")
    x = network.add_input("x", (2, 8))
    y = network.add_fully_connected(x, WEIGHTS[0][:, :, 0, 0], name="scores")
    mask = np.array([[0.0, -np.inf] * 4], np.float32)
    masked = network.add_elementwise(y, mask, operation="sum", name="masked")
    network.mark_output(network.add_activation(masked, function="relu", name="after"), "y")
    ranges = calibrate(network, CONFIG, Calibration([BATCHES[0][:, :, 0, 0]], "min-max"))
    assert "x" in ranges
    assert "masked" not in ranges


@pytest.mark.parametrize("limit", [0.0, 1e-45, 1e-37, 1e40, 1e300])
def test_what_no_scale_can_stand_for_stays_real(limit: float) -> None:
    """The reciprocal of its scale, or the scale itself, is no float32."""
    network = residual()
    ranges = {name: Range(-1, 1) for name in ("first/activation", "joined")}
    assert "first" not in quantize_network(network, {**ranges, "x": Range(-limit, limit)})


def test_an_engine_of_a_cache_has_the_same_scales() -> None:
    """A cache rounds scales to float32; so does what calibration found, before it is halved for uint8."""
    for limit in np.random.default_rng(2).uniform(0.1, 10, 40):
        found = {"joined": Range(-limit, limit)}
        cached = read_cache(write_cache("MinMaxCalibration", found)).ranges()
        scales = []
        for ranges in (found, cached):
            network = residual()
            quantize_network(network, ranges)
            scales += [layer.inputs[1].constant for layer in network.layers if layer.kind == "Quantize"]
        assert len(scales) == 2
        assert scales[0] == scales[1]


def test_layers_that_are_kept_stay_real() -> None:
    network = residual()
    ranges = calibrate(network, CONFIG, Calibration(BATCHES, "min-max"))
    assert quantize_network(network, ranges, {"second"}) == ["first", "third"]
    kinds = {layer.name: layer.inputs[1].producer for layer in network.layers if layer.kind == "Convolution"}
    assert kinds["second"] is None
    assert kinds["first"].kind == kinds["third"].kind == "Dequantize"
    network = residual()
    for layer in network.layers[:2]:  # a convolution and what follows it
        layer.sources = ("node of the model",)
    assert quantize_network(network, ranges, {"node of the model"}) == ["second", "third"]
    with pytest.raises(BuildError, match="is called secnd; did you mean second"):
        quantize_network(residual(), ranges, {"secnd"})


def test_weights_have_127_steps_on_either_side() -> None:
    weights = np.random.default_rng(1).standard_normal((5, 4, 3)).astype(np.float32)
    weights[2] = 0
    stored, scale = quantize_weights(weights, 0)
    assert np.abs(stored).max(axis=(1, 2)).tolist() == [127, 127, 0, 127, 127]
    assert np.abs(stored * scale.reshape(-1, 1, 1) - weights).max() <= scale.max() / 2 + 1e-6
    assert scale[2] == 1.0


@pytest.mark.filterwarnings("error")
def test_weights_that_have_no_scale() -> None:
    """Too small ones are zeros; layers with infinities and NaN stay real."""
    stored, scale = quantize_weights(np.array([[1e-44, -1e-40, 0], [1, 2, 3]], np.float32), 0)
    np.testing.assert_array_equal(stored, [[0, 0, 0], [42, 85, 127]])
    assert scale[0] == 1.0
    for value in (np.inf, np.nan):
        network = tenonrt.Network("one layer")
        weights = np.array([[1, value], [2, 3]], np.float32)
        network.mark_output(network.add_fully_connected(network.add_input("x", (2, 2)), weights), "y")
        assert quantize_network(network, {"x": Range(-1, 1)}) == []


def test_calibration_is_for_int8() -> None:
    with pytest.raises(BuildError, match="for precision int8 or best, not float32"):
        tenonrt.compile(residual(), calibration=Calibration(BATCHES))


def test_calibrated_networks_may_use_all_precisions() -> None:
    engine = tenonrt.compile(
        residual(), precision="best", optimization_level=0, calibration=Calibration(BATCHES, "min-max")
    )
    assert "int8" in {tensor.type.dtype for tensor in engine.plan.program.tensors}


def test_a_calibrator_that_cannot_be_made_is_named() -> None:
    class Unfinished(tenonrt.contracts.Calibrator):
        def observe(self, tensor: str, values: Any) -> None: ...

    registry = tenonrt.Registry()
    entry = registry.find("tenonrt.calibrators", "entropy")
    assert entry is not None
    registry.load(entry)
    registry.record(entry).value = Unfinished
    with pytest.raises(PluginError, match=r"tenonrt-calibrator-entropy:entropy: making the calibrator .* abstract"):
        make_calibrator(registry, "entropy", {})
