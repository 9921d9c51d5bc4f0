"""acme.Swish6 in C: code that the runtime calls without Python, for every size that the network may have.

The machine that builds the plan compiles it; the library travels in the plan, whose users need no compiler.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

from tenonrt.contracts import Array, Code, Kernel, Problem, Support, Tactic

# buffers: outputs, inputs, packed weights. begin and end count units, here elements, so sizes are not asked for.
SOURCE = """
#include <stdint.h>
int32_t swish6(void *const *buffers, const int64_t *symbols, void *scratch, int64_t begin, int64_t end) {{
    float *y = buffers[0];
    const float *x = buffers[1];
    const float beta = {beta!r}f;
    for (int64_t i = begin; i < end; i++) {{
        float gate = x[i] + 3;
        gate = gate < 0 ? 0 : gate;  /* a NaN is not less than 0 and stays */
        gate = gate > beta ? beta : gate;
        y[i] = x[i] * gate / beta;
    }}
    return 0;
}}
"""


class NativeKernel(Kernel):
    """Any shape of float32, split over the threads of the engine."""

    def supports(self, problem: Problem) -> Support:
        if problem.kinds != ("acme.Swish6",) or problem.inputs[0].role != "activation":
            return Support(False, "computes one acme.Swish6 of a computed tensor")
        if problem.types[0].dtype != "float32":
            return Support(False, f"computes in float32, not in {problem.types[0].dtype}")
        if not shutil.which("cc"):
            return Support(False, "needs a C compiler called cc where plans are built")
        return Support(True, runtime_symbols="all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return [Tactic(inplace=((0, 0),))]

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        with TemporaryDirectory() as folder:
            source, library = Path(folder, "swish6.c"), Path(folder, "swish6.so")
            source.write_text(SOURCE.format(beta=float(problem.layer.attrs.beta)))
            command = ["cc", "-O3", "-shared", "-fPIC", "-o", str(library), str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"cc: {done.stderr}")
            return Code(problem, tactic, blob=library.read_bytes())

    def bind(self, code: Code, packed: Sequence[Array]) -> NativeSwish6:
        return NativeSwish6(code)


class NativeSwish6:
    """A `NativeCall`: an address, and how much work there is."""

    packed: Sequence[Array] = ()
    scratch = 0

    def __init__(self, code: Code) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder, "swish6.so")
            path.write_bytes(code.blob)
            self._library = ctypes.CDLL(str(path))  # mapped by now: the file may go
        self.address = ctypes.cast(self._library.swish6, ctypes.c_void_p).value or 0
        self._problem = code.problem

    def units(self, symbols: Sequence[int]) -> int:
        return prod(self._problem.shape(0, symbols))
