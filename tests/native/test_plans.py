"""Plans of machine code: what loads, where, and what is shared."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tenonrt import Engine, Registry
from tenonrt.errors import PlanCorruptError, PlanDeviceError
from tenonrt.plan.plan import BuildRecord
from tenonrt.plugins.selection import PluginSet

Build = Callable[..., Engine]
ROOT = Path(__file__).resolve().parents[2]
SHAPE = (8, 25)
DEVICE = "tenonrt-device-cpu"
ALONE = PluginSet(deny=("tenonrt-kernel-*", "tenonrt-layer-*", "native-cases"))


@pytest.fixture
def engine(build: Build, registry: Registry) -> Engine:
    from native_networks import chain

    return build(chain(registry, 6, SHAPE))


def answer(engine: Engine) -> bytes:
    x = np.random.default_rng(1).standard_normal(SHAPE, np.float32)
    return bytes(engine.create_context().execute({"x": x})["y"].tobytes())


def with_codes(engine: Engine, **changes: Any) -> Engine:
    """The same engine, its plan saying other things of its code."""
    codes = [
        msgspec.structs.replace(code, native=msgspec.structs.replace(code.native, **changes))
        for code in engine.plan.codes
        if code.native is not None
    ]
    return Engine(msgspec.structs.replace(engine.plan, codes=codes), engine.registry)


def moved(engine: Engine) -> Engine:
    """The same engine, as if tuned on a machine of another model."""
    header = msgspec.structs.replace(engine.header, fingerprint={**engine.header.fingerprint, "model": "another"})
    return Engine(msgspec.structs.replace(engine.plan, header=header), engine.registry)


def test_nothing_but_the_device_is_needed(engine: Engine, tmp_path: Path) -> None:
    assert [need.distribution for need in engine.header.requires] == [DEVICE]
    engine.save(tmp_path / "a.plan")
    assert answer(Engine.load(tmp_path / "a.plan", registry=Registry(ALONE))) == answer(engine)


def test_code_is_compiled_anew_when_it_is_not_trusted(engine: Engine, tmp_path: Path) -> None:
    foreign = [msgspec.structs.replace(code, blob=b"no code at all") for code in engine.plan.codes]
    Engine(msgspec.structs.replace(engine.plan, codes=foreign), engine.registry).save(tmp_path / "a.plan")
    loaded = Engine.load(tmp_path / "a.plan", code="ignore", registry=engine.registry)
    assert [code.blob for code in loaded.plan.codes] == [code.blob for code in engine.plan.codes]
    assert answer(loaded) == answer(engine)


def test_another_model_with_the_same_features_runs_the_code_as_it_is(engine: Engine, tmp_path: Path) -> None:
    moved(engine).save(tmp_path / "a.plan")
    with pytest.warns(UserWarning, match="tuned on another machine; its code and choices are used here"):
        loaded = Engine.load(tmp_path / "a.plan", registry=Registry(ALONE))
    assert answer(loaded) == answer(engine)


@pytest.mark.parametrize("changes", [{"features": ("warp9", "asimd9")}, {"machine": "vax"}])
def test_code_for_features_that_are_not_here(engine: Engine, tmp_path: Path, changes: dict[str, Any]) -> None:
    """It is compiled anew where its kernel is installed; otherwise the error names what is missing and the remedy."""
    with_codes(engine, **changes).save(tmp_path / "a.plan")
    assert answer(Engine.load(tmp_path / "a.plan", registry=engine.registry)) == answer(engine)
    missing = "warp9 and asimd9" if "features" in changes else "a vax processor"
    with pytest.raises(PlanDeviceError, match=f"needs {missing}, which this machine lacks.*install native-cases"):
        Engine.load(tmp_path / "a.plan", registry=Registry(PluginSet(deny=("native-cases",))))


@pytest.mark.parametrize(
    "changes",
    [{"entry": 1 << 20}, {"entry": -1}, {"phases": ()}, {"phases": (-3,)}, {"strided": (2,)}, {"scratch": -1}],
)
def test_code_that_cannot_be_called_is_refused(engine: Engine, tmp_path: Path, changes: dict[str, Any]) -> None:
    with_codes(engine, **changes).save(tmp_path / "a.plan")
    with pytest.raises(PlanCorruptError, match="section 'code' is not consistent: code 0"):
        Engine.load(tmp_path / "a.plan")


def test_weights_are_the_mapped_file(engine: Engine, tmp_path: Path) -> None:
    """Nobody copies them, so that processes share them."""
    engine.save(tmp_path / "a.plan")
    loaded = Engine.load(tmp_path / "a.plan")
    context = loaded.create_context()
    context.execute({"x": np.zeros(SHAPE, np.float32)})
    for weight in loaded.plan.weights:
        base: Any = weight
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)
        assert not weight.flags.writeable
    assert not context._runner.resources._aligned


SMAPS = """
import sys, numpy as np
from pathlib import Path
from tenonrt import Engine
context = Engine.load(sys.argv[1]).create_context()
context.execute({"x": np.zeros(500_000, np.float32)})
lines, inside, found = Path("/proc/self/smaps").read_text().splitlines(), False, {}
for line in lines:
    key = line.split()[0]
    if "-" in key and not key.endswith(":"):
        inside = line.endswith("a.plan")
    elif inside and key in ("Rss:", "Private_Dirty:", "Anonymous:"):
        found[key] = found.get(key, 0) + int(line.split()[1])
print(found["Rss:"], found.get("Private_Dirty:", 0) + found.get("Anonymous:", 0))
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's account of memory")
def test_weights_in_memory_are_clean_pages_of_the_file(build: Build, registry: Registry, tmp_path: Path) -> None:
    from native_networks import chain

    build(chain(registry, 6, (500_000,))).save(tmp_path / "a.plan")
    done = subprocess.run(
        [sys.executable, "-c", SMAPS, str(tmp_path / "a.plan")], capture_output=True, text=True, check=True
    )
    resident, dirty = map(int, done.stdout.split())
    assert resident >= 5800  # three weights of 2 MB
    assert dirty == 0


def test_how_a_plan_was_built_is_read_when_somebody_looks(build: Build, registry: Registry, tmp_path: Path) -> None:
    from native_networks import chain

    engine = build(chain(registry, 4, SHAPE))
    engine.save(tmp_path / "a.plan")
    loaded = Engine.load(tmp_path / "a.plan", registry=registry)
    assert loaded.report == engine.report
    assert loaded.choice == engine.choice
    nothing: Any = "no report"
    spoilt = BuildRecord(nothing, nothing)
    Engine(msgspec.structs.replace(engine.plan, record=spoilt), registry).save(tmp_path / "b.plan")
    loaded = Engine.load(tmp_path / "b.plan", registry=registry)
    assert answer(loaded) == answer(engine)
    for ask in (lambda: loaded.report, lambda: loaded.choice):
        with pytest.raises(PlanCorruptError, match=r"b\.plan: section 'program' cannot be understood"):
            ask()


# What takes long to import, and a run of a plan does without: mail, archives and OpenSSL among them.
NEEDLESS = {
    *("llvmlite", "highspy", "onnx", "rich", "typer", "pluggy", "packaging", "tomllib"),
    *("importlib_metadata", "importlib.metadata", "importlib.resources", "email", "zipfile", "tempfile", "logging"),
    *("hashlib", "concurrent.futures", "signal", "tenonrt.graph.passes", "tenonrt.graph.graph", "tenonrt.plan.memory"),
    *("numpy.typing", "traceback", "tenonrt.patch", "tenonrt.shapes", "tenonrt.windows", "tenonrt.calibration"),
}
IMPORTED = """
import json, sys
import numpy
before = set(sys.modules)
from tenonrt import Engine
engine = Engine.load(sys.argv[1])
x = numpy.ones(engine.bindings[0].type.shape, numpy.float32)
engine.create_context().execute({engine.bindings[0].name: x})
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_running_a_plan_imports_little(build: Build, registry: Registry, tmp_path: Path) -> None:
    """How long it takes in a fresh process is measured in benchmarks/bench_native.py."""
    from native_networks import chain

    build(chain(registry, 6, SHAPE)).save(tmp_path / "a.plan")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, "a.plan"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    imported = set(json.loads(done.stdout))
    assert "tenonrt_device_cpu.program.machine" in imported
    assert imported.isdisjoint(NEEDLESS)
    assert not [name for name in imported if name.startswith(("tenonrt_layer", "tenonrt_kernel", "tenonrt.builder"))]


LEAN = """
import json, sys
import numpy as np
from tenonrt import Engine
engine = Engine.load(sys.argv[1])
context = engine.create_context()
x = np.load(sys.argv[2])
y = context.execute({"x": x})["y"]
np.save(sys.argv[3], y)
heavy = {"llvmlite", "highspy", "onnx", "rich", "typer"} & {name.partition(".")[0] for name in sys.modules}
layers = [name for name in sys.modules if name.startswith(("tenonrt_layer", "tenonrt_kernel", "tenonrt.builder"))]
print(json.dumps([sorted(heavy), layers]))
"""


@pytest.mark.slow
def test_the_core_and_the_device_alone_run_a_plan(build: Build, registry: Registry, tmp_path: Path) -> None:
    """Installed as wheels in an environment of their own, without the extras of the core."""
    from native_networks import chain, expected

    uv, python = os.environ.get("UV", "uv"), tmp_path / "venv" / "bin" / "python"
    wheels = tmp_path / "wheels"
    commands = [
        [uv, "build", "--wheel", "--quiet", "--out-dir", wheels, ROOT / "core"],
        [uv, "build", "--wheel", "--quiet", "--out-dir", wheels, ROOT / "plugins" / "device-cpu"],
        [uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"],
        [uv, "pip", "install", "--quiet", "--python", python, "--find-links", wheels, "tenonrt-core", DEVICE],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        if done.returncode:
            pytest.skip(f"an environment could not be made here: {done.stderr[-300:]}")
    build(chain(registry, 6, SHAPE), 2).save(tmp_path / "a.plan")
    x = np.random.default_rng(1).standard_normal(SHAPE, np.float32)
    np.save(tmp_path / "x.npy", x)
    paths = [str(tmp_path / name) for name in ("a.plan", "x.npy", "y.npy")]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TENONRT", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [python, "-c", LEAN, *paths], capture_output=True, text=True, check=False, env=clean, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    heavy, plugins = json.loads(done.stdout)
    assert (heavy, plugins) == ([], [])
    assert np.load(tmp_path / "y.npy").tobytes() == expected(x, 6).tobytes()
