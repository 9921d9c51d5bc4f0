"""Whether other work disturbed a run, as the system tells it, and what a race makes of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import get_native_id
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tenonrt.builder import contests, finalists, timing, watching
from tenonrt.builder.steps import StepTimes
from tenonrt.builder.timing import Entrant, Surroundings, Time, race
from tenonrt.builder.watching import Watch
from tenonrt.contracts import Launch


class System:
    """What the system says of this process's threads, as files."""

    def __init__(self, folder: Path) -> None:
        self.tasks, self.runnable = folder / "task", folder / "loadavg"
        (self.tasks / str(get_native_id())).mkdir(parents=True)
        self.say(waited=0, wanting=1)

    def say(self, waited: int, wanting: int) -> None:
        """waited: nanoseconds for a core so far. wanting: threads of the machine that run or want to."""
        self._write(self.tasks / str(get_native_id()) / "schedstat", f"123456 {waited} 7\n")
        self._write(self.runnable, f"0.50 0.40 0.30 {wanting}/99 4711\n")

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(text)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    system = System(tmp_path)
    monkeypatch.setattr(watching, "_TASKS", system.tasks)
    monkeypatch.setattr(watching, "_RUNNABLE", system.runnable)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return system


@pytest.mark.parametrize(("waited", "disturbed"), [(0, False), (4_000, False), (9_000, False), (12_000, True)])
def test_a_run_whose_threads_waited_for_a_core_is_disturbed(system: System, waited: int, disturbed: bool) -> None:
    """For more than 5 us and a twentieth of what it took."""
    watch = Watch(2)
    system.say(waited=1_000_000, wanting=2)
    watch.begin()
    system.say(waited=1_000_000 + waited, wanting=2)
    assert watch.disturbed(1e-4) is disturbed


@pytest.mark.parametrize(("threads", "wanting", "disturbed"), [(2, 3, True), (2, 2, False), (1, 3, False)])
def test_a_run_whose_other_threads_got_no_core_is_disturbed(
    system: System, threads: int, wanting: int, disturbed: bool
) -> None:
    """They may not have waited yet as the system counts. Where cores are free they had nothing to do."""
    watch = Watch(threads)
    watch.begin()
    system.say(waited=0, wanting=wanting)
    assert watch.disturbed(1.0) is disturbed


def test_a_watch_knows_how_many_runs_were_disturbed(system: System) -> None:
    watch = Watch(2)
    assert watch.share == 0
    for waited in (0, 0, 0, 1_000_000):
        watch.begin()
        system.say(waited=waited, wanting=2)
        watch.disturbed(1e-4)
    assert watch.share == 0.25


def test_threads_may_end(system: System) -> None:
    """Nobody has the thread's number that the folder names."""
    (system.tasks / str(1 << 27)).mkdir()
    (system.tasks / str(1 << 27) / "schedstat").write_text("1 2 3\n")
    watch = Watch(2)
    watch.begin()
    assert not watch.disturbed(1.0)


def test_where_the_system_says_nothing_nothing_is_disturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_TASKS", tmp_path / "none")
    monkeypatch.setattr(watching, "_RUNNABLE", tmp_path / "none")
    watch = Watch(2)
    watch.begin()
    assert not watch.disturbed(1.0)


class Pattern:
    """A runnable that takes these times, again and again."""

    def __init__(self, *times: float) -> None:
        self.times, self.runs = times, 0

    def time(self, stream: object) -> list[float]:
        self.runs += 1
        return [self.times[(self.runs - 1) % len(self.times)]]


def raced(*runnables: Pattern) -> list[Time]:
    """Their times in a race where runs of more than five seconds are disturbed."""
    device: Any = SimpleNamespace(
        allocate=lambda nbytes: np.zeros(nbytes, np.uint8), bind=lambda launches, threads: runnables[launches[-1].name]
    )
    watch: Any = SimpleNamespace(begin=lambda: None, disturbed=lambda seconds: seconds > 5)
    launches: Any = [Launch(index, None, (), (), None, ()) for index in range(len(runnables))]  # type: ignore[arg-type]
    entrants: Any = [Entrant(launch, runnable) for launch, runnable in zip(launches, runnables, strict=True)]  # type: ignore[arg-type]
    return race(entrants, Surroundings(device, 1, 0), 0, watch)


def test_disturbed_runs_do_not_count() -> None:
    """Each candidate has one sound run in four: a quartile of all runs would be a disturbed one's time."""
    assert raced(Pattern(9.0, 9.0, 9.0, 1.0), Pattern(9.0, 8.0, 7.0, 1.1)) == [Time(1.0), Time(1.1)]


def test_one_sound_run_says_more_than_many_disturbed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where patience ends before a sound run is had, the least of the disturbed ones is kept beside sound ones."""
    monkeypatch.setattr(timing, "_SLICES_SECONDS", 0.0)
    monkeypatch.setattr(timing, "_LEAST_SECONDS", 60.0)
    rare = Pattern(*[9.0] * (3 * timing._ATTEMPTS), 4.5)
    assert raced(rare, Pattern(4.0)) == [Time(4.5), Time(4.0)]


def test_a_disturbed_candidate_is_not_put_out_for_being_somewhat_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later rounds keep who is within a quarter of the best, when what is known says how slow it is."""
    monkeypatch.setattr(timing, "_SLICES_SECONDS", 0.0)
    disturbed, slower = Pattern(9.0), Pattern(4.9)
    raced(disturbed, slower, Pattern(4.0))
    assert disturbed.runs > timing._ATTEMPTS * (timing._IMPRESSIONS + timing._LEAST_ROUNDS)
    late = Pattern(4.9)
    raced(Pattern(9.0), late, Pattern(3.0))
    assert late.runs < slower.runs, "as it is for a sound one"


def test_where_every_run_is_disturbed_their_times_count_and_the_race_ends() -> None:
    assert raced(Pattern(9.0), Pattern(6.5)) == [Time(9.0, sound=False), Time(6.5, sound=False)]


# programs that run as wholes ------------------------------------------------------------------------------------------


class Steps:
    """A program of one step that takes these times, one after another, the last again and again."""

    resources = SimpleNamespace(threads=2)

    def __init__(self, *times: float) -> None:
        self.times, self.runs = times, 0

    def run(self, inputs: object, profiler: Callable[[str, float], None] | None = None) -> None:
        self.runs += 1
        if profiler is not None:
            profiler("step", self.times[min(self.runs, len(self.times)) - 1])
            profiler("other step", 1.0)


class Said:
    """Says of one run after another whether it was disturbed, the last again and again."""

    def __init__(self, *disturbed: bool) -> None:
        self.answers = list(disturbed)

    def begin(self) -> None:
        pass

    def disturbed(self, seconds: float) -> bool:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def timed(times: Sequence[float], watch: Any) -> StepTimes:
    steps, runner = StepTimes(watch), Steps(*times)
    for _ in times:
        steps.run(runner, [], {"step": "name"})  # type: ignore[arg-type]
    return steps


def test_sound_runs_of_a_program_decide_where_there_are_enough() -> None:
    some = timed([3.0, 3.2, 1.0, *[3.1] * 6], Said(False, False, True, False))
    assert some.seconds() == {"name": 3.1}
    assert some.settled
    assert timed([3.0, 1.0], None).seconds() == {"name": 1.0}, "nobody watches"


def test_of_a_disturbed_program_the_shorter_steps_decide_but_not_the_shortest() -> None:
    """Nearly all runs had a thread less in this step."""
    times = timed([2.0] * 30 + [1.0, 0.8, 1.04, 0.9] + [2.0] * 30, Said(False, True))
    assert times.seconds() == {"name": 1.0}
    assert not times.settled


@pytest.mark.parametrize(("disturbed", "rounds"), [((False,), 30), ((True,), 90), ((True, False), 30)])
def test_programs_run_longer_while_they_are_disturbed(disturbed: tuple[bool, ...], rounds: int) -> None:
    watch: Any = Said(*disturbed)
    programs: Any = [(Steps(1.0), {"step": "a"}), (Steps(2.0), {"step": "b"})]
    assert finalists._run_in_turns(programs, [], watch) == {"a": 1.0, "b": 2.0}
    assert [program.runs for program, _ in programs] == [rounds + 1] * 2, "and one before them"


@pytest.mark.parametrize(("answers", "runs"), [((False,), 2), ((True, True, False), 6), ((True,), 16)])
def test_a_disturbed_run_of_a_small_network_is_taken_again(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[bool, ...], runs: int
) -> None:
    monkeypatch.setattr(contests, "Watch", lambda threads: Said(*answers))
    program: Any = Steps()
    assert contests.one_run(program, []) < 1.0
    assert program.runs == runs
