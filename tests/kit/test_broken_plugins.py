"""The kit tests itself: every broken plugin breaks its rule and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("broken plugins")

# Subject (distribution, or distribution and entry point) -> the rules that it breaks.
EXPECTED = {
    "broken-wrong": {"test_result_is_right"},
    "broken-raises": {"test_first_run_ends"},
    "broken-crashes": {"test_first_run_ends"},
    "broken-hangs": {"test_first_run_ends"},
    "broken-overflows": {"test_stays_in_its_buffers"},
    "broken-inputs": {"test_leaves_inputs_alone"},
    "broken-supports": {"test_supports_answers_everything"},
    "broken-tactics": {"test_tactics_are_well_formed"},
    "broken-unstable": {"test_tactics_are_stable"},
    "broken-permitted": {"test_what_is_permitted_is_offered"},
    "broken-native": {"test_native_ranges_are_independent"},
    "broken-state": {"test_repeats_bit_for_bit"},
    "broken-strides": {"test_declared_strides_work"},
    "broken-inplace": {"test_in_place_pairs_work"},
    "broken-code": {"test_code_works_in_another_process"},
    "broken-incompatible": {"test_requires_a_bounded_core"},
    "broken-metadata": {
        "test_name_is_well_formed", "test_requires_a_bounded_core", "test_says_what_it_is", "test_loading_is_light",
        "test_takes_builder_node_and_inputs",
    },
    "broken-layers:broken.NotPointwise": {"test_pointwise_is_true"},
    "broken-layers:broken.FalseView": {"test_views_are_true"},
    "broken-layers:broken.Stateful": {"test_reference_is_pure"},
    "broken-layers:broken.NoCases": {"test_has_cases"},
    "broken-layers:broken.SymbolBlind": {"test_symbolic_sizes_give_the_concrete_answer"},
    "broken-layers:broken.Narrow": {"test_reference_works_in_float64"},
    "broken-layers:broken.Lax": {"test_bad_inputs_are_refused"},
    "broken-passes:tidy.drops_layers": {"test_graph_computes_the_same"},
    "broken-parser": {
        "test_sniff_refuses_other_formats", "test_random_bytes_are_a_parse_error", "test_missing_file_is_a_parse_error",
    },
    "broken-fixtures:rows": {"test_sniff_knows_its_own", "test_truncated_files_are_a_parse_error"},
    "broken-hooks": {"test_is_accepted"},
    "broken-calibrator:broken-abstract": {
        "test_is_made_without_options", "test_every_tensor_gets_a_range", "test_ranges_grow_with_the_values",
        "test_values_of_no_range_are_refused",
    },
    "broken-calibrator:broken-shared": {"test_ranges_grow_with_the_values", "test_values_of_no_range_are_refused"},
    "broken-device": {"test_allocate_gives_aligned_bytes", "test_a_failing_step_is_named"},
}  # fmt: skip


@pytest.fixture(scope="module")
def outcome(kit: Any, broken: list[Path]) -> Any:
    """One run over all of them: starting processes is what takes time."""
    return kit.run([path.name for path in broken], "--tenonrt-seconds=5", paths=broken)


@pytest.mark.parametrize("subject", EXPECTED)
def test_breaks_exactly_its_rules(outcome: Any, subject: str) -> None:
    assert outcome.failed(subject) == EXPECTED[subject], outcome.output[-3000:]


def test_every_broken_plugin_is_expected(broken: list[Path]) -> None:
    named = {subject.partition(":")[0] for subject in EXPECTED} | {"broken-import"}
    assert named == {path.name for path in broken}


def test_a_failing_import_is_a_failing_test(outcome: Any) -> None:
    assert outcome.outcomes["test_loads[broken-import:cpu/Softmax.broken_import]"] == "failed"
    assert "libbroken.so.1 is not there" in outcome.output
    assert outcome.status == 1, "a collection error would be 2"


def test_a_raising_pass_fails(outcome: Any) -> None:
    assert "test_graph_computes_the_same" in outcome.failed("broken-passes:tidy.raises")


def test_ids_name_distribution_and_entry_point(outcome: Any) -> None:
    assert "test_result_is_right[broken-wrong:cpu/Softmax.broken_wrong]" in outcome.outcomes


def test_reasons_are_told(outcome: Any) -> None:
    for reason in ("SIGSEGV", "it did not finish within 5 s", "no such luck", "it changed its input 0"):
        assert reason in outcome.output


def test_waivers_are_listed(kit: Any, broken: list[Path]) -> None:
    rules = sorted(EXPECTED["broken-metadata"])
    lines = "\n".join(f"{rule}[broken-metadata*]: known since 1.0" for rule in rules)
    done = kit.run(["broken-metadata"], "-o", f"tenonrt_waivers={lines}", paths=broken)
    assert done.status == 0, done.output
    _, _, summary = done.output.partition("conformance waivers")
    assert all(f"{rule}[broken-metadata" in summary for rule in rules)
    assert summary.count("known since 1.0") >= len(rules)
