"""Pins and the build log in real builds of small networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tenonrt import Builder, BuilderConfig, BuildError, Engine, Network, Registry

GEMM, REFERENCE = "tenonrt-kernel-numpy:cpu/Convolution.numpy_gemm", "tenonrt-kernel-numpy:*/*.numpy"
# What these tests choose from: whatever else is installed takes no part.
ALLOWED = "tenonrt-device-cpu,tenonrt-hook-pins,tenonrt-kernel-numpy,tenonrt-layer-*,tenonrt-passes-standard"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENONRT_PLUGINS_ALLOW", ALLOWED)
    monkeypatch.delenv("TENONRT_PINS", raising=False)
    monkeypatch.delenv("TENONRT_BUILD_LOG", raising=False)


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "pins.toml"
    monkeypatch.setenv("TENONRT_PINS", str(path))
    return path


def build(level: int = 0, name: str = "small") -> Engine:
    """y = relu(conv(x)): two layers that one kernel can fuse."""
    network = Network(name, Registry())
    x = network.add_input("x", (1, 2, 5, 5))
    weights = np.random.default_rng(0).standard_normal((3, 2, 3, 3)).astype(np.float32)
    y = network.add_activation(network.add_convolution(x, weights, name="conv1"), function="relu", name="relu1")
    network.mark_output(y, "y")
    return Builder(BuilderConfig(optimization_level=level)).build(network)


def steps(engine: Engine) -> list[tuple[str, str, str]]:
    return [(s.name, s.kernel, s.tactic) for s in engine.report.steps]


def whys(engine: Engine, *layers: str) -> dict[str, str]:
    [region] = [r for r in engine.report.regions if r.layers == layers]
    return {f"{c.kernel}#{c.tactic}": c.why for c in region.candidates}


def test_nobodys_settings_change_nothing() -> None:
    assert steps(build()) == [("conv1 + relu1", GEMM, "im2col")]


@pytest.mark.parametrize("level", [0, 3])
@pytest.mark.parametrize("problem", ["conv1 + relu1", "Convolution + Activation", "Convolution + *"])
def test_a_pin_by_name_or_kinds_decides(pins: Path, problem: str, level: int) -> None:
    # What would compute the layers one by one is out of the way, so that the fused region is sure to be chosen.
    pins.write_text(f'forbid = ["{REFERENCE}"]\npin = {{ "{problem}" = "{GEMM}#shifted" }}\n')
    engine = build(level)
    assert steps(engine) == [("conv1 + relu1", GEMM, "shifted")]
    assert f"pin.{problem!r} of {pins}" in whys(engine, "conv1", "relu1")[f"{GEMM}#im2col"]


def test_a_pin_by_key_and_by_pattern(pins: Path) -> None:
    [key] = [r.problem for r in build_without(pins).report.regions if r.layers == ("conv1", "relu1")]
    pins.write_text(f'[pin]\n{key} = "*numpy_gemm#shift*"\n')
    assert steps(build()) == [("conv1 + relu1", GEMM, "shifted")]


def build_without(pins: Path) -> Engine:
    pins.write_text("")
    return build()


@pytest.mark.parametrize("pattern", ["*gemm", "cpu/Convolution.*", GEMM, "tenonrt-kernel-numpy:cpu/*", "*numpy_gemm#*"])
@pytest.mark.parametrize("reason", [None, "wrong on our images"])
def test_a_forbidden_kernel_is_reported_with_the_reason(pins: Path, pattern: str, reason: str | None) -> None:
    item = f'"{pattern}"' if reason is None else f'{{ kernel = "{pattern}", reason = "{reason}" }}'
    pins.write_text(f"forbid = [{item}]\n")
    engine = build()
    assert [kernel for _, kernel, _ in steps(engine)] == [REFERENCE, REFERENCE]
    words = f"forbidden by tenonrt-hook-pins:pins: {reason or f'{pattern!r} in forbid[0]'} ({pins})"
    assert whys(engine, "conv1") == {f"{REFERENCE}#default": "", f"{GEMM}#im2col": words, f"{GEMM}#shifted": words}


def test_a_forbidden_distribution_leaves_nothing(pins: Path) -> None:
    pins.write_text('forbid = ["tenonrt-kernel-numpy"]\n')
    with pytest.raises(BuildError, match=r"computes 'conv1'.*forbidden by tenonrt-hook-pins:pins: 'tenonrt-ker"):
        build()


def test_the_projects_table_is_read_where_no_file_is_named(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "other"\n')
    assert steps(build()) == [("conv1 + relu1", GEMM, "im2col")]
    project.write_text('[tool.tenonrt.pins]\nforbid = ["*#im2col"]\n')
    assert steps(build()) == [("conv1 + relu1", GEMM, "shifted")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forbid =\n[", r"is not TOML: .*line 1"),
        ('forbids = ["a"]', r"there is no field 'forbids'; the fields are forbid and pin"),
        ('forbid = "a"', r"forbid is 'a'; it must be a list of patterns"),
        ('forbid = ["a", 3]', r"forbid\[1\] is 3; it must be"),
        ('forbid = [{ kernel = "a", why = "b" }]', r"forbid\[0\] is .*'why'"),
        ('forbid = [{ reason = "b" }]', r"forbid\[0\] is"),
        ('pin = ["a"]', r"pin is \['a'\]; it must be a table"),
        ('pin = { conv1 = "numpy_gemm" }', r"pin.'conv1' is 'numpy_gemm'; it must be a string .*#<tactic>"),
        ("pin = { conv1 = 1 }", r"pin.'conv1' is 1"),
        (
            'pin = { conv1 = "a#b" }',
            r"pin.'conv1' is 'a#b', which is no candidate of conv1; its candidates are .*#im2col",
        ),
    ],
)
def test_a_mistake_ends_the_build_and_is_named_with_file_and_field(pins: Path, text: str, message: str) -> None:
    pins.write_text(text)
    with pytest.raises(BuildError, match=rf"{pins}.*{message}"):
        build()


def test_a_missing_file_ends_the_build(pins: Path) -> None:
    with pytest.raises(BuildError, match=rf"{pins} \(of TENONRT_PINS\) cannot be read"):
        build()


def test_a_pin_that_meets_no_problem_is_told(pins: Path) -> None:
    pins.write_text(f'pin = {{ conv9 = "{GEMM}#im2col" }}\n')
    with pytest.warns(UserWarning, match=r"pins.toml: pin.'conv9' is no problem of the network 'small'"):
        build()


def test_every_build_adds_a_line_to_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "builds.jsonl"
    monkeypatch.setenv("TENONRT_BUILD_LOG", str(log))
    reports = [build(0, "first").report, build(3, "second").report]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["network"] for line in lines] == ["first", "second"]
    for line, report in zip(lines, reports, strict=True):
        assert line["cost"] == report.cost
        assert line["steps"] == len(report.steps)  # one, or two where the fused kernel was not the faster
        assert f" {line['misses']} misses" in report.notes[-1]
        assert line["problems"] == len(report.regions) == 3
        assert line["candidates"] == sum(not c.why for r in report.regions for c in r.candidates)


def test_a_log_that_cannot_be_written_is_told_and_the_engine_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENONRT_BUILD_LOG", str(tmp_path))
    with pytest.warns(UserWarning, match=r"tenonrt-hook-pins:pins .* raised in built\(\): IsADirectoryError"):
        assert steps(build())
