"""Every command on a real model and plan: what it prints, writes and returns."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

Tenonrt = Callable[..., subprocess.CompletedProcess[str]]


def test_build_reports_ladder_memory_and_time(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    result = tenonrt("build", model, "-o", tmp_path / "m.plan", "--opt-level", 0, "--workspace", "1M", "--threads", 2)
    assert result.returncode == 0, result.stderr
    assert "Layers after each step" in result.stdout
    assert "original" in result.stdout
    for label in ("steps", "arena", "weights", "build time"):
        assert label in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["m.plan"]


def test_output_of_a_build_holds_nothing_but_the_report(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    result = tenonrt("build", model, "-o", tmp_path / "m.plan")
    assert result.returncode == 0, result.stderr
    assert "HiGHS" not in result.stdout
    assert result.stderr == ""


def test_shape_and_timing_cache_reach_the_build(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    cache = tmp_path / "times.db"
    arguments = ("build", model, "-o", tmp_path / "m.plan", "--shape", "x=3x1x4x4", "--timing-cache", cache)
    assert "float32[3x1x4x4]" in tenonrt(*arguments).stdout
    assert "0 misses" in tenonrt(*arguments).stdout


def test_ranges_of_shapes_are_profiles(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    target = tmp_path / "m.plan"
    ranges = ("--shape", "x=1x1x4x4:2x1x4x4:4x1x4x4:4x1x4x4", "--shape", "x=6x1x4x4:6x1x4x4:8x1x4x4")
    built = tenonrt("build", model, "-o", target, "--opt-level", 0, *ranges)
    assert built.returncode == 0, built.stderr
    for line in ("N 1 to 4", "N 6 to 8", "N=2", "N=4", "N=6"):
        assert line in built.stdout
    shown = tenonrt("inspect", target)
    assert all(f"Steps {where}" in shown.stdout for where in ("of every other shape", "at N=2", "at N=4", "at N=6"))
    assert [t["sizes"] for t in json.loads(tenonrt("inspect", target, "--json").stdout)["tuned"]] == [
        {"N": 2}, {"N": 4}, {"N": 6}]  # fmt: skip
    assert tenonrt("bench", target, "--batch", 4, "--runs", 2, "--layers").returncode == 0
    shape = json.loads(tenonrt("run", target, "--json").stdout)["y/out"]["shape"]
    assert shape == [2, 3]  # what was tuned for first
    refused = tenonrt("run", target, "--batch", 5)
    assert refused.returncode == 1
    assert "no profile of this engine holds N=5" in refused.stderr


def test_ranges_that_do_not_go_together_are_wrong_usage(model: Path, tenonrt: Tenonrt) -> None:
    three = ("--shape", "x=1x1x4x4:2x1x4x4:4x1x4x4") * 3
    uneven = tenonrt("build", model, *three, *("--shape", "mask=2:2:2") * 2)
    assert uneven.returncode == 2
    assert "mask has 2 ranges, another input 3" in " ".join(uneven.stderr.replace("│", " ").split())
    for command in ("run", "bench"):
        refused = tenonrt(command, model, "--shape", "x=1x1x4x4:2x1x4x4:4x1x4x4")
        assert refused.returncode == 2
        assert "is a range of shapes" in refused.stderr


def test_denied_plugins_are_not_used(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    target = tmp_path / "m.plan"
    result = tenonrt("build", model, "-o", target, "--plugins-deny", "tenonrt-kernel-*")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_run_describes_outputs_and_writes_them(plan: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    result = tenonrt("run", plan, "--batch", 5, "--output-dir", tmp_path / "out", "--seed", 3, "--json")
    assert result.returncode == 0, result.stderr
    outputs = json.loads(result.stdout)
    assert outputs["y/out"]["shape"] == [5, 3]
    assert outputs["doubled"]["dtype"] == "int64"
    written = np.load(outputs["y/out"]["file"], allow_pickle=False)
    np.testing.assert_allclose(written.sum(axis=1), 1, rtol=1e-5)
    assert written.max() == pytest.approx(outputs["y/out"]["max"])
    doubled = np.load(tmp_path / "out" / "doubled.npy", allow_pickle=False)
    assert set(doubled.tolist()) <= {0, 2}  # random integers are 0 and 1


def test_equal_seeds_give_equal_runs(plan: Path, tenonrt: Tenonrt) -> None:
    first, second, other = (tenonrt("run", plan, "--seed", seed, "--json").stdout for seed in (1, 1, 2))
    assert first == second != other


def test_run_takes_inputs_from_files(plan: Path, model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(5).standard_normal((4, 1, 4, 4)).astype(np.float32)
    mask = np.array([7, -2])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "mask.npy", mask)
    given = ("--input", f"x={tmp_path / 'x.npy'}", "-i", f"mask={tmp_path / 'mask.npy'}")
    result = tenonrt("run", plan, *given, "-o", tmp_path)
    assert result.returncode == 0, result.stderr
    expected = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x, "mask": mask})
    np.testing.assert_allclose(np.load(tmp_path / "y_out.npy"), expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(np.load(tmp_path / "doubled.npy"), expected[1])


def test_pickled_input_is_refused(plan: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}]), allow_pickle=True)
    result = tenonrt("run", plan, "--input", f"x={tmp_path / 'x.npy'}")
    assert result.returncode == 1
    assert "pickled objects are never loaded" in result.stderr


def test_a_model_is_built_before_it_runs(model: Path, tenonrt: Tenonrt) -> None:
    result = tenonrt("run", model, "--opt-level", 0, "--shape", "x=2x1x4x4", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["y/out"]["shape"] == [2, 3]


def test_bench_measures_every_batch(plan: Path, tenonrt: Tenonrt) -> None:
    result = tenonrt("bench", plan, "--batch", 1, "--batch", 8, "--runs", 5, "--seconds", 0.05, "--layers", "--json")
    assert result.returncode == 0, result.stderr
    one, eight = json.loads(result.stdout)["measurements"]
    assert (one["batch"], eight["batch"]) == (1, 8)
    for row in (one, eight):
        assert row["runs"] == 5
        assert row["warm_up_runs"] >= 3
        assert 0 < row["min"] <= row["median"] <= row["p90"]
        assert row["throughput"] == pytest.approx(row["batch"] / row["mean"])
        assert row["memory"]["weights"] >= (2 * 9 + 32 * 3) * 4
        assert sum(step["median"] for step in row["steps"]) > 0


def test_bench_prints_tables(plan: Path, tenonrt: Tenonrt) -> None:
    result = tenonrt("bench", plan, "--runs", 3, "--seconds", 0.02, "--layers")
    assert result.returncode == 0, result.stderr
    for word in ("median", "p90", "arena", "Steps at batch 1", "softmax"):
        assert word in result.stdout


def test_inspect_tells_the_whole_story(plan: Path, tenonrt: Tenonrt) -> None:
    result = tenonrt("inspect", plan)
    assert result.returncode == 0, result.stderr
    for word in ("x  float32[Nx1x4x4], N 1 to 8", "tenonrt-device-cpu", "original", "softmax", "chosen", "arena"):
        assert word in result.stdout


def test_inspect_as_json(plan: Path, tenonrt: Tenonrt) -> None:
    data = json.loads(tenonrt("inspect", plan, "--json").stdout)
    assert data["header"]["network"] == "small"
    assert data["report"]["ladder"][0]["layers"] == 6
    assert {source for step in data["steps"] for source in step["sources"]} >= {"conv", "softmax", "double"}
    assert all(step["kernel"] and step["tactic"] for step in data["steps"])
    assert data["memory"]["weights"] > 0


def test_inspect_needs_no_plugin(plan: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    """A plan that needs what is not installed can be read, though not run."""
    from tenonrt.plan.container import PlanFile, write_plan
    from tenonrt.plan.program import Requirement

    file = PlanFile(plan)
    absent = Requirement("tenonrt-kernel-absent", "9.9", "the kernel of step 'conv'")
    header = msgspec.structs.replace(file.header.plan, device="quantum", requires=(absent,))
    foreign = tmp_path / "foreign.plan"
    write_plan(foreign, header, [(name, [file.section(name)]) for name in ("program", "code", "weights")])
    shown = tenonrt("inspect", foreign)
    assert shown.returncode == 0, shown.stderr
    assert "missing" in shown.stdout
    assert "softmax" in shown.stdout
    ran = tenonrt("run", foreign)
    assert ran.returncode == 1
    assert "quantum" in ran.stderr


def test_plugins_lists_entries(tenonrt: Tenonrt) -> None:
    shown = tenonrt("plugins")
    assert shown.returncode == 0, shown.stderr
    assert "tenonrt-device-cpu" in shown.stdout
    entries = json.loads(tenonrt("plugins", "--json", TENONRT_PLUGINS_DENY="tenonrt-device-*").stdout)
    states = {entry["distribution"]: entry["state"] for entry in entries}
    assert states["tenonrt-device-cpu"] == "blocked"
    assert states["tenonrt-kernel-numpy"] == "found"


def test_plugins_why_imports_what_is_named(tenonrt: Tenonrt) -> None:
    (entry,) = json.loads(tenonrt("plugins", "--why", "tenonrt-device-cpu", "--json").stdout)
    assert entry["state"] == "loaded"


def test_plugins_why_tells_what_nobody_will_ask_for(tenonrt: Tenonrt, tmp_path: Path) -> None:
    """The class imports, so that nothing else would say why the kernel is never a candidate."""
    (tmp_path / "odd.py").write_text("class K: pass\n")
    for name, kernel in (("odd-kind", "cpu/acme.Nothing.odd"), ("odd-route", "cpu.Softmax/odd")):
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        twice = "[tenonrt.layers]\nodd.Both = odd:K\n"
        (info / "entry_points.txt").write_text(f"[tenonrt.kernels]\n{kernel} = odd:K\n{twice}")
    said = tenonrt("plugins", "--why", "odd-kind", path=tmp_path).stdout
    assert "no installed distribution offers 'acme.Nothing' of tenonrt.layers" in said
    assert "odd-kind 1.0 and odd-route 1.0 both offer 'odd.Both'" in said
    said = tenonrt("plugins", "--why", "cpu.Softmax/odd", path=tmp_path).stdout
    assert "no installed distribution offers 'cpu.Softmax' of tenonrt.devices" in said
    assert "nothing will ask" not in tenonrt("plugins", "--why", "tenonrt-kernel-numpy").stdout


def test_a_plan_without_weights_whose_batch_is_a_symbol(tenonrt: Tenonrt, tmp_path: Path) -> None:
    """Its weights section is empty and its concatenation writes parts of a tensor of symbolic size."""
    from tenonrt import Network, compile, symbol

    network = Network("joined")
    batch = symbol("N", 1, 8)
    left, right = (network.add_input(name, (batch, size)) for name, size in (("left", 2), ("right", 4)))
    joined = network.add_concatenation(
        network.add_activation(left, function="relu"), network.add_activation(right, function="relu"), axis=1
    )
    network.mark_output(joined, "joined")
    path = tmp_path / "joined.plan"
    compile(network).save(path)
    result = tenonrt("run", path, "--batch", 3, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["joined"]["shape"] == [3, 6]


def test_check_lists_layers_with_their_plugins(model: Path, tenonrt: Tenonrt) -> None:
    result = tenonrt("parse", "--check", model)
    assert result.returncode == 0, result.stderr
    assert "Everything is supported" in result.stdout
    found = json.loads(tenonrt("parse", model, "--json").stdout)
    assert found["layers"]["Convolution"]["nodes"] == ["conv"]
    assert found["layers"]["Convolution"]["distribution"].startswith("tenonrt-layer-convolution ")
    assert found["outputs"] == {"y/out": "float32[Nx3]", "doubled": "int64[2]"}


def test_check_lists_what_is_missing(tenonrt: Tenonrt, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [helper.make_node(kind, ["x"], [kind], name=kind, domain="acme") for kind in ("Fold", "Unfold")]
    graph = helper.make_graph(
        nodes,
        "lacking",
        [helper.make_tensor_value_info("x", floats, [2])],
        [helper.make_tensor_value_info(kind, floats, [2]) for kind in ("Fold", "Unfold")],
    )
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    result = tenonrt("parse", "--check", tmp_path / "m.onnx")
    assert result.returncode == 1
    assert "acme:Fold" in result.stderr
    assert "acme:Unfold" in result.stderr
    assert "Supported" not in result.stdout


def test_check_lists_what_is_supported_beside_what_is_missing(tenonrt: Tenonrt, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Fold", ["b"], ["c"], domain="acme"),
        helper.make_node("Celu", ["c"], ["d"]),
        helper.make_node("Twice", ["d"], ["y"], domain="lib"),
    ]
    ends = [helper.make_tensor_value_info(name, floats, [2]) for name in ("x", "y")]
    imports = [helper.make_opsetid(domain, 20) for domain in ("", "acme", "lib")]
    twice = helper.make_function("lib", "Twice", ["p"], ["q"], [helper.make_node("Add", ["p", "p"], ["q"])], imports)
    graph = helper.make_graph(nodes, "lacking", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=imports, functions=[twice], ir_version=10), tmp_path / "m.onnx")
    result = tenonrt("parse", "--check", tmp_path / "m.onnx")
    assert result.returncode == 1
    assert "acme:Fold" in result.stderr
    assert "acme:Fold" not in result.stdout
    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if len(line.split()) > 2}
    assert lines["Relu"][:2] == ["2", "tenonrt-parser-onnx"]
    assert lines["Add"][0] == "1"
    assert lines["lib:Twice"] == ["1", *"a function of other operators".split()]
    assert "Supported" not in tenonrt("parse", tmp_path / "m.onnx").stdout


def test_a_locked_build_takes_what_the_cache_knows_and_fails_on_a_miss(
    model: Path, tenonrt: Tenonrt, tmp_path: Path
) -> None:
    cache, plan = tmp_path / "times.db", tmp_path / "m.plan"
    arguments = ("build", model, "--timing-cache", cache)
    missed = tenonrt(*arguments, "-o", plan, "--lock")
    assert missed.returncode == 1
    assert "locked" in missed.stderr
    assert "first runs" in missed.stderr
    assert not plan.exists()
    assert tenonrt(*arguments, "-o", plan).returncode == 0
    locked = tenonrt(*arguments, "-o", tmp_path / "again.plan", "--lock")
    assert locked.returncode == 0, locked.stderr
    replayed = tenonrt("build", model, "-o", tmp_path / "replayed.plan", "--replay", plan)
    assert replayed.returncode == 0, replayed.stderr
    assert "problems timed" not in replayed.stdout
    steps = [
        json.loads(tenonrt("inspect", found, "--json").stdout)["steps"] for found in (plan, tmp_path / "replayed.plan")
    ]
    assert steps[0] == steps[1]
    preferred = tenonrt(*arguments, "-o", tmp_path / "preferred.plan", "--prefer", plan)
    assert "the preferred selection was kept" in preferred.stdout, preferred.stderr


def test_what_cannot_be_disabled_is_named(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    result = tenonrt("build", model, "-o", tmp_path / "m.plan", "--disable", "fusoin")
    assert result.returncode == 1
    assert "'fusoin'" in result.stderr
    assert "fusion" in result.stderr
    assert "fuse.affine" in result.stderr


def test_inspect_says_why_a_step_won(plan: Path, tenonrt: Tenonrt) -> None:
    result = tenonrt("inspect", plan, "--step", "conv")
    assert result.returncode == 0, result.stderr
    assert "instead" in result.stdout or "Nothing else" in result.stdout
    unknown = tenonrt("inspect", plan, "--step", "nothing-like-it")
    assert unknown.returncode == 1
    assert "nothing-like-it" in unknown.stderr


def test_inspect_lists_the_bytes_of_every_tensor(plan: Path, tenonrt: Tenonrt) -> None:
    shown = tenonrt("inspect", plan, "--memory")
    assert shown.returncode == 0, shown.stderr
    tensors = json.loads(tenonrt("inspect", plan, "--json").stdout)["memory"]["tensors"]
    assert {"softmax", "x"} <= {tensor["name"] for tensor in tensors}
    assert all(tensor["name"] in shown.stdout for tensor in tensors)
    weights = [tensor for tensor in tensors if tensor["where"] == "weights"]
    assert all(tensor["bytes"] is not None for tensor in weights)


def test_rank_times_the_candidates_for_one_layer(model: Path, tenonrt: Tenonrt) -> None:
    ranked = tenonrt("rank", model, "--layer", "conv", "--shape", "x=2x1x4x4", "--json")
    assert ranked.returncode == 0, ranked.stderr
    regions = json.loads(ranked.stdout)
    assert all(any("conv" in layer for layer in region["layers"]) for region in regions)
    best = [region["candidates"][0] for region in regions]
    assert any(candidate["seconds"] for candidate in best)
    shown = tenonrt("rank", model, "--layer", "conv", "--shape", "x=2x1x4x4")
    assert "fastest" in shown.stdout, shown.stderr
    wrong = tenonrt("rank", model, "--layer", "cnov")
    assert wrong.returncode == 1
    assert "did you mean" in wrong.stderr


def test_caches_are_listed_merged_and_pruned(model: Path, tenonrt: Tenonrt, tmp_path: Path) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    assert tenonrt("build", model, "-o", tmp_path / "m.plan", "--timing-cache", first).returncode == 0
    listed = json.loads(tenonrt("cache", "list", first, "--json").stdout)
    assert any("numpy" in row["kernel"] or "llvm" in row["kernel"] for row in listed)
    assert sum(row["timed"] for row in listed) > 0
    count = sum(row["entries"] for row in listed)
    assert f"{count} entries added" in tenonrt("cache", "merge", second, first).stdout
    assert "0 entries dropped" in tenonrt("cache", "prune", second, "--other-machines").stdout
    locked = tenonrt("build", model, "-o", tmp_path / "n.plan", "--timing-cache", second, "--lock")
    assert locked.returncode == 0, locked.stderr
    assert "no timing cache" in tenonrt("cache", "list", tmp_path / "none.db").stderr
