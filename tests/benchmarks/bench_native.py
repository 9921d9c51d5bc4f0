"""Loading and running a plan of native steps: 100 MB of weights in 100 steps, and a chain of 200 tiny steps.

    uv run python tests/benchmarks/bench_native.py [threads]

Each figure is taken in a process of its own, which has only the runtime to import. Needs llvmlite to build the plans.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PLUGINS = Path(__file__).resolve().parents[1] / "native" / "plugins"
LOAD = """
import json, sys, time
from pathlib import Path


def resident():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "RssFile") if name in fields}


times = {}


def timed(name, function):
    start = time.perf_counter()
    result = function()
    times[name] = round(1e3 * (time.perf_counter() - start), 2)
    return result


def imports():
    from tenonrt import Engine
    return Engine


numpy = timed("import numpy", lambda: __import__("numpy"))
Engine = timed("import Engine", imports)
before = resident()
engine = timed("first load", lambda: Engine.load(sys.argv[1]))
engine = timed("second load", lambda: Engine.load(sys.argv[1]))
context = timed("context", engine.create_context)
x = numpy.ones(next(b for b in engine.bindings if b.is_input).type.shape, numpy.float32)
timed("first execute", lambda: context.execute({"x": x}))
later = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    context.execute({"x": x})
    later.append(time.perf_counter() - start)
print(json.dumps(times), "ms; later executions", round(1e6 * sorted(later)[len(later) // 2], 2), "us; grown by",
    {name: round(value - before[name], 1) for name, value in resident().items()}, "MB")
"""


def main() -> None:
    """Build both plans and print what a fresh process needs for each."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    sys.path.insert(0, str(PLUGINS))
    from native_networks import chain
    from tenonrt import Builder, BuilderConfig, Registry
    from tenonrt.plan.program import Choice

    with TemporaryDirectory() as folder:
        for name, steps, shape, runs in (("100 MB", 100, (500_000,), 20), ("tiny", 200, (16,), 2000)):
            network = chain(Registry(), steps, shape)
            regions = {
                n.name: (f"native-cases:cpu/{n.kind}.{n.name.partition('_')[0]}", "default") for n in network.layers
            }
            config = BuilderConfig(optimization_level=0, threads=threads, replay=Choice(regions))
            path = Path(folder, f"{name}.plan")
            Builder(config).build(network).save(path)
            command = [sys.executable, "-c", LOAD, str(path), str(runs)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(name, done.stdout.strip(), sep=": ")


if __name__ == "__main__":
    main()
