"""Calibration caches: numbers of TensorRT's own files, every header, and what is wrong with bad ones."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.calibration.cache import (
    CacheError,
    check_names,
    load_ranges,
    read_cache,
    read_dynamic_ranges,
    write_cache,
)
from tenonrt.types import Range

MODERN = "TRT-8203-EntropyCalibration2"


@pytest.mark.parametrize(("digits", "limit"), [("3c010204", 1.0), ("3c008102", 0.99609375), ("3c010a14", 1.000244)])
def test_published_scales(digits: str, limit: float) -> None:
    cache = read_cache(f"{MODERN}\nprob: {digits}\n")
    assert cache.scales["prob"] == pytest.approx(limit / 127, rel=1e-6)
    assert cache.ranges()["prob"].upper == pytest.approx(limit, rel=1e-6)


def test_headers() -> None:
    assert read_cache(f"{MODERN}\n").algorithm == "EntropyCalibration2"
    assert read_cache("TRT-5105-MinMaxCalibration\n").algorithm == "MinMaxCalibration"
    assert read_cache("1\n").algorithm == "EntropyCalibration"
    legacy = read_cache("03ff00000000000003feffffde7210be9\nx: 3c010204\n")
    assert (legacy.algorithm, legacy.numbers) == ("LegacyCalibration", (1.0, pytest.approx(0.999999)))
    with pytest.warns(UserWarning, match="unknown header 'somebody'"):
        assert read_cache("somebody\nx: 3c010204\n").scales["x"] == pytest.approx(1 / 127)


def test_names_with_colons_and_spaces() -> None:
    assert set(read_cache(f"{MODERN}\n(Unnamed Layer* 3) [Conv]: out: 3c010204\na:0: 3c010204").scales) == {
        "(Unnamed Layer* 3) [Conv]: out", "a:0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("x: 3c010204\n", "header is missing"),
        (f"{MODERN}\nx 3c010204\n", "line 2: 'x 3c010204' is not"),
        (f"{MODERN}\nx: 3c01020\n", "line 2"),
        (f"{MODERN}\nx: 7fc00000\n", "is nan"),
        (f"{MODERN}\nx: bc010204\n", "which no range has"),
        (f"{MODERN}\nx: 3c010204\nx: 3c010205\n", "line 3: a second scale for 'x'"),
    ],
)
def test_malformed(text: str, message: str) -> None:
    with pytest.raises(CacheError, match=message):
        read_cache(text)


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1).filter(lambda n: n.strip() == n),
        st.floats(0, 2.0**99, width=32),
        max_size=5,
    )
)
def test_written_caches_are_read_again(limits: dict[str, float]) -> None:
    ranges = {name: Range(-limit, limit, "calibrator") for name, limit in limits.items()}
    cache = read_cache(write_cache("MseCalibration", ranges))
    assert cache.algorithm == "MseCalibration"
    wanted = {name: struct.unpack(">f", struct.pack(">f", limit / 127))[0] for name, limit in limits.items()}
    assert dict(cache.scales) == wanted


def test_the_legacy_form_is_written_with_its_numbers() -> None:
    text = write_cache("LegacyCalibration", {"x": Range(-1, 1)}, (1.0, 0.999999))
    assert text == "03ff00000000000003feffffde7210be9\nx: 3c010204\n"


def test_dynamic_ranges(tmp_path: Path) -> None:
    assert read_dynamic_ranges("a:1.5\nb c:0: -2\n") == {"a": Range(-1.5, 1.5, "user"), "b c:0": Range(-2, 2, "user")}
    with pytest.raises(CacheError, match="line 1: 'a=1' is not 'name:value'"):
        read_dynamic_ranges("a=1\n")
    for text, found in (("a:1.5\n", "user"), (f"{MODERN}\na: 3c010204\n", "calibrator")):
        (tmp_path / "f").write_text(text)
        assert load_ranges(tmp_path / "f")[1]["a"].source == found
    with pytest.raises(CacheError, match="cannot be read"):
        load_ranges(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:1\nb:2\na:3\n", "line 3: a second range for 'a', 3 after 1"),
        ("a:1\nb:1e39\n", "line 2: 'b:1e39' is not"),
        ("a:nan\n", "line 1: 'a:nan' is not"),
        ("x: 3c010204\n", "line 1: the header is missing"),
    ],
)
def test_malformed_dynamic_ranges(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ranges").write_text(text)
    with pytest.raises(CacheError, match=message):
        load_ranges(tmp_path / "ranges")


def test_names_that_no_line_can_have() -> None:
    check_names(["a: b", " c "])
    for name in ("a\nb", "a\rb"):
        with pytest.raises(CacheError, match="has a line break"):
            check_names([name])
