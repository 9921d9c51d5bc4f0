"""Builds and runs on a GPU that has too little: memory, workspace, and kernels that harm their process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt

_WILD = '''
from tenonrt.contracts import Kernel, Support


class WildKernel(Kernel):
    """Writes where nothing is."""

    on_device = True

    def supports(self, problem):
        return Support(problem.kinds == ("Activation",))

    def bind(self, code, packed):
        return Write()


class Write:
    def launch(self, inputs, outputs, workspace, stream):
        import cupy

        source = 'extern "C" __global__ void wild(float *p) { p[threadIdx.x + (1ull << 40)] = 1.f; }'
        with stream or cupy.cuda.get_current_stream():
            cupy.RawKernel(source, "wild")((1,), (32,), (outputs[0],))
'''


def network(batch: int = 2) -> Any:
    rng, net = np.random.default_rng(0), tenonrt.Network("small")
    x = net.add_input("x", (batch, 8, 24, 24))
    w = (rng.standard_normal((32, 8, 3, 3)) / 9).astype(np.float32)
    x = net.add_activation(net.add_convolution(x, w, pre_padding=(1, 1), post_padding=(1, 1)), function="relu")
    net.mark_output(x, "y")
    return net


def drawn(batch: int = 2) -> dict[str, Any]:
    return {"x": np.random.default_rng(0).standard_normal((batch, 8, 24, 24)).astype(np.float32)}


def exact(batch: int = 2) -> Any:
    return tenonrt.compile(network(batch), optimization_level=0).create_context().execute(drawn(batch))["y"]


def test_no_workspace_is_used_where_none_is_allowed() -> None:
    engine = tenonrt.compile(network(), device="cuda", precision="float16", workspace=0)
    steps = [candidate for region in engine.report.regions for candidate in region.candidates]
    assert any("its workspace takes more than the 0" in candidate.why for candidate in steps)
    found = engine.create_context().execute(drawn())["y"]
    assert np.abs(found - exact()).max() < 5e-3 * np.abs(exact()).max()


def test_memory_that_is_not_there() -> None:
    """The error says how much was missing; once there is more, contexts are made and run."""
    import cupy

    engine, pool = tenonrt.compile(network(64), device="cuda", precision="float16"), cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + (1 << 20))
    try:
        with pytest.raises(tenonrt.ExecutionError, match=r"the GPU has no \d+ bytes left"):
            engine.create_context().execute(drawn(64))
    finally:
        pool.set_limit(size=0)
    found = engine.create_context().execute(drawn(64))["y"]
    assert np.abs(found - exact(64)).max() < 5e-3 * np.abs(exact(64)).max()


_BUILD = """
import json, sys
import numpy as np
import tenonrt

net = tenonrt.Network("small")
net.mark_output(net.add_activation(net.add_input("x", (64, 64)), function="relu"), "y")
engine = tenonrt.compile(net, device="cuda")
x = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
right = bool((engine.create_context().execute({"x": x})["y"] == np.maximum(x, 0)).all())
rows = [c.why for region in engine.report.regions for c in region.candidates if c.kernel.endswith(".wild")]
print(json.dumps([rows, right]))
"""


def test_a_kernel_that_spoils_its_process_is_left_out(tmp_path: Path) -> None:
    """In another process: this one knows already what is installed."""
    metadata = tmp_path / "wild_pack-0.1.dist-info"
    metadata.mkdir()
    head = "Metadata-Version: 2.1\nName: wild-pack\nVersion: 0.1\nRequires-Dist: tenonrt-core>=0.1,<0.2\n"
    (metadata / "METADATA").write_text(head)
    (metadata / "entry_points.txt").write_text("[tenonrt.kernels]\ncuda/Activation.wild = wild_pack:WildKernel\n")
    (tmp_path / "wild_pack.py").write_text(_WILD)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", _BUILD], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    refusals, right = json.loads(done.stdout.splitlines()[-1])
    assert refusals
    assert all("illegal" in why for why in refusals), refusals
    assert right
