"""Kernels in Triton on the processor: Triton's interpreter runs their functions on NumPy's arrays, without a GPU."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, try_tactic
from tenonrt.contracts import Array, Code, Executable, Kernel, Problem, Support, Weights
from tenonrt.plugins.registry import Registry, using
from tenonrt_kernel_triton.kernel import Program, TritonKernel

REGISTRY = Registry()
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def problem_of(define: Callable[[tenonrt.Network], Any]) -> Problem:
    """The problem of a network whose layers are one region; ``define`` returns its output."""
    network = tenonrt.Network("problem", REGISTRY)
    network.mark_output(define(network), "y")
    return pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem


PRODUCTS = "tenonrt_kernel_triton.product_program"


def judge(kernel: TritonKernel, problem: Problem, most: int = 99, programs: str = PRODUCTS) -> int:
    """Try tactics as a build does (canaries, slices, against float64); how many there are. programs: their module."""
    with using(REGISTRY):
        support = kernel.supports(problem)
        assert support.ok, support.why
        samples = [Sample.draw(problem, REGISTRY.layer_type, 2, seed) for seed in range(2)]
        interpreted, tactics = Interpreted(kernel, programs), kernel.tactics(problem)[:most]
        for tactic in tactics:
            device = REGISTRY.device("cpu")
            verdict, _ = try_tactic(interpreted, problem, tactic, samples, REGISTRY.layer_type, device)
            assert verdict.ok, f"{tactic.key}: {verdict.why}"
    return len(tactics)


class Interpreted(Kernel):
    """The kernel, its function interpreted."""

    def __init__(self, kernel: TritonKernel, programs: str) -> None:
        self.kernel, self.programs = kernel, programs

    def supports(self, problem: Problem) -> Support:
        return self.kernel.supports(problem)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        return self.kernel.pack(code, weights)

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        with interpreting(self.programs):
            return _Launched(self.kernel.program(code.problem, code.tactic), packed)


class _Launched:
    def __init__(self, program: Program, packed: Sequence[Array]) -> None:
        self._program, self._packed = program, packed

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        p, operands = self._program, [*outputs, *inputs]
        arrays = [*operands, *self._packed]
        given: list[Any] = [Pointer(arrays[i]) for i in p.operands or range(len(arrays))]
        given += p.numbers
        given += [operands[i].strides[-3] // operands[i].itemsize for i in p.pitches]
        names = [name for name, type in p.signature().items() if type != "constexpr"]
        # Exponentials may be infinite: what is divided by them is 0, as it should be.
        with np.errstate(over="ignore"), _library_interpreted():
            p.function[p.grid](**dict(zip(names, given, strict=True)), **p.constants)


@contextmanager
def _library_interpreted() -> Iterator[None]:
    """Triton's own functions, such as reductions, are interpreted too: they were imported to be compiled.

    The interpreter has bfloat16 as bits, and multiplies these: what is multiplied is made single precision before.
    """
    import triton.language as tl
    from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder, TensorHandle, _patch_lang
    from triton.runtime.jit import JITFunction

    create_dot = InterpreterBuilder.create_dot

    def dot(self: Any, a: Any, b: Any, *others: Any) -> Any:
        def widened(handle: Any) -> Any:
            if handle.dtype.scalar != tl.bfloat16:
                return handle
            return TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

        return create_dot(self, widened(a), widened(b), *others)

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        patched = _patch_lang(self.fn)  # undone afterwards, unlike the interpreter does it in nested calls
        try:
            return InterpretedFunction(self.fn).rewrite()(*arguments, **named)
        finally:
            patched.restore()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JITFunction, "__call__", call)
        patch.setattr(InterpreterBuilder, "create_dot", dot)
        yield


class Pointer:
    """What the interpreter wants to know of a tensor, which is its own storage, on the host already."""

    def __init__(self, array: Array) -> None:
        self._array, self.dtype = array, f"torch.{array.dtype}"

    def data_ptr(self) -> int:
        return self._array.ctypes.data

    def untyped_storage(self) -> Pointer:
        return self

    def cpu(self) -> Pointer:
        return self

    def new_empty(self, size: int, device: str) -> Pointer:
        return Pointer(self._array)

    def set_(self, storage: Pointer, *where: Any) -> None:
        assert storage.data_ptr() == self.data_ptr()

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return self._array.shape

    def stride(self) -> tuple[int, ...]:
        return self._array.strides

    def copy_(self, other: Pointer) -> None:
        assert other.data_ptr() == self.data_ptr()


@contextmanager
def interpreting(name: str) -> Iterator[None]:
    """A module of programs, made anew so that its functions are interpreted where the body asks for it."""
    import_module("triton.language")  # as it is: parts of Triton refuse to be imported when this one is interpreted
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        sys.modules.pop(name, None)
        import_module(name)
        yield
        del sys.modules[name]
