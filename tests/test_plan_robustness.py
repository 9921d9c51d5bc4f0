"""Plans on disk: the same bits in another process, an error for every damage, and never half a file."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tenonrt
from tenonrt.contracts import TensorType, symbol
from tenonrt.errors import (
    CancelledError,
    NotAPlanError,
    PlanCorruptError,
    PlanDeviceError,
    PlanError,
    PlanPluginError,
    PlanVersionError,
)
from tenonrt.plan.container import FileHeader, PlanFile, write_plan
from tenonrt.plan.loading import load_plan
from tenonrt.plan.program import PlanHeader
from tenonrt.plugins.registry import Registry, current_registry
from tenonrt.plugins.selection import PluginSet

HASH_BYTES = slice(20, 52)
ERRORS = (NotAPlanError, PlanVersionError, PlanDeviceError, PlanPluginError, PlanCorruptError)

# networks ------------------------------------------------------------------------------------------------------------


def blocks() -> tenonrt.Network:
    """Convolution, activation, sum and concatenation: kernels with weights, views, in-place results."""
    rng = np.random.default_rng(0)
    net = tenonrt.Network("blocks")
    x = net.add_input("x", (2, 4, 6, 6))
    weights = [rng.standard_normal((4, 4, 3, 3)).astype(np.float32) for _ in range(2)]
    y = net.add_convolution(x, weights[0], None, pre_padding=(1, 1), post_padding=(1, 1))
    y = net.add_activation(y, function="relu")
    z = net.add_convolution(y, weights[1], None, pre_padding=(1, 1), post_padding=(1, 1))
    z = net.add_elementwise(z, x, operation="sum")
    net.mark_output(net.add_concatenation(z, y, axis=1), "y")
    return net


def branches() -> tenonrt.Network:
    """A symbolic batch, a branch with captured tensors, and a shape that depends on data."""
    net = tenonrt.Network("branches")
    x = net.input("x", TensorType((symbol("n", 1, 8), 3)))
    choose = net.input("choose", TensorType((), "bool"))
    yes, no = net.subgraph("yes"), net.subgraph("no")
    yes.mark_output(yes.add_elementwise(x, np.ones(3, np.float32), operation="sum"), "y")
    no.mark_output(no.add_activation(x, function="relu"), "y")
    (y,) = net.add("If", [choose], graphs=[yes, no])
    net.mark_output(y, "y")
    net.mark_output(net.add_non_zero(y), "where")
    return net


def weightless(name: str = "weightless") -> tenonrt.Network:
    """Nothing but activations: the weights section is empty."""
    net = tenonrt.Network(name)
    net.mark_output(net.add_activation(net.add_input("x", (2, 4, 6, 6)), function="relu"), "y")
    return net


# The first three run NumPy's kernels, so that their plans need a distribution; the last is machine code alone.
NETWORKS = {
    "blocks": blocks,
    "branches": branches,
    "weightless": weightless,
    "native": functools.partial(weightless, "native"),
}
PORTABLE = PluginSet(deny=("tenonrt-kernel-llvm",))


def inputs_of(name: str) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    if name != "branches":
        return {"x": rng.standard_normal((2, 4, 6, 6)).astype(np.float32)}
    return {"x": rng.standard_normal((5, 3)).astype(np.float32), "choose": np.array(False)}


def bits(engine: tenonrt.Engine, name: str) -> str:
    outputs = engine.create_context(seed=0).execute(inputs_of(name))
    return hashlib.blake2b(b"".join(k.encode() + v.tobytes() for k, v in sorted(outputs.items()))).hexdigest()


def build(name: str, **options: Any) -> tenonrt.Engine:
    if name != "native":
        options["plugins"] = PORTABLE
    return tenonrt.Builder(tenonrt.BuilderConfig(optimization_level=0, **options)).build(NETWORKS[name]())


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def plan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / f"{request.param}.plan"
    build(request.param).save(path)
    return path


@pytest.fixture(scope="module")
def blocks_plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "blocks.plan"
    build("blocks").save(path)
    return path


# children: this file run as a script ---------------------------------------------------------------------------------


def child(*arguments: object, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)


def run_and_print(path: Path) -> None:
    print(bits(tenonrt.Engine.load(path, verify=True), path.stem))  # noqa: T201


def save_for_ever(path: Path) -> None:
    """Save two plans in turn until killed; says so once it has begun."""
    engines = [build("blocks"), build("branches")]
    print("ready", flush=True)  # noqa: T201
    while True:
        for engine in engines:
            engine.save(path)


def mutate_and_run(path: Path, folder: Path, section: str, seed: int, count: int) -> None:
    """Print a line for each mutated plan: how loading ended, and how running did. A crash ends the lines early."""
    resource.setrlimit(resource.RLIMIT_AS, (5 << 30, 5 << 30))
    rng = random.Random(seed)
    target = folder / path.name
    for _ in range(count):
        write_mutated(path, target, section, rng)
        signal.alarm(20)
        outcome = load_and_run(target)
        signal.alarm(0)
        print(json.dumps(outcome), flush=True)  # noqa: T201


def load_and_run(path: Path) -> tuple[str, str, str]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            engine = tenonrt.Engine.load(path)
        except ERRORS as error:
            return "refused", type(error).__name__, str(error)
        except BaseException as error:  # noqa: BLE001 - what must not happen is reported by the parent
            return "escaped", type(error).__name__, repr(error)
        try:
            bits(engine, path.stem)
        except Exception as error:  # noqa: BLE001 - any exception will do: what counts is that Python lives on
            return "raised", type(error).__name__, str(error)
    return "ran", "", ""


# mutations -----------------------------------------------------------------------------------------------------------

NUMBERS = (-(2**63), -(2**31), -64, -2, -1, 0, 1, 2, 3, 7, 64, 100, 2**16, 2**31, 2**40, 2**62, 2**63 - 1)


def write_mutated(source: Path, target: Path, section: str, rng: random.Random) -> None:
    """One to three changes in the decoded section, encoded again with the right hashes."""
    header, parts = sections_of(source)
    if section == "header":
        changed = mutated(json.loads(msgspec.json.encode(header)), rng)
        write_raw_header(source, target, changed)
        return
    parts[section] = msgspec.msgpack.encode(mutated(msgspec.msgpack.decode(parts[section]), rng))
    write_plan(target, header, [(name, [data]) for name, data in parts.items()])


def sections_of(path: Path) -> tuple[PlanHeader, dict[str, bytes]]:
    file = PlanFile(path)
    return file.header.plan, {s.name: bytes(file.section(s.name)) for s in file.header.sections}


def write_raw_header(source: Path, target: Path, header: Any) -> None:
    """The plan with another JSON header, its length and hash in order."""
    data = source.read_bytes()
    length = int.from_bytes(data[12:20], "little")
    table = json.loads(data[52 : 52 + length])["sections"]
    encoded = json.dumps({"plan": header, "sections": table}).encode()
    body = data[-(-(52 + length) // 64) * 64 :]
    head = data[:12] + len(encoded).to_bytes(8, "little") + hashlib.blake2b(encoded, digest_size=32).digest() + encoded
    target.write_bytes(head + b"\0" * (-len(head) % 64) + body)


def mutated(value: Any, rng: random.Random) -> Any:
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        places = list(walk(value))
        holder, key = rng.choice(places)
        holder[key] = other(holder[key], rng)
    return value


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from walk(value[key])


def other(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return rng.choice([True, False, None, 0, "x"])
    if isinstance(value, int):
        return rng.choice([*NUMBERS, value + 1, value - 1, value * 2])
    if isinstance(value, float):
        return rng.choice([0.0, -1.0, float("1e308"), 3])
    if isinstance(value, str):
        return rng.choice(["", "x", value[:-1], value + "x", "float64", "int8", "string", 5])
    if isinstance(value, list):
        return rng.choice([value[::-1], value[:-1], [*value, *value], [*value[1:], *value[:1]], []])
    if isinstance(value, dict):
        return rng.choice([{}, [], None, 1, dict(list(value.items())[1:])])
    return rng.choice([b"", value + b"x"])


# the tests -----------------------------------------------------------------------------------------------------------


def test_a_new_process_computes_the_same_bits(plan: Path) -> None:
    found = child("run", plan)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == bits(build(plan.stem), plan.stem) == bits(tenonrt.Engine.load(plan), plan.stem)


def test_saving_what_was_loaded_gives_the_same_file(plan: Path, tmp_path: Path) -> None:
    again = tmp_path / plan.name
    tenonrt.Engine.load(plan).save(again)
    assert again.read_bytes() == plan.read_bytes()


def test_a_plan_may_be_read_by_whom_the_umask_allows(plan: Path, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        again = tmp_path / plan.name
        tenonrt.Engine.load(plan).save(again)
    finally:
        os.umask(before)
    assert again.stat().st_mode & 0o777 == 0o644


def test_every_truncation_is_refused(plan: Path, tmp_path: Path) -> None:
    data, short = plan.read_bytes(), tmp_path / "short.plan"
    lengths = {len(data) * i // 50 for i in range(50)} | {0, 7, 8, 51, 52, 53, len(data) - 1}
    for length in sorted(lengths):
        short.write_bytes(data[:length])
        expected = NotAPlanError if length < 52 else PlanCorruptError
        with pytest.raises(expected, match=r"bytes|cut short|has changed"):
            load_plan(short, current_registry())


def regions_of(path: Path) -> dict[str, range]:
    """Which bytes of the file are what."""
    file, data = PlanFile(path), path.read_bytes()
    end = 52 + int.from_bytes(data[12:20], "little")
    start = -(-end // 64) * 64
    found = {"magic": range(8), "version": range(8, 12), "length": range(12, 20), "hash": range(20, 52)}
    found["header"] = range(52, end)
    for s in file.header.sections:
        found[s.name] = range(start + s.offset, start + s.offset + s.length)
    return found


def test_random_bit_flips_are_refused(plan: Path, tmp_path: Path) -> None:
    data, damaged, rng = bytearray(plan.read_bytes()), tmp_path / "damaged.plan", random.Random(7)
    where, registry = regions_of(plan), current_registry()
    parts = sorted(name for name, places in where.items() if places)
    for number in range(1500):
        # Half of the flips fall anywhere, half in the small parts that a uniform choice would rarely meet.
        place = rng.randrange(len(data)) if number % 2 else rng.choice(where[rng.choice(parts)])
        bit = 1 << rng.randrange(8)
        data[place] ^= bit
        damaged.write_bytes(data)
        data[place] ^= bit
        found = next((name for name, places in where.items() if place in places), "padding")
        if found == "padding":
            load_plan(damaged, registry, verify=True)
            continue
        if found == "weights":
            load_plan(damaged, registry)
        with pytest.raises(ERRORS) as caught:
            load_plan(damaged, registry, verify=True)
        check_message(found, caught.value)


def check_message(region: str, error: PlanError) -> None:
    text = str(error)
    assert "damaged.plan" in text
    if region == "magic":
        assert type(error) is NotAPlanError
    elif region == "version":
        assert type(error) in (PlanVersionError, PlanCorruptError)
        assert "format" in text
    elif region in ("length", "hash", "header"):
        assert type(error) is PlanCorruptError
        assert "header" in text
    else:
        assert type(error) is PlanCorruptError
        assert f"section {region!r}" in text
        assert "copy it again or build it anew" in text


@pytest.mark.parametrize("length", range(60, 70))
def test_sections_of_any_length_come_back(tmp_path: Path, length: int) -> None:
    """Also empty ones, and wherever the one before ends."""
    header = PlanHeader("TenonRT", 1, "test", "n", "cpu", {}, (), (), 1)
    path = tmp_path / "sections.plan"
    write_plan(path, header, [("program", [b"x" * length]), ("code", []), ("weights", [])])
    file = PlanFile(path)
    assert bytes(file.section("program")) == b"x" * length
    assert bytes(file.section("code")) == bytes(file.section("weights")) == b""


@pytest.mark.parametrize("section", ["header", "program", "code"])
def test_mutated_sections_with_right_hashes_never_crash(plan: Path, section: str, tmp_path: Path) -> None:
    if (plan.stem, section) == ("native", "code"):
        pytest.skip("machine code with a right hash is a program: it does what it says")
    count = 250
    found = child("mutate", plan, tmp_path, section, 11, count)
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert found.returncode == 0, f"after {len(lines)} plans: {found.stderr[-2000:]}"
    assert len(lines) == count
    assert not [line for line in lines if line[0] == "escaped"]
    refused = [line for line in lines if line[0] == "refused"]
    assert len(refused) > count // 5
    assert all(plan.name in message for _, _, message in refused)
    # A loaded plan that cannot run says so with an error of ours, not with whatever NumPy found first.
    assert not [line for line in lines if line[0] == "raised" and line[1] in ("MemoryError", "RecursionError")]


@pytest.mark.parametrize("section", ["program", "code"])
def test_bytes_that_are_no_text_are_refused(plan: Path, section: str, tmp_path: Path) -> None:
    path, (header, parts) = tmp_path / plan.name, sections_of(plan)
    changed = {**parts, section: parts[section].replace(b"float32", b"float3\xc5")}
    assert changed != parts
    write_plan(path, header, [(n, [d]) for n, d in changed.items()])
    with pytest.raises(PlanCorruptError, match=f"section '{section}' cannot be understood: 'utf-8' codec"):
        tenonrt.Engine.load(path)


def test_names_that_are_no_text_cannot_be_written(tmp_path: Path) -> None:
    """As names of files that were read with ``surrogateescape`` are."""
    network = tenonrt.Network()
    network.mark_output(network.add_activation(network.add_input("a\udcff", (2,)), function="relu"), "y")
    engine = tenonrt.compile(network, optimization_level=0)
    with pytest.raises(PlanError, match=r"a.plan cannot be written: a name .*surrogates not allowed"):
        engine.save(tmp_path / "a.plan")
    assert not list(tmp_path.iterdir())


def rewritten(plan: Path, tmp_path: Path, **changes: Any) -> Path:
    path, (header, parts) = tmp_path / plan.name, sections_of(plan)
    write_plan(path, msgspec.structs.replace(header, **changes), [(n, [d]) for n, d in parts.items()])
    return path


def test_a_newer_format_asks_for_an_update(plan: Path, tmp_path: Path) -> None:
    data = bytearray(plan.read_bytes())
    data[8:12] = (2).to_bytes(4, "little")
    path = tmp_path / "newer.plan"
    path.write_bytes(data)
    with pytest.raises(PlanVersionError, match=r"format 2; this version reads up to 1. Update tenonrt-core"):
        tenonrt.Engine.load(path)


def test_a_format_that_never_was_is_damage(plan: Path, tmp_path: Path) -> None:
    data = bytearray(plan.read_bytes())
    data[8:12] = bytes(4)
    path = tmp_path / "zero.plan"
    path.write_bytes(data)
    with pytest.raises(PlanCorruptError, match="plan format 0"):
        tenonrt.Engine.load(path)


def test_other_files_are_not_plans(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x07\x12\x07pytorch" * 20)
    with pytest.raises(NotAPlanError, match="is not a plan: it begins with"):
        tenonrt.Engine.load(path)
    with pytest.raises(PlanError, match="cannot be read"):
        tenonrt.Engine.load(tmp_path / "absent.plan")
    with pytest.raises(PlanError, match="cannot be read"):
        tenonrt.Engine.load(tmp_path)


def test_another_device_is_named(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanDeviceError, match=r"the device 'npu'; installed are: .*cpu"):
        tenonrt.Engine.load(rewritten(plan, tmp_path, device="npu"))
    with pytest.raises(PlanDeviceError, match=r"was built for .*other.*build it again"):
        tenonrt.Engine.load(rewritten(plan, tmp_path, fingerprint={"kind": "other"}))


def test_another_machine_prepares_again(plan: Path, tmp_path: Path) -> None:
    fingerprint = {**PlanFile(plan).header.plan.fingerprint, "model": "of another age"}
    with pytest.warns(UserWarning, match="tuned on another machine"):
        engine = tenonrt.Engine.load(rewritten(plan, tmp_path, fingerprint=fingerprint))
    assert bits(engine, plan.stem) == bits(tenonrt.Engine.load(plan, code="ignore"), plan.stem)


def test_missing_and_unusable_plugins_are_listed_together(plan: Path) -> None:
    needs = {need.distribution for need in PlanFile(plan).header.plan.requires}
    if plan.stem == "native":
        assert needs == {"tenonrt-device-cpu"}
        return
    assert "tenonrt-kernel-numpy" in needs
    registry = Registry(PluginSet(deny=("tenonrt-kernel-*", "tenonrt-layer-*")))
    with pytest.raises(PlanPluginError) as caught:
        tenonrt.Engine.load(plan, registry=registry)
    for name in needs - {"tenonrt-device-cpu"}:
        assert name in str(caught.value)
    assert "pip install" in str(caught.value)


def test_a_kernel_that_nobody_requires_is_still_missed(plan: Path, tmp_path: Path) -> None:
    """The list of requirements may be wrong; what the steps name decides."""
    path = rewritten(plan, tmp_path, requires=())
    registry = Registry(PluginSet(deny=("tenonrt-kernel-*",)))
    if plan.stem == "native":
        assert bits(tenonrt.Engine.load(path, registry=registry), plan.stem) == bits(build("native"), plan.stem)
        return
    with pytest.raises(PlanPluginError, match="tenonrt-kernel-numpy"):
        tenonrt.Engine.load(path, registry=registry)


def test_another_product_and_absurd_threads_are_refused(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanCorruptError, match="a plan of 'Other', not of TenonRT"):
        tenonrt.Engine.load(rewritten(plan, tmp_path, product="Other"))
    for threads in (0, -1, 10**6):
        with pytest.raises(PlanCorruptError, match="threads"):
            tenonrt.Engine.load(rewritten(plan, tmp_path, threads=threads))


def test_nested_beyond_reason_is_refused(plan: Path, tmp_path: Path) -> None:
    header, parts = sections_of(plan)
    deep = b"\x91" * 100_000 + b"\x01"
    path = tmp_path / plan.name
    write_plan(path, header, [("program", [deep]), *((n, [d]) for n, d in parts.items() if n != "program")])
    with pytest.raises(PlanCorruptError, match="'program'"):
        tenonrt.Engine.load(path)


def test_the_header_can_be_read_without_the_plugins(plan: Path) -> None:
    data = plan.read_bytes()
    length = int.from_bytes(data[12:20], "little")
    header = msgspec.json.decode(data[52 : 52 + length], type=FileHeader)
    assert data[HASH_BYTES] == hashlib.blake2b(data[52 : 52 + length], digest_size=32).digest()
    assert header.plan.network == plan.stem
    for section in header.sections:
        assert section.offset % 64 == 0


def test_a_killed_save_leaves_a_whole_plan_or_none(tmp_path: Path) -> None:
    rng, path = random.Random(3), tmp_path / "blocks.plan"
    whole = {bits(build(name), name) for name in NETWORKS}
    for _ in range(4):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, __file__, "save", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            for _ in range(rng.randint(1, 5)):
                time.sleep(rng.random() * 0.03)
            process.kill()
        if path.exists():
            engine = tenonrt.Engine.load(path, verify=True)
            assert bits(engine, engine.header.network) in whole
        for partial in tmp_path.glob(".*.partial"):
            check_partial(partial)
            partial.unlink()


def check_partial(partial: Path) -> None:
    """Killed between the last byte and the move a partial file is a whole plan; any other does not load."""
    try:
        engine = tenonrt.Engine.load(partial, verify=True)
    except (NotAPlanError, PlanCorruptError):
        return
    bits(engine, engine.header.network)


def test_a_failed_save_leaves_the_old_plan(plan: Path, tmp_path: Path) -> None:
    """The disk fills up (here: a limit on file sizes): the error comes out, the old file stays, nothing else does."""
    path = tmp_path / plan.name
    path.write_bytes(plan.read_bytes())
    engine = tenonrt.Engine.load(plan)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(PlanError, match="large"):
            engine.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == plan.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_cancelled_build_leaves_nothing(tmp_path: Path) -> None:
    calls = 0
    build("blocks", progress=lambda *_: True)
    for stop_at in (1, 3, 6):
        calls = 0

        def stop(phase: str, done: int, total: int, detail: str, last: int = stop_at) -> bool:
            nonlocal calls
            calls += 1
            return calls < last

        with pytest.raises(CancelledError, match="was cancelled while it was at"):
            build("blocks", progress=stop, timing_cache=None)
    assert list(tmp_path.iterdir()) == []


if __name__ == "__main__":
    word, *rest = sys.argv[1:]
    if word == "run":
        run_and_print(Path(rest[0]))
    elif word == "save":
        save_for_ever(Path(rest[0]))
    else:
        mutate_and_run(Path(rest[0]), Path(rest[1]), rest[2], int(rest[3]), int(rest[4]))
