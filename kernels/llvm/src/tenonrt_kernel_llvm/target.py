"""What generated code must know of a processor, in one description each: vector lanes, registers, features."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from functools import lru_cache

# Vectors of the generated code hold 16 floats on every target, as wide as a block of NCHW16c; the code generator splits
# them into what the processor has. Only the choice of tiles depends on how many registers one of them takes.
BLOCK = 16


@dataclass(frozen=True)
class Target:
    """One instruction set. features: what the processor must have, in the words of the CPU device's fingerprint."""

    name: str
    machine: str
    triple: str
    cpu: str  # LLVM's name of a processor that has exactly this
    lanes: int  # floats in a register
    registers: int
    fma: bool
    features: tuple[str, ...] = ()
    converts_half: bool = True  # float16 to float32, in one instruction
    extensions: str = ""  # what the code uses beyond that processor, in LLVM's words: "+avx512bf16,+amx-tile"

    @property
    def registers_per_block(self) -> int:
        """Registers that 16 floats take."""
        return BLOCK // self.lanes


AVX512 = Target(
    "avx512", "x86_64", "x86_64-unknown-linux-gnu", "x86-64-v4", 16, 32, True,
    ("avx2", "avx512bw", "avx512dq", "avx512f", "avx512vl", "fma"),
)  # fmt: skip
AVX2 = Target("avx2", "x86_64", "x86_64-unknown-linux-gnu", "x86-64-v3", 8, 16, True, ("avx2", "f16c", "fma"))
BASELINE = Target("x86_64", "x86_64", "x86_64-unknown-linux-gnu", "x86-64", 4, 16, False, converts_half=False)
NEON = Target("neon", "aarch64", "aarch64-unknown-linux-gnu", "generic", 4, 32, True, ("asimd",))

# What multiplies pairs of bfloat16. They are no targets of their own: all other code of a plan needs less than they do.
DOT_BF16 = replace(
    AVX512, name="avx512_bf16", features=(*AVX512.features, "avx512_bf16"), extensions="+avx512bf16"
)  # fmt: skip
TILES_BF16 = replace(
    DOT_BF16, name="amx_bf16", features=(*DOT_BF16.features, "amx_bf16", "amx_tile"),
    extensions="+avx512bf16,+amx-bf16,+amx-tile",
)  # fmt: skip

TARGETS = {target.name: target for target in (AVX512, AVX2, BASELINE, NEON)}


def host_target() -> Target:
    """The best target that this processor runs, or the one that the variable ``TENONRT_LLVM_TARGET`` names.

    `OSError` when there is none, `ValueError` for a name that is not known.
    """
    return _chosen(os.environ.get("TENONRT_LLVM_TARGET", ""))


@lru_cache
def _chosen(name: str) -> Target:
    if name:
        if name not in TARGETS:
            raise ValueError(f"TENONRT_LLVM_TARGET is {name!r}; known are {', '.join(TARGETS)}")
        return TARGETS[name]
    found = next((target for target in TARGETS.values() if runs_here(target)), None)
    if found is None:
        raise OSError(f"no code can be generated for {_machine()}; targets are {', '.join(TARGETS)}")
    return found


def runs_here(target: Target) -> bool:
    """Whether this processor runs code for a target."""
    return target.machine == _machine() and set(target.features) <= (_host_features() | {"asimd"})


def bfloat16_targets() -> list[Target]:
    """The ways to multiply bfloat16 that the host's target can be extended by, the fastest first."""
    return [target for target in (TILES_BF16, DOT_BF16) if host_target() == AVX512 and runs_here(target)]


def host_has(feature: str) -> bool:
    """Whether this processor has a feature by LLVM's name."""
    return feature in _host_features()


def _machine() -> str:
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())


@lru_cache
def _host_features() -> set[str]:
    import llvmlite.binding as llvm

    present = {name for name, here in llvm.get_host_cpu_features().items() if here}
    # The fingerprint's words are Linux's, with underscores where LLVM has dashes or nothing.
    return present | {word for word in ("avx512_bf16", "amx_bf16", "amx_tile") if present & _spellings(word)}


def _spellings(word: str) -> set[str]:
    return {word.replace("_", "-"), word.replace("_", "")}
