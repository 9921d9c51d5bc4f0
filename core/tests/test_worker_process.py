"""Worker processes: whatever happens in one is an answer, and none outlives its owner."""

from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tenonrt.errors import BuildError
from tenonrt.workers import WorkerDiedError, WorkerProcess

MODULE = """
import os, sys, time
from tenonrt.workers import serve


def answer(message):
    if message == b"crash":
        os.abort()
    if message == b"leave":
        sys.exit(7)
    if message == b"hang":
        time.sleep(600)
    print("noise on standard output")
    return str(os.getpid()).encode() if message == b"who" else message[::-1]


serve(answer)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    (tmp_path / "answering.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with WorkerProcess("answering", 30) as process:
        yield process


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_messages_of_any_length_come_back(worker: WorkerProcess) -> None:
    for message in (b"", b"abc", bytes(range(256)) * 5000):
        assert worker.ask(message) == message[::-1]
    assert worker.ask(b"who") == worker.ask(b"who")


@pytest.mark.parametrize(("message", "why"), [(b"crash", "SIGABRT"), (b"leave", "exit status 7")])
def test_a_death_is_told_and_the_next_message_is_answered(worker: WorkerProcess, message: bytes, why: str) -> None:
    before = worker.ask(b"who")
    with pytest.raises(WorkerDiedError, match=why) as caught:
        worker.ask(message)
    assert caught.value.settled
    assert worker.ask(b"who") != before


def test_a_hang_ends_in_time_and_is_not_settled(worker: WorkerProcess) -> None:
    pid = int(worker.ask(b"who"))
    worker.seconds = 0.3
    with pytest.raises(WorkerDiedError, match=r"did not finish within 0\.3 s") as caught:
        worker.ask(b"hang")
    assert not caught.value.settled
    assert gone(pid)


def test_it_is_stopped_with_its_block_and_with_its_owner(tmp_path: Path, worker: WorkerProcess) -> None:
    pid = int(worker.ask(b"who"))
    worker.stop()
    assert gone(pid)
    script = (
        "from tenonrt.workers import WorkerProcess as W\nprint(W('answering', 30).ask(b'who').decode(), flush=True)"
    )
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, "-c", f"{script}\nimport os; os._exit(0)"],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert gone(int(done.stdout))


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_death_by_another_hand_is_not_settled(worker: WorkerProcess, name: str) -> None:
    """SIGKILL is what a system that is short of memory sends to whom it likes."""
    pid = int(worker.ask(b"who"))
    os.kill(pid, signal.Signals[name])
    with pytest.raises(WorkerDiedError, match=name) as caught:
        worker.ask(b"abc")
    assert not caught.value.settled


def test_an_interrupt_from_the_terminal_is_not_for_the_worker(worker: WorkerProcess) -> None:
    pid = int(worker.ask(b"who"))
    os.kill(pid, signal.SIGINT)
    assert int(worker.ask(b"who")) == pid


def test_an_answer_in_progress_ends_with_the_owner(tmp_path: Path) -> None:
    (tmp_path / "answering.py").write_text(MODULE)
    script = (
        "import threading\nfrom tenonrt.workers import WorkerProcess as W\nw = W('answering', 600)\n"
        "print(w.ask(b'who').decode(), flush=True)\nw.ask(b'hang')"
    )
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        time.sleep(0.2)  # for the message to be on its way
        owner.kill()
    assert gone(pid)


def test_descriptors_past_those_that_select_takes(worker: WorkerProcess) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 2048:
        pytest.skip("this process may not have as many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, before[1]))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert worker.ask(b"abc") == b"cba"
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_no_limit_is_a_limit_too(worker: WorkerProcess) -> None:
    with WorkerProcess("answering", math.inf) as unlimited:
        assert unlimited.ask(b"abc") == b"cba"


def test_a_process_that_cannot_be_started_is_told(worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/absent/python")
    with pytest.raises(
        BuildError, match=r"no process for answering can be started with /absent/python: .*No such file"
    ):
        worker.ask(b"abc")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_asks_a_process_of_its_own(worker: WorkerProcess) -> None:
    ours = worker.ask(b"who")
    child = os.fork()
    if not child:
        theirs = worker.ask(b"who")
        worker.stop()
        os._exit(theirs == ours)
    assert os.waitpid(child, 0)[1] == 0
    assert worker.ask(b"who") == ours
