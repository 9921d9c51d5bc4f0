"""Which heavy libraries the loading of a distribution's entry points imports, for one distribution after another.

Run as ``python -m tenonrt_testing.loading LIBRARIES DISTRIBUTION...``, both by name; writes one line of JSON for each
distribution, ``{"distribution", "status", "heavy"}``. Each is loaded in a fork of a process that has imported the core
and no plugin: starting such a process takes longer than loading most of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenonrt.plugins.discovery import scan

_SECONDS, _SECONDS_EACH = 60.0, 2.0  # to start, and for each distribution


@dataclass(frozen=True)
class Loading:
    """What became of one distribution. status: of the process, 0 when well; heavy: entry point -> libraries."""

    status: int
    heavy: Mapping[str, Sequence[str]]
    errors: str = ""


def loadings(distributions: Sequence[str], libraries: Sequence[str]) -> dict[str, Loading]:
    """What loading each distribution imports; ``distributions`` as discovery names them."""
    command = [sys.executable, "-m", "tenonrt_testing.loading", ",".join(libraries), *distributions]
    # A fork has none of the threads that a library started before.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OPENBLAS_NUM_THREADS": "1"}
    seconds = _SECONDS + _SECONDS_EACH * len(distributions)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            said, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the fork that hangs too
            said, errors = process.communicate()
            errors += f"\nno answer within {seconds:g} s"
    rows = [json.loads(line) for line in said.splitlines()]
    found = {row["distribution"]: Loading(row["status"], row["heavy"], errors) for row in rows}
    return {name: found.get(name, Loading(process.returncode or 1, {}, errors)) for name in distributions}


def _heavy(distribution: str, libraries: Sequence[str]) -> dict[str, list[str]]:
    """The libraries that appear with each entry point. What cannot be loaded is the concern of another rule."""
    found: dict[str, list[str]] = {}
    for entry in [e for entries in scan().values() for e in entries if e.distribution == distribution]:
        before = set(sys.modules)
        try:
            entry.source.load()
        except BaseException:  # noqa: BLE001, S112 - a plugin's import may raise anything at all
            continue
        added = [name for name in libraries if name in sys.modules and name not in before]
        if added:
            found[f"{entry.group} {entry.name}"] = added
    return found


def _in_a_fork(distribution: str, libraries: Sequence[str]) -> dict[str, Any]:
    """The line about one distribution."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(2, 1)  # what plugins print is no answer
        with os.fdopen(writing, "w") as pipe:
            json.dump(_heavy(distribution, libraries), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    heavy = json.loads(answer) if status == 0 else {}
    return {"distribution": distribution, "status": os.waitstatus_to_exitcode(status), "heavy": heavy}


def main(libraries: str, *distributions: str) -> None:
    """Load them one after another."""
    scan()
    for distribution in distributions:
        print(json.dumps(_in_a_fork(distribution, libraries.split(","))), flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    main(*sys.argv[1:])
