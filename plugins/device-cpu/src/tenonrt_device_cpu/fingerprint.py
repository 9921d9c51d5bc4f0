"""What must be equal for measured times to carry over to another machine."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path

from tenonrt_device_cpu.permissions import permits_tiles

# Features that change which code a kernel generates or how fast it is, as Linux spells them (x86, then AArch64).
FEATURES = frozenset((
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"),
    *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
))  # fmt: skip


def fingerprint() -> dict[str, str]:
    """Kind, architecture, model, vector features, usable cores and operating system."""
    described = _described(Path("/proc/cpuinfo"))
    present = FEATURES & set(_features(described).split())
    if any(feature.startswith("amx") for feature in present) and not permits_tiles():
        present = frozenset(feature for feature in present if not feature.startswith("amx"))
    return {
        "kind": "cpu",
        "machine": platform.machine(),
        "model": described.get("model name") or platform.processor() or platform.machine(),
        "features": " ".join(sorted(present)),
        "cores": str(usable_cores()),
        "os": platform.system(),
    }


def usable_cores() -> int:
    """Cores this process may run on, which containers and ``taskset`` reduce."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _features(described: dict[str, str]) -> str:
    return described.get("flags") or described.get("Features") or ""


@lru_cache
def _described(path: Path) -> dict[str, str]:
    """The first processor of a cpuinfo file as field -> text; empty where the system has no such file."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n", 1)[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
