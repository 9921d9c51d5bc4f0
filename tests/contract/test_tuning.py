"""What is tried and timed, in which order, and what a build that is told everything by the timing cache leaves out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from tenonrt import Builder, BuilderConfig, Engine, Network, Registry
from tenonrt.builder import finalists, rounds, timing
from tenonrt.builder.cache import TimingCache
from tenonrt.builder.rounds import race_again
from tenonrt.builder.timing import Entrant, Surroundings, Time, race
from tenonrt.builder.trials import TrialPool, TrialProcess
from tenonrt.builder.tuner import Again, Tuner
from tenonrt.builder.tuning import (
    heirs,
    in_other_regions,
    negligible_problems,
    price,
    rivals_by_problem,
    sibling_heirs,
    within_reach,
)
from tenonrt.builder.worker import TrialReply, TrialRequest, Worker
from tenonrt.contracts import Code, Launch, NativeCode, Problem, ProblemInput, ProblemLayer, Tactic, TensorType

GEMM = "tenonrt-kernel-numpy:cpu/Convolution.numpy_gemm"


def problem(size: int = 4) -> Problem:
    type = TensorType((size,))
    return Problem((ProblemLayer("Unary", {}, (0,), (1,)),), (ProblemInput("activation"),), (type, type), (1,), "cpu")


def convolutions(registry: Registry) -> Network:
    network = Network("convolutions", registry)
    x = network.add_input("x", (1, 8, 12, 12))
    rng = np.random.default_rng(0)
    for index in range(2):
        weights = rng.standard_normal((8, 8, 3, 3)).astype(np.float32)
        x = network.add_convolution(x, weights, pre_padding=(1, 1), post_padding=(1, 1), name=f"conv{index}")
        x = network.add_activation(x, function="relu", name=f"relu{index}")
    network.mark_output(x, "y")
    return network


def build(network: Network, **config: Any) -> Engine:
    return Builder(BuilderConfig(**config)).build(network)


# first runs -----------------------------------------------------------------------------------------------------------


def test_every_group_is_answered() -> None:
    groups = [[TrialRequest("none:cpu/None.none", problem(), Tactic(f"{g}")) for _ in range(g)] for g in range(1, 5)]
    answers: dict[int, int] = {}
    with TrialPool(30, 2) as pool:
        pool.run(groups, lambda index, replies: answers.update({index: len(replies)}))
    assert answers == {0: 1, 1: 2, 2: 3, 3: 4}


def test_processes_are_started_for_enough_work(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[int] = set()

    def answer(process: TrialProcess, request: TrialRequest) -> TrialReply:
        asked.add(id(process))
        return TrialReply(True)  # the processes take turns, however many threads wait for them

    monkeypatch.setattr(TrialProcess, "answer", answer)
    request = TrialRequest("none:cpu/None.none", problem(), Tactic())
    used = []
    with TrialPool(30, 3) as pool:
        for count in (5, 16, 200, 5):
            asked.clear()
            pool.run([[request]] * count, lambda index, replies: None)
            used.append(len(asked))
    assert used == [1, 2, 3, 3], "those that were started are used again"


def test_an_error_while_groups_are_answered_ends_them_all() -> None:
    def cancel(index: int, replies: list[TrialReply]) -> None:
        raise KeyboardInterrupt

    groups = [[TrialRequest("none:cpu/None.none", problem(), Tactic())]] * 6
    with TrialPool(30, 2) as pool, pytest.raises(KeyboardInterrupt):
        pool.run(groups, cancel)


# times ----------------------------------------------------------------------------------------------------------------


class Clockwork:
    """A device whose steps take given times, the last one repeated; it notes what ran before what."""

    def __init__(self, **times: Sequence[float]) -> None:
        self.times = times
        self.runs: dict[str, int] = dict.fromkeys(times, 0)
        self.lines: list[str] = []

    def allocate(self, nbytes: int) -> np.ndarray[Any, Any]:
        return np.zeros(nbytes, np.uint8)

    def bind(self, launches: Sequence[Launch], threads: int) -> Any:
        return SimpleNamespace(time=lambda stream: self.time([launch.name for launch in launches]))

    def time(self, names: list[str]) -> list[float]:
        self.lines.append(" ".join(names))
        given = self.times[names[-1]]
        self.runs[names[-1]] += 1
        return [0.0] * (len(names) - 1) + [given[min(self.runs[names[-1]], len(given)) - 1]]

    def race(self) -> list[float]:
        launches = [Launch(name, None, (np.ones(4),), (), None, ()) for name in self.times]  # type: ignore[arg-type]
        device: Any = self
        entrants = [Entrant(launch, self.bind([launch], 2)) for launch in launches]
        return [found.seconds for found in race(entrants, Surroundings(device, 2, 0), 0)]


def test_a_candidate_that_is_clearly_slower_is_out_after_its_first_impression() -> None:
    device = Clockwork(near=[1.2], fast=[1.0], slow=[3.0])
    assert device.race() == [1.2, 1.0, 3.0]
    assert device.runs["slow"] == 2 * timing._IMPRESSIONS
    assert device.runs["fast"] == device.runs["near"] > 1


def test_rivals_run_after_each_other_as_steps_of_a_network_do() -> None:
    device = Clockwork(near=[1.2], fast=[1.0], slow=[3.0])
    device.race()
    alone = timing._IMPRESSIONS * 4  # the slow one has a second chance
    assert set(device.lines[:alone]) == {"near", "fast", "slow"}, "the first times only say who goes on"
    assert set(device.lines[alone:]) == {"near fast", "fast near"}


def test_one_bad_run_does_not_put_a_candidate_out() -> None:
    """As when the threads of the pool were asleep before its first run."""
    device = Clockwork(unlucky=[9.0, 1.0], steady=[1.2])
    assert device.race()[0] == 1.0


def test_a_bad_moment_does_not_put_a_candidate_out() -> None:
    """As when something else has the processor for longer than a few runs take."""
    device = Clockwork(unlucky=[9.0] * timing._IMPRESSIONS + [1.0], steady=[1.2])
    assert device.race()[0] == 1.0


def test_rounds_go_on_while_times_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_LEAST_SECONDS", 60.0)
    monkeypatch.setattr(timing, "_MOST_SECONDS", 60.0)
    noisy, steady = Clockwork(noisy=[1.0, 1.0, 1.0, 1.0, 1.0, 1.5, 1.1, 1.6, 1.2, 1.7, 1.0]), Clockwork(steady=[1.0])
    noisy.race()
    steady.race()
    assert noisy.runs["noisy"] > steady.runs["steady"] == timing._LEAST_ROUNDS + timing._IMPRESSIONS


class Races:
    """A tuner whose races have given results, problem by problem; it notes which were run, and the least times."""

    def __init__(self, disturbed: int = 0, **results: Sequence[float]) -> None:
        """``disturbed``: in so many races some leader has only disturbed runs."""
        self.results = {key: list(times) for key, times in results.items()}
        self.least = {key: times.pop(0) for key, times in self.results.items()}
        self.disturbed_races, self.disturbed = disturbed, False
        self.raced: list[str] = []
        self.settled = False

    def nanoseconds(self, offer: Any) -> int:
        return round(self.least[offer.posed.key] * 1e9)

    def time_again(self, rivals: Sequence[Any]) -> Again:
        key = rivals[0].posed.key
        self.raced.append(key)
        before, found = self.least[key], self.results[key].pop(0)
        self.least[key] = min(before, found)
        return Again(before, found, sound=len(self.raced) > self.disturbed_races)

    def settle(self) -> None:
        self.settled = True

    def again(self, seconds: float = 60.0) -> None:
        offers = {key: [offer(key, "k", "a", None, ["Conv"])] for key in self.results}
        tuner: Any = self
        race_again(offers, tuner, seconds, lambda done, total, name: None)


def test_races_are_run_again_until_two_agree() -> None:
    races = Races(quiet=[1.0, 1.02], busy=[9.0, 1.0, 1.01], always=[5.0, 4.0, 3.0, 2.0, 1.0])
    races.again()
    assert races.raced == ["busy", "always", "quiet", "busy", "always", "always", "always"]
    assert races.least == {"quiet": 1.0, "busy": 1.0, "always": 1.0}
    assert races.settled


def test_races_are_run_again_for_leaders_that_had_only_disturbed_runs() -> None:
    races = Races(disturbed=2, any=[1.0, 1.0, 1.0, 1.0])
    races.again()
    assert races.raced == ["any"] * 3


def test_beside_other_work_races_are_run_again_though_two_agree() -> None:
    races = Races(any=[1.0] * 9)
    races.disturbed = True
    races.again()
    assert races.raced == ["any"] * rounds._ROUNDS_BESIDE_WORK


def test_who_had_only_disturbed_runs_is_raced_again_from_further_behind(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two threads it may have run on one: half of its time is near enough, as it would be for the others."""
    first = {"best": Time(1.0), "near": Time(1.7), "far": Time(3.9), "disturbed": Time(3.9, sound=False)}
    later = {"best": Time(1.1), "near": Time(1.6, sound=False), "disturbed": Time(0.9)}
    last = {"best": Time(0.5), "near": Time(1.65), "disturbed": Time(0.95)}
    races = [first, later, last]
    raced: list[set[str]] = []

    def contest(self: Tuner, wanted: Sequence[Any]) -> list[tuple[Any, Time]]:
        raced.append({o.tactic.key for o in wanted})
        times = races.pop(0)
        return [(o, times[o.tactic.key]) for o in wanted]

    monkeypatch.setattr(Tuner, "_contest", contest)
    monkeypatch.setattr("tenonrt.builder.tuner.code_version", lambda entry: "1")
    device: Any = SimpleNamespace(races=False)
    tuner = Tuner(BuilderConfig(threads=2), registry, device, TimingCache(None, {}), TrialPool(30, 1))
    rivals = [offer("p", "k", key, None, ["Conv"]) for key in first]
    assert tuner.time(rivals)
    assert tuner.time_again(rivals) == Again(1.0, 0.9, sound=True)
    assert [tuner.nanoseconds(o) for o in rivals] == [1e9, 1.7e9, 3.9e9, 0.9e9]
    tuner.time_again(rivals)
    assert [tuner.nanoseconds(o) for o in rivals] == [1e9, 1.65e9, 3.9e9, 0.9e9], "lower medians of sound races"
    assert raced == [set(first), set(later), set(last)]


def test_running_races_again_has_an_end() -> None:
    races = Races(any=[1.0, 2.0])
    races.again(seconds=0.0)
    assert not races.raced
    assert races.settled


def test_what_the_cache_knows_is_not_raced_again(registry: Registry, tmp_path: Path) -> None:
    cold = build(convolutions(registry), timing_cache=tmp_path / "times")
    warm = build(convolutions(registry), timing_cache=tmp_path / "times")
    counts = [
        re.findall(r"(\d+) races run again", note) for e in (cold, warm) for note in e.report.notes if "tuning" in note
    ]
    assert int(counts[0][0]) > 0
    assert counts[1] == []


def test_the_reference_is_not_timed_beside_another_kernel(registry: Registry) -> None:
    engine = build(convolutions(registry))
    rows = {(r.layers, c.kernel): c for r in engine.report.regions for c in r.candidates}
    assert rows[("conv0",), GEMM].seconds is not None
    assert rows[("conv0",), "tenonrt-kernel-numpy:*/*.numpy"].seconds is None
    assert not any(
        step.kernel == "tenonrt-kernel-numpy:*/*.numpy" for step in engine.report.steps if "conv" in step.name
    )


def offer(key: str, kernel: str, tactic: str, estimate: float | None, layers: Sequence[str], order: int = 0) -> Any:
    shape = TensorType((4,))
    steps = tuple(ProblemLayer(kind, (), (i,), (i + 1,)) for i, kind in enumerate(layers))
    posed = Problem(steps, (ProblemInput("activation"),), (shape,) * (len(layers) + 1), (len(layers),), "cpu")
    region = SimpleNamespace(name=f"{key} region", layers=layers)
    return SimpleNamespace(
        posed=SimpleNamespace(key=key, problem=posed, region=region), id=f"{kernel}#{tactic}", order=order,
        entry=SimpleNamespace(id=kernel), tactic=Tactic(tactic), estimate=estimate,
        kernel=SimpleNamespace(runs_reference=False),
    )  # fmt: skip


def test_only_what_every_kernel_estimates_at_next_to_nothing_is_negligible() -> None:
    small, unknown = offer("small", "k", "a", 1e-9, ["b"]), offer("unknown", "k", "a", 1e-9, ["c"])
    large, rival = offer("large", "k", "a", 1.0, ["d"]), offer("unknown", "l", "a", None, ["c"])
    assert negligible_problems([small, unknown, large, rival]) == {"small"}


def test_regions_inherit_the_best_tactics_of_the_layer_that_they_begin_with() -> None:
    plain = [offer("plain", "k", name, None, ["Conv"], order) for order, name in enumerate("abcd")]
    tails = [offer("tail", "k", name, None, ["Conv", "Relu"], order) for order, name in enumerate("abcde")]
    other = offer("other", "k", "a", None, ["Pool", "Relu"])
    times = dict(zip("abcd", (4, 1, 3, 2), strict=True))
    tuner: Any = SimpleNamespace(
        nanoseconds=lambda o: times[o.tactic.key], recalls=lambda o: False, passed=lambda o: o.tactic.key != "b"
    )
    refused: list[Any] = []
    kept = heirs([*tails, other], plain, tuner, lambda o, why: refused.append(o))
    assert [o.tactic.key for o in kept] == ["c", "d", "e", "a"], (
        "the two best sound ones, the unknown one, the other region"
    )
    assert [o.tactic.key for o in refused] == ["a", "b"]


def test_the_reference_is_no_bargain_where_tuning_ended_before_it_was_timed() -> None:
    """It was priced at a microsecond, and chosen over kernels of a GPU that had been timed."""
    reference, kernel = offer("p", "numpy", "a", None, ["Conv", "Relu"]), offer("p", "k", "a", None, ["Conv", "Relu"])
    reference.kernel.runs_reference = True
    times: dict[str, float | None] = {"numpy": None, "k": 3e-6}
    tuner: Any = SimpleNamespace(
        known=lambda o: SimpleNamespace(seconds=times[o.entry.id]),
        nanoseconds=lambda o: round((times[o.entry.id] or 1e-6) * 1e9),
    )
    assert price(kernel, [reference, kernel], tuner) == 3000
    assert price(reference, [reference, kernel], tuner) == 130_000
    assert price(reference, [reference], tuner) == 200_000
    times["numpy"] = 4e-6
    assert price(reference, [reference], tuner) == 4000


def test_a_device_does_not_wait_for_references_of_what_kernels_compute_in_other_regions() -> None:
    """Those of 28 convolutions of a batch of 128 bytes took a build for a GPU 40 of its 48 seconds of tuning."""
    alone, other = offer("alone", "numpy", "a", None, ["Conv"]), offer("other", "numpy", "a", None, ["Pad"])
    fused = offer("fused", "k", "a", None, ["Dequantize", "Conv", "Quantize"])
    alone.kernel.runs_reference = other.kernel.runs_reference = True
    assert in_other_regions([alone, other, fused]) == {"alone": [fused]}
    twice = offer("alone", "numpy", "a", None, ["Pad"])  # the same problem, where nothing else computes it
    twice.kernel.runs_reference = True
    assert not in_other_regions([alone, twice, fused])

    times: dict[str, float | None] = {"numpy": None, "k": 3e-6}
    tuner: Any = SimpleNamespace(
        known=lambda o: SimpleNamespace(seconds=times[o.entry.id]),
        nanoseconds=lambda o: round((times[o.entry.id] or 1e-6) * 1e9),
    )
    offers = [alone, other, fused]
    assert rivals_by_problem(offers, tuner) == {"alone": [fused], "other": [other], "fused": [fused]}
    assert price(alone, [fused], tuner) == 130_000
    times["numpy"] = 4e-6
    assert rivals_by_problem(offers, tuner)["alone"] == [alone]


def test_siblings_inherit_from_what_was_tried_and_nothing_is_tried_for_them() -> None:
    """First runs of what regions with tails had left out went one by one, in one process: a minute in GoogLeNet."""
    network = Network("siblings")
    for n in (1, 2):
        network.add_fully_connected(network.input("x" * n, TensorType((1, 4))), np.ones((n, 4), np.float32))
    small, large = ((layer,) for layer in network.graph.layers)
    siblings = [offer("both", "k", name, None, ["Conv", "Conv"]) for name in "abc"]
    tuned = [offer("large", "k", name, None, ["Conv"]) for name in "abc"]
    for one in siblings:
        one.posed.region.parts = [small, large]
    for one in tuned:
        one.posed.region.layers = large
    tried = {"a": 5, "b": 4}
    tuner: Any = SimpleNamespace(
        nanoseconds=lambda o: tried[o.tactic.key], recalls=lambda o: False, passed=lambda o: o.tactic.key in tried
    )
    kept = sibling_heirs(siblings, tuned, tuner, lambda o, why: None)
    assert [o.tactic.key for o in kept] == ["a", "b"]


def test_regions_inherit_what_the_build_before_tried_with_them() -> None:
    """It has decided by first times, of which the cache has corrected ones."""
    plain = [offer("plain", "k", name, None, ["Conv"], order) for order, name in enumerate("abcd")]
    tails = [offer("tail", "k", name, None, ["Conv", "Relu"], order) for order, name in enumerate("abcd")]
    times = dict(zip("abcd", (4, 1, 3, 2), strict=True))

    def kept(tried: str) -> list[str]:
        tuner: Any = SimpleNamespace(
            nanoseconds=lambda o: times[o.tactic.key], recalls=lambda o: o.tactic.key in tried, passed=lambda o: True
        )
        return [o.tactic.key for o in heirs(tails, plain, tuner, lambda o, why: None)]

    assert kept("ac") == ["a", "c"]
    assert kept("a") == ["a", "b"], "and the best of the others where that is not enough"
    assert kept("abcd") == ["b", "d"], "after a build that tried all"


def test_a_tactic_that_its_kernel_estimates_far_behind_its_others_is_not_tried() -> None:
    near, far = offer("p", "k", "near", 1.2e-6, ["Conv"]), offer("p", "k", "far", 1.3e-6, ["Conv"])
    best, unknown = offer("p", "k", "best", 1e-6, ["Conv"]), offer("p", "k", "unknown", None, ["Conv"])
    other, elsewhere = offer("p", "l", "other", 9e-6, ["Conv"]), offer("q", "k", "far", 9e-6, ["Conv"])
    refused = {}
    kept = within_reach(
        [near, far, best, unknown, other, elsewhere], lambda o, why: refused.update({o.tactic.key: why})
    )
    assert kept == [near, best, unknown, other, elsewhere]
    assert refused == {"far": "its kernel estimates another tactic at 1.0 us, this one at 1.3"}


def test_reformats_are_timed(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []
    plain = Tuner.time

    def time(tuner: Tuner, offers: Sequence[Any]) -> None:
        timed.extend((o.posed.problem.kinds, str(o.posed.problem.layer.attrs)) for o in offers)
        plain(tuner, offers)

    monkeypatch.setattr(Tuner, "time", time)
    network = Network("blocks", registry)
    x = network.add_input("x", (2, 32, 16, 16))
    network.mark_output(network.add_unary(x, operation="abs", name="abs"), "y")
    engine = build(network)
    assert {kinds for kinds, _ in timed} == {("Unary",), ("Reformat",)}
    value = np.random.default_rng(0).standard_normal((2, 32, 16, 16)).astype(np.float32)
    np.testing.assert_array_equal(engine.create_context().execute({"x": value})["y"], np.abs(value))


# in place -------------------------------------------------------------------------------------------------------------


def test_the_faster_in_place_wins_and_its_choice_replays(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finalists, "_FACTOR", 1e9)
    for wanted in ("im2col", "shifted"):
        monkeypatch.setattr(
            finalists,
            "_measure",
            lambda selector, cover, fields, tuner, lower, wanted=wanted: {
                c.id: 1.0 if f"#{wanted}@" in c.id else 2.0 for field in fields.values() for c in field.columns
            },
        )
        engine = build(convolutions(registry))
        tactics = {step.tactic for step in engine.report.steps if step.kernel == GEMM}
        assert tactics == {wanted}
        again = build(convolutions(registry), replay=engine.choice)
        assert [step.name for step in again.plan.program.steps] == [step.name for step in engine.plan.program.steps]
        assert again.choice == engine.choice


def test_every_finalist_has_a_time_in_place(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finalists, "_FACTOR", 1e9)
    engine = build(convolutions(registry))
    (count,) = re.findall(r"(\d+) finalists timed in place", " ".join(engine.report.notes))
    assert int(count) >= 4, "two tactics of two convolutions"


# the cache ------------------------------------------------------------------------------------------------------------


def test_a_build_that_the_cache_knows_starts_no_process(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(convolutions(registry), timing_cache=tmp_path / "timings")

    def refuse(process: TrialProcess) -> None:
        raise AssertionError("a trial process was started")

    monkeypatch.setattr(TrialProcess, "_running", refuse)
    monkeypatch.setattr("tenonrt.builder.tuner.race", refuse)
    second = build(convolutions(registry), timing_cache=tmp_path / "timings")
    assert second.choice == first.choice
    assert second.report.notes[-1].endswith(" 0 misses")


def test_a_process_whose_device_is_spoiled_tries_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a wild access a GPU answers nothing more to a process: candidates that come next are not to blame."""
    asked, ended = list[bytes](), list[int]()
    replies = [TrialReply(False, "it raised", spoiled=True), TrialReply(True)]

    def ask(process: TrialProcess, message: bytes) -> bytes:
        asked.append(message)
        return msgspec.msgpack.encode(replies[len(asked) - 1])

    monkeypatch.setattr(TrialProcess, "ask", ask)
    monkeypatch.setattr(TrialProcess, "stop", lambda process: ended.append(len(asked)))
    process = TrialProcess(1.0)
    assert [process.run("k", problem(), Tactic("t")).ok for _ in replies] == [False, True]
    assert ended == [1]


def test_a_worker_asks_its_device_whether_it_is_spoiled() -> None:
    class Spoiled:
        def synchronize(self, stream: object) -> None:
            raise RuntimeError("an illegal memory access was encountered")

    class Devices:
        def device(self, name: str) -> object:
            return Spoiled() if name == "spoiled" else Registry().device(name)

    worker = Worker(Devices())  # type: ignore[arg-type]
    assert worker.is_spoiled("spoiled")
    assert not worker.is_spoiled("cpu")


def test_code_comes_back_from_the_cache(tmp_path: Path) -> None:
    native = NativeCode((4,), scratch=64, strided=(0,), features=("avx2",), machine="x86_64")
    code = Code(problem(), Tactic("t"), b"\x90\xc3", {"tile": [1, 14]}, native, workspace=64)
    cache = TimingCache(tmp_path / "timings", {"kind": "cpu"})
    cache.keep_code("key", code)
    cache.close()
    again = TimingCache(tmp_path / "timings", {"kind": "cpu"})
    assert again.code("key", problem(), Tactic("t")) == code
    assert again.code("other", problem(), Tactic("t")) is None
    again.close()


def test_code_is_kept_once_and_never_compiled_again(tmp_path: Path) -> None:
    compiled: list[Tactic] = []

    def compile_one(posed: Problem, tactic: Tactic) -> Code:
        compiled.append(tactic)
        return Code(posed, tactic, b"code")

    asked: Any = offer("key", "k", "t", None, ["Unary"])
    asked.entry.distribution, asked.entry.value, asked.entry.version = "test-plugin", "no_module:K", "1"
    asked.kernel.compile = compile_one
    for _ in range(2):
        cache = TimingCache(tmp_path / "timings", {"kind": "cpu"})
        tuner = Tuner(BuilderConfig(), None, None, cache, None)  # type: ignore[arg-type]
        assert tuner.code(asked).blob == tuner.code(asked).blob == b"code"
        cache.close()
    assert len(compiled) == 1
