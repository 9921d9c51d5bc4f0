"""Loading and running a plan of native steps: 100 MB of weights in 100 steps, and a chain of 200 tiny steps.

    uv run python tests/benchmarks/bench_native.py [threads]

Each figure is taken in a process of its own, which has only the runtime to import. Needs llvmlite to build the plans.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PLUGINS = Path(__file__).resolve().parents[1] / "native" / "plugins"
LOAD = """
import json, resource, sys, time
start = time.perf_counter()
import numpy as np
imported = time.perf_counter()
from tenonrt import Engine
from tenonrt.plan.program import Program
t = [time.perf_counter()]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
engine = Engine.load(sys.argv[1]); t.append(time.perf_counter())
context = engine.create_context(); t.append(time.perf_counter())
[binding] = [b for b in engine.bindings if b.is_input]
x = np.ones(binding.type.shape, np.float32)
t.append(time.perf_counter())
context.execute({"x": x}); t.append(time.perf_counter())
times = []
for _ in range(int(sys.argv[2])):
    s = time.perf_counter(); context.execute({"x": x}); times.append(time.perf_counter() - s)
ms = [round(1e3 * (b - a), 2) for a, b in zip(t, t[1:])]
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps({"import numpy ms": round(1e3 * (imported - start), 1), "import tenonrt ms": round(1e3 * (t[0] - imported), 1),
    "load ms": ms[0], "context ms": ms[1], "first execute ms": ms[3], "later execute us": round(1e6 * sorted(times)[len(times) // 2], 2),
    "RSS grown MB": round(grown, 1)}))
"""  # fmt: skip


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
            print(name, json.loads(done.stdout))


if __name__ == "__main__":
    main()
