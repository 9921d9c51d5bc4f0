"""Kernels that use each hard corner of the contract once: native calls, int8 edges, fixed sizes, host shapes."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tenonrt.contracts import (
    NCHW16C,
    Array,
    Attributes,
    Code,
    Format,
    Kernel,
    LayerType,
    Problem,
    Quant,
    Run,
    Support,
    Tactic,
    TensorInfo,
    Tolerance,
    Weights,
)

RELU_C = """
#include <stdint.h>
int32_t relu(void *const *buffers, const int64_t *symbols, void *scratch, int64_t begin, int64_t end) {
    float *output = buffers[0];
    const float *input = buffers[1];
    for (int64_t i = begin; i < end; i++) output[i] = input[i] > 0 ? input[i] : 0;
    return end < begin ? 7 : 0;
}
"""

INT8 = Format(dtype="int8", quant=Quant())


@lru_cache(maxsize=1)
def native_library() -> ctypes.CDLL:
    """The C function, compiled once a process."""
    folder = Path(tempfile.mkdtemp(prefix="hard-cases-"))
    (folder / "relu.c").write_text(RELU_C)
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", folder / "relu.so", folder / "relu.c"], check=True)
    return ctypes.CDLL(str(folder / "relu.so"))


class NativeExecutable:
    """A C function as the runtime calls it: without Python."""

    def __init__(self, size: int, packed: Sequence[Array]) -> None:
        self.address = ctypes.cast(native_library().relu, ctypes.c_void_p).value or 0
        self.packed = tuple(packed)
        self.scratch = 0
        self.size = size

    def units(self, symbols: Sequence[int]) -> int:
        return self.size


def is_plain(problem: Problem, kind: str, **attrs: Any) -> bool:
    layer = problem.layer
    same = all(getattr(layer.attrs, name) == value for name, value in attrs.items())
    return problem.kinds == (kind,) and same and all(t.dtype == "float32" for t in problem.types)


class NativeRelu(Kernel):
    """ReLU of static size in C."""

    def supports(self, problem: Problem) -> Support:
        ok = is_plain(problem, "Activation", function="relu") and not problem.symbols
        return Support(ok, "" if ok else "only a float32 relu of known size")

    def bind(self, code: Code, packed: Sequence[Array]) -> NativeExecutable:
        size = code.problem.types[0].size
        assert isinstance(size, int)
        return NativeExecutable(size, packed)


class Function:
    """An executable around a Python function of (inputs, outputs)."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def launch(self, inputs: Sequence[Array], outputs: Sequence[Array], workspace: Any, stream: Any) -> None:
        self.function(inputs, outputs)


class NegateToInt8(Kernel):
    """-x, stored as int8 with the scale of the output's range."""

    def supports(self, problem: Problem) -> Support:
        return Support(is_plain(problem, "Unary", operation="neg"), "only a float32 negation", "all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic(outputs=(INT8,), precision="int8"),)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        scale = weights.output_scales[0]
        assert scale is not None
        return (np.asarray(scale),)

    def bind(self, code: Code, packed: Sequence[Array]) -> Function:
        def negate(inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
            outputs[0][...] = np.clip(np.rint(-inputs[0] / packed[0]), -127, 127)

        return Function(negate)


class ReluFromInt8(Kernel):
    """ReLU of an int8 tensor, with the scale of its range, into float32."""

    def supports(self, problem: Problem) -> Support:
        return Support(is_plain(problem, "Activation", function="relu"), "only a float32 relu", "all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic(inputs=(INT8,), precision="int8"),)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        scale = weights.input_scales[0]
        assert scale is not None
        return (np.asarray(scale),)

    def bind(self, code: Code, packed: Sequence[Array]) -> Function:
        def relu(inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
            outputs[0][...] = np.maximum(inputs[0], 0) * packed[0]

        return Function(relu)


class BlockedAbs(Kernel):
    """|x| of images stored as NCHW16c, whole or as a slice of whole channel blocks."""

    def supports(self, problem: Problem) -> Support:
        ok = is_plain(problem, "Unary", operation="abs") and problem.types[0].rank == 4
        return Support(ok, "only |x| of float32 images", "all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic("blocked", (NCHW16C,), (NCHW16C,), reads_strided=(0,), writes_strided=(0,)),)

    def bind(self, code: Code, packed: Sequence[Array]) -> Function:
        def absolute(inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
            for image, result in zip(inputs[0], outputs[0], strict=True):
                assert image.flags.c_contiguous, "within an image all is dense"
                assert result.flags.c_contiguous, "within an image all is dense"
                np.abs(image, out=result)

        return Function(absolute)


class DoubledLayer(LayerType):
    """y = 2 x: a layer kind from outside the workspace."""

    def infer(self, attrs: Attributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        assert inputs[0] is not None
        return [inputs[0].like()]

    def reference(self, attrs: Attributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        return [np.asarray(arrays[0]) * 2]


class SlopedLayer(DoubledLayer):
    """y = 2 x, with a tolerance wide enough for an algorithm that the whole network cannot afford."""

    def tolerance(self, dtype: str, reduction: int) -> Tolerance:
        return Tolerance(0.1, 0.1)


class InexactDouble(Kernel):
    """Faster than any reference, because it is 2 % off; it says that it is not exact."""

    def supports(self, problem: Problem) -> Support:
        return Support(problem.kinds == ("hard.Sloped",), "another layer", "all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic("rough", exact=False),)

    def bind(self, code: Code, packed: Sequence[Array]) -> Function:
        return Function(lambda inputs, outputs: np.multiply(inputs[0], 2.04, out=outputs[0]))


class StaticDouble(Kernel):
    """Takes no symbol at run time: the engine compiles it anew for each size."""

    def supports(self, problem: Problem) -> Support:
        return Support(problem.kinds == ("hard.Doubled",), "another layer")

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        if problem.symbols:
            raise AssertionError("compiled for symbols that it did not accept")
        return Code(problem, tactic, info={"size": int(problem.types[0].size)})  # type: ignore[arg-type]

    def bind(self, code: Code, packed: Sequence[Array]) -> Function:
        def double(inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
            if inputs[0].size != code.info["size"]:
                raise ValueError(f"compiled for {code.info['size']} elements, given {inputs[0].size}")
            np.multiply(inputs[0], 2, out=outputs[0])

        return Function(double)


class HostShapeReshape(Kernel):
    """Reshape into a shape that only the host input tells; it does not allocate, the core asks the layer type."""

    def supports(self, problem: Problem) -> Support:
        ok = problem.kinds == ("Reshape",) and problem.inputs[-1].role == "host"
        return Support(ok, "only a reshape whose shape is an input", "all")

    def bind(self, code: Code, packed: Sequence[Array]) -> Function:
        def copy(inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
            outputs[0][...] = inputs[0].reshape(outputs[0].shape)

        return Function(copy)
