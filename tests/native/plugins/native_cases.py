"""Kernels in machine code without relocations, as a plan carries it: small enough to read, all the contract's corners.

Made with llvmlite where plans are built, and not needed where they run.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import lru_cache
from math import prod

from tenonrt.contracts import Code, Kernel, NativeCode, Problem, Support, Tactic, product

HEAD = """
define i32 @f(ptr %buffers, ptr %symbols, ptr %scratch, i64 %begin, i64 %end) nounwind {
entry:
  %y = load ptr, ptr %buffers
  %at1 = getelementptr ptr, ptr %buffers, i64 1
  %x = load ptr, ptr %at1
  %at2 = getelementptr ptr, ptr %buffers, i64 2
  %third = load ptr, ptr %at2
  br label %test
test:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %loop, label %done
done:
  ret i32 0
loop:
  %next = add i64 %i, 1
  %xi = getelementptr float, ptr %x, i64 %i
  %yi = getelementptr float, ptr %y, i64 %i
"""
RELU = """
  %v = load float, ptr %xi
  %p = fcmp olt float %v, 0.0
  %r = select i1 %p, float 0.0, float %v
  store float %r, ptr %yi
  br label %test
}
"""
# The sum is kept in this thread's scratch for a moment, so that shared scratch would show.
ADD = """
  %v = load float, ptr %xi
  %wi = getelementptr float, ptr %third, i64 %i
  %w = load float, ptr %wi
  %s = fadd float %v, %w
  store volatile float %s, ptr %scratch
  %t = load volatile float, ptr %scratch
  store float %t, ptr %yi
  br label %test
}
"""
# Phase 1 (units 0 to n - 1) writes relu(x) into the workspace backwards, phase 2 (n to 2n - 1) reads it from there:
# most of what a thread reads another one wrote. n is the first symbol.
PHASES = """
  %n = load i64, ptr %symbols
  %second = icmp sge i64 %i, %n
  br i1 %second, label %copy, label %write
write:
  %v = load float, ptr %xi
  %p = fcmp olt float %v, 0.0
  %r = select i1 %p, float 0.0, float %v
  %m = sub i64 %n, %next
  %wi = getelementptr float, ptr %third, i64 %m
  store float %r, ptr %wi
  br label %again
copy:
  %j = sub i64 %i, %n
  %j1 = add i64 %j, 1
  %k = sub i64 %n, %j1
  %ri = getelementptr float, ptr %third, i64 %k
  %rv = load float, ptr %ri
  %oi = getelementptr float, ptr %y, i64 %j
  store float %rv, ptr %oi
  br label %again
again:
  br label %test
}
"""
FAIL = """
  br label %bad
bad:
  ret i32 7
}
"""


@lru_cache
def machine_code(body: str) -> bytes:
    """The text of a function."""
    import llvmlite.binding as llvm
    from tenonrt_device_cpu.program.elf import text_of

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    source = HEAD + body
    if "%again" in body:
        source = source.replace("[%next, %loop]", "[%next, %again]")
    if body == FAIL:
        source = source.replace("[%begin, %entry], [%next, %loop]", "[%begin, %entry]")
    compiler = llvm.Target.from_default_triple().create_target_machine(opt=2, reloc="pic", codemodel="small")
    text, symbols = text_of(compiler.emit_object(llvm.parse_assembly(source)))
    assert symbols["f"] == 0
    return text


class Native(Kernel):
    """float32 of any size; a unit is an element."""

    body, kind, workspace, scratch = RELU, "Activation", False, 0

    def supports(self, problem: Problem) -> Support:
        if problem.kinds != (self.kind,) or problem.types[0].dtype != "float32":
            return Support(False, f"computes {self.kind} in float32")
        if self.kind == "Activation":
            good = problem.layer.attrs.function == "relu" and problem.inputs[0].role == "activation"
            return Support(good, "computes relu", runtime_symbols="all")
        types = problem.types
        good = problem.layer.attrs.operation == "sum" and [i.role for i in problem.inputs] == ["activation", "constant"]
        return Support(good and types[0] == types[1], "adds a constant of the same shape", runtime_symbols="all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return [Tactic(workspace=product(problem.types[0].shape) * 4 if self.workspace else 0)]

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        size = product(problem.types[0].shape)
        phases = (size, size) if self.workspace else (size,)
        native = NativeCode(phases, scratch=self.scratch, machine=platform.machine())
        return Code(problem, tactic, machine_code(self.body), native=native)


class Relu(Native):
    pass


class Add(Native):
    body, kind, scratch = ADD, "Elementwise", 4


class Phases(Native):
    """relu in two phases; for one symbolic dimension and none but it."""

    body, workspace = PHASES, True

    def supports(self, problem: Problem) -> Support:
        if len(problem.symbols) != 1 or prod(d for d in problem.types[0].shape if isinstance(d, int)) != 1:
            return Support(False, "needs one dimension, a symbol")
        return super().supports(problem)


class Fail(Native):
    body = FAIL
