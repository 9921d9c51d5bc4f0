"""What nothing can be built with is refused when it is said, by the name of the option."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tenonrt import BuilderConfig

WRONG: list[tuple[str, Any]] = [
    ("precision", "fp16"),
    ("precision", None),
    ("optimization_level", 6),
    ("optimization_level", "3"),
    ("optimization_level", 2.5),
    ("threads", 0),
    ("threads", 4097),
    ("threads", "2"),
    ("max_batch", 0),
    ("max_batch", 1.5),
    ("workspace", -1),
    ("workspace", "1M"),
    ("trial_seconds", -1),
    ("trial_seconds", math.nan),
    ("tuning_seconds", "1"),
    ("tolerance", -0.1),
    ("shapes", [("x", (1,))]),
]


@pytest.mark.parametrize(("option", "value"), WRONG)
def test_an_option_that_cannot_be_is_named(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{option} is .*; it must be "):
        BuilderConfig(**{option: value})


@pytest.mark.parametrize("profile", [3, {"x": 3}, {"x": [1, 2, 3]}, {"x": [(1,), (2,)]}, {"x": [(1,), (5,), (4,)]}])
def test_a_profile_that_cannot_be_is_told(profile: Any) -> None:
    with pytest.raises(ValueError, match="a profile"):
        BuilderConfig(profiles=[profile])


def test_the_extremes_are_accepted() -> None:
    for level in range(6):
        BuilderConfig(optimization_level=level, threads=4096, workspace=0, tuning_seconds=0, trial_seconds=math.inf)
