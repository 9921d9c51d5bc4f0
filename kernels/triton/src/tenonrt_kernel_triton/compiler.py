"""Triton ahead of time: a program to machine code for one architecture. Needs Triton, and neither a GPU nor PyTorch."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec

from tenonrt.contracts import UnsupportedError

from tenonrt_kernel_triton.launching import Launching
from tenonrt_kernel_triton.program import Program

_DEFAULT, _LEAST, _WARP = 90, 80, 32


@cache
def missing() -> str:
    """Why nothing can be compiled here; empty when it can."""
    if find_spec("triton") is None:
        return "Triton, which compiles this kernel, is not installed: pip install 'tenonrt-kernel-triton[triton]'"
    found = capability()
    return f"a GPU of compute capability {found / 10}, and Triton begins at {_LEAST / 10}" if found < _LEAST else ""


@cache
def capability() -> int:
    """Ten times that of the current GPU; Hopper's where there is none, for code can be compiled anywhere."""
    try:
        import cupy

        return int(cupy.cuda.Device().compute_capability)
    except Exception:  # noqa: BLE001 - CuPy raises errors of many kinds where it finds no driver
        return _DEFAULT


def compile_program(program: Program, target: int | None = None) -> tuple[bytes, Launching]:
    """Machine code for an architecture (90: Hopper), and how it is launched.

    `ValueError` where the program and its function do not fit, `UnsupportedError` where the code asks for what launches
    do not give; Triton's own errors say where in the function they arose.
    """
    if why := missing():
        raise UnsupportedError(why)
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = program.signature()
    source = ASTSource(program.function, signature, dict(program.constants), program.attributes())
    options = {"num_warps": program.warps, "num_stages": program.stages, "enable_fp_fusion": True}
    with triton.knobs.compilation.scope():
        # Lines are for profilers: a plan is not to carry the paths of whoever built it, nor several times the code.
        triton.knobs.compilation.disable_line_info = True
        made = triton.compile(source, target=GPUTarget("cuda", target or capability(), _WARP), options=options)
    metadata, name = made.metadata, program.function.__name__
    if getattr(metadata, "global_scratch_size", 0) or getattr(metadata, "num_ctas", 1) != 1:
        raise UnsupportedError(
            f"{name} wants scratch memory or clusters, which launches of Triton's kernels do not give"
        )
    hidden = _parameters(made.asm["ptx"]) - len(program.types)
    operands = program.operands
    if operands is None:
        operands = tuple(range(sum(type.startswith("*") for type in program.types)))
    return made.asm["cubin"], Launching(
        metadata.name, program.grid, _WARP * metadata.num_warps, metadata.shared, operands, program.numbers,
        program.pitches, hidden,
    )  # fmt: skip


def _parameters(ptx: str) -> int:
    """How many the entry has: after the function's own Triton adds pointers to scratch memory, by its version."""
    entry = re.search(r"\.entry\s+\S+?\s*\((.*?)\)", ptx, re.DOTALL)
    assert entry is not None, "machine code without an entry"
    return entry.group(1).count(".param")
