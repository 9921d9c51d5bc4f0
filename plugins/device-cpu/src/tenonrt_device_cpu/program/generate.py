"""Compile the loop for every machine that the wheel supports: ``python -m tenonrt_device_cpu.program.generate``.

Needs llvmlite. The products lie beside this file, in `code/`: they are data of the wheel, and a test makes them again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from tenonrt_device_cpu.program.elf import text_of
from tenonrt_device_cpu.program.emit import FUNCTIONS, emit

FOLDER = Path(__file__).parent / "code"
# The oldest processor of each machine: the loop gains nothing from vectors.
MACHINES = {"x86_64": "x86-64", "aarch64": "generic"}


def compile_for(machine: str) -> tuple[bytes, dict[str, int]]:
    """The machine code, and where each of `FUNCTIONS` begins."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(f"{machine}-unknown-linux-gnu")
    compiler = target.create_target_machine(cpu=MACHINES[machine], opt=3, reloc="pic", codemodel="small")
    module = llvm.parse_assembly(str(emit(machine)))
    module.triple = f"{machine}-unknown-linux-gnu"
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(compiler, tuning)
    builder.getModulePassManager().run(module, builder)
    text, symbols = text_of(compiler.emit_object(module))
    return text, {name: symbols[name] for name in FUNCTIONS}


def describe(machine: str, entries: dict[str, int]) -> dict[str, Any]:
    """What stands beside the code: the version of LLVM that made it, and where its functions begin."""
    return {"machine": machine, "llvm": ".".join(map(str, llvm.llvm_version_info)), "entries": entries}


def main() -> None:
    """Write the code of every machine, and its description, beside this file."""
    FOLDER.mkdir(exist_ok=True)
    for machine in MACHINES:
        text, entries = compile_for(machine)
        (FOLDER / f"{machine}.bin").write_bytes(text)
        (FOLDER / f"{machine}.json").write_text(json.dumps(describe(machine, entries), indent=2) + "\n")


if __name__ == "__main__":
    main()
