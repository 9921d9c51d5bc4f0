"""A plan on a GPU for longer: python tests/benchmarks/gpu_soak.py PLAN

Seconds from Engine.load to the first outputs (the CUDA context exists), 4 contexts on 4 streams with 1,000 runs each
whose outputs are compared on the GPU, and memory in use before and after 10,000 runs.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import cupy
import numpy as np
from tenonrt import Engine

CONTEXTS, RUNS, MANY = 4, 1000, 10_000


def drawn(engine: Any, seed: int) -> dict[str, Any]:
    rng, made = np.random.default_rng(seed), {}
    for binding in engine.bindings:
        if binding.is_input:
            shape = binding.type.concrete({})
            real = binding.type.dtype == "float32"
            made[binding.name] = rng.standard_normal(shape).astype(np.float32) if real else np.ones(shape, np.int64)
    return made


def side_by_side(engine: Any) -> int:
    """Runs of several contexts at once whose outputs are not those of one alone, bit by bit."""
    inputs = [drawn(engine, seed) for seed in range(CONTEXTS)]
    alone = [engine.create_context().execute(given) for given in inputs]
    wrong = [0] * CONTEXTS

    def work(number: int) -> None:
        context, stream = engine.create_context(), cupy.cuda.Stream(non_blocking=True)
        with stream:
            given = {name: cupy.asarray(array) for name, array in inputs[number].items()}
            expected = {name: cupy.asarray(array) for name, array in alone[number].items()}
            count = cupy.zeros((), cupy.int64)
        for _ in range(RUNS):
            found = context.enqueue(given, stream)
            with stream:
                for name, array in expected.items():
                    count += (found[name] != array).any()
        stream.synchronize()
        wrong[number] = int(count)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONTEXTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(wrong)


def used() -> int:
    free, total = cupy.cuda.runtime.memGetInfo()
    return int(total - free)


def main(path: str) -> None:
    cupy.zeros(1)
    cupy.cuda.runtime.deviceSynchronize()
    start = time.perf_counter()
    engine = Engine.load(path)
    loaded = time.perf_counter() - start
    context, inputs = engine.create_context(), drawn(engine, 0)
    context.execute(inputs)
    print(f"loaded in {loaded:.3f} s, first outputs after {time.perf_counter() - start:.3f} s", flush=True)
    print(f"{CONTEXTS} contexts x {RUNS} runs: {side_by_side(engine)} differ", flush=True)
    context.enqueue()
    context.synchronize()
    before, start = used(), time.perf_counter()
    for number in range(MANY):
        context.enqueue()
        if number % 100 == 0:
            context.synchronize()
    context.synchronize()
    seconds = time.perf_counter() - start
    print(f"{MANY} runs in {seconds:.2f} s: {used() - before} more bytes of the GPU in use", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
