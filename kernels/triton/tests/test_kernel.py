"""The base of kernels in Triton: the example of the docs, what launches pass, and what is missing where Triton is."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import tenonrt
from tenonrt.contracts import ExecutionError
from tenonrt_kernel_triton import compiler, launching
from tenonrt_kernel_triton.kernel import Program, TritonKernel
from tenonrt_kernel_triton.launching import Launching
from tenonrt_kernel_triton.product import ProductKernel
from triton_interpretation import judge, needs_triton, problem_of

DOCS = Path(__file__).resolve().parents[3] / "docs" / "gpu-kernels.md"


FUNCTION = SimpleNamespace(__name__="function", arg_names=["y", "x", "count", "pitch", "SIZE"])
PROGRAM = Program(
    FUNCTION, (4, 2), ("*fp16", "*fp16", "i32", "i32"), {"SIZE": 8}, numbers=(5,), pitches=(0,), pitch_step=8
)


def softmax(*shape: int, axis: int = -1) -> Any:
    def define(net: tenonrt.Network) -> Any:
        return net.add("Softmax", [net.add_input("x", shape)], {"axis": axis})[0]

    return problem_of(define)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TritonKernel:
    """The kernel that the docs show."""
    shown = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for name, code in shown:
        (tmp_path / name).write_text(code)
    assert [name for name, _ in shown] == ["row_softmax.py", "row_softmax_program.py"]
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, _ in shown:
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    made: TritonKernel = import_module("row_softmax").RowSoftmax()
    return made


@needs_triton
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 64), (1, 1), (4, 300)])
def test_the_example_computes_softmax(example: TritonKernel, shape: tuple[int, ...]) -> None:
    assert judge(example, softmax(*shape), programs="row_softmax_program") == 3


@needs_triton
def test_the_example_compiles(example: TritonKernel) -> None:
    problem = softmax(6, 100)
    for tactic, threads in zip(example.tactics(problem), (32, 128, 256), strict=True):
        code = example.compile(problem, tactic)
        assert code.blob.startswith(b"\x7fELF")
        assert {**code.info, "shared": 0, "scratch": 0} == {
            "name": "softmax", "grid": (6,), "threads": threads, "shared": 0, "operands": (0, 1), "numbers": (),
            "pitches": (), "scratch": 0,
        }  # fmt: skip


def test_the_example_refuses_another_axis(example: TritonKernel) -> None:
    assert "another axis" in example.supports(softmax(3, 5, axis=0)).why


def test_sizes_that_change_are_refused() -> None:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (tenonrt.symbol("N", 1, 8), 16))
        return net.add_fully_connected(x, np.ones((8, 16), np.float32))

    assert "changes at run time" in ProductKernel().supports(problem_of(define)).why


def test_without_triton_it_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.missing.cache_clear()
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)

    def define(net: tenonrt.Network) -> Any:
        return net.add_fully_connected(net.add_input("x", (3, 16)), np.ones((8, 16), np.float32))

    try:
        support = ProductKernel().supports(problem_of(define))
    finally:
        compiler.missing.cache_clear()
    assert not support.ok
    assert "pip install 'tenonrt-kernel-triton[triton]'" in support.why


def test_old_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.missing.cache_clear()
    monkeypatch.setattr(compiler, "find_spec", lambda name: object())
    monkeypatch.setattr(compiler, "capability", lambda: 75)
    try:
        assert "7.5" in compiler.missing()
    finally:
        compiler.missing.cache_clear()


def test_parameters_are_named_in_order_and_pointers_known_to_be_aligned() -> None:
    assert PROGRAM.signature() == {"y": "*fp16", "x": "*fp16", "count": "i32", "pitch": "i32", "SIZE": "constexpr"}
    assert PROGRAM.attributes() == {
        (0,): [["tt.divisibility", 16]], (1,): [["tt.divisibility", 16]], (3,): [["tt.divisibility", 8]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("types", "constants", "why"),
    [(("*fp16",), {"SIZE": 8}, "1 types are given"), (("*fp16",) * 5, {"SIZES": 8}, "no parameter SIZES")],
)
def test_programs_that_do_not_fit_say_how(types: tuple[str, ...], constants: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=f"function takes y, x.*{why}"):
        Program(FUNCTION, (1,), types, constants).signature()


class Array:
    """An array of half precision on no GPU; ``pitch``: elements between pixels."""

    itemsize = 2

    def __init__(self, address: int, pitch: int) -> None:
        self.data, self.strides = SimpleNamespace(ptr=address), (0, 0, 2 * pitch, 16, 2)


def test_launches_pass_pointers_then_numbers_then_pitches_then_null() -> None:
    how = Launching("k", (1,), 128, 0, operands=(0, 2, 1, 3), numbers=(7, -1), pitches=(0, 2), scratch=2)
    values = how.values([Array(16, 8), Array(32, 24), Array(48, 40)], [Array(64, 0)])
    assert [value.value for value in values] == [16, 48, 32, 64, 7, -1, 8, 40, None, None]
    assert [type(value) for value in values[4:]] == [ctypes.c_int32] * 4 + [ctypes.c_void_p] * 2


class Driver:
    """Notes calls, and reads the arguments that a launch would pass."""

    def __init__(self, status: int) -> None:
        self.status, self.calls = status, list[Any]()

    def cuFuncSetAttribute(self, function: Any, attribute: int, value: int) -> int:  # noqa: N802
        self.calls.append(("attribute", function.value, attribute, value))
        return 0

    def cuLaunchKernel(self, function: Any, *rest: Any) -> int:  # noqa: N802
        *sizes, shared, stream, pointers, extra = rest
        passed = [ctypes.cast(p, ctypes.POINTER(ctypes.c_uint64))[0] for p in pointers[:3]]
        self.calls.append((function.value, sizes, shared, stream.value, passed, extra))
        return self.status


@pytest.mark.parametrize("status", [0, 700])
def test_launches_are_the_drivers_and_say_what_failed(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: a library that notes calls takes the driver's place. Plans hold lists where there were tuples."""
    driver = Driver(status)
    monkeypatch.setattr(launching, "_driver", lambda: driver)
    monkeypatch.setattr(launching, "_function", lambda cubin, name: SimpleNamespace(ptr=1234))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace())
    how = Launching("k", [3, 2], 64, 100_000, [0, 1], [], [], 1)
    launched = launching.Launched(b"", Launching(**msgspec.json.decode(msgspec.json.encode(asdict(how)))), ())
    assert driver.calls == [("attribute", 1234, 8, 100_000)]
    launch = partial(launched.launch, [Array(32, 8)], [Array(16, 8)], None, SimpleNamespace(ptr=99))
    if status:
        with pytest.raises(ExecutionError, match=r"cuLaunchKernel of k, grid \(3, 2, 1\).*status 700"):
            launch()
    else:
        launch()
    assert driver.calls[1:] == [(1234, [3, 2, 1, 64, 1, 1], 100_000, 99, [16, 32, 0], None)]


def test_running_imports_no_compiler() -> None:
    code = (
        "import sys, tenonrt_kernel_triton.product; print([m for m in ('triton', 'torch', 'cupy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
