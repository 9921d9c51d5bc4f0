"""What quantizes a kernel's result on the way, by the inverse of the scale; scale and zero point are read once.

A quotient by the inverse may be a step off where a tie is near. Divisions, one for each element, would be longer than
what they follow.
"""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt.contracts import FLOAT8, Problem, ProblemLayer

from tenonrt_kernel_nvrtc.expressions import quantized
from tenonrt_kernel_nvrtc.storage import C_TYPES, read, value_type, write


@dataclass(frozen=True)
class Quantizing:
    """A Quantize layer of a problem, whose constants are packed behind what the kernel packs itself."""

    problem: Problem
    layer: ProblemLayer

    @property
    def dtype(self) -> str:
        return self.problem.types[self.layer.outputs[0]].dtype

    @property
    def ctype(self) -> str:
        return C_TYPES[self.dtype]

    @property
    def packed(self) -> list[int]:
        """The constants: scale, and zero point where there is one."""
        return [i for i in self.layer.inputs[1:] if i >= 0]

    @property
    def parameters(self) -> list[str]:
        """Of the kernel, for what is packed."""
        types = [C_TYPES[self.problem.types[i].dtype] for i in self.packed]
        return [f"const {ctype} *{name}" for ctype, name in zip(types, ("step", "zero"), strict=False)]

    @property
    def once(self) -> str:
        """Statements before elements are stored."""
        text = "const float inverse_step = 1.f / step[0];"
        if len(self.packed) > 1:
            dtype = self.problem.types[self.packed[1]].dtype
            text += f" const {value_type(dtype)} zero_point = {read(dtype, 'zero[0]')};"
        return text

    def element(self, value: str) -> str:
        """A real number, an expression without side effects, as it is stored."""
        if self.dtype == FLOAT8:
            return f"to_e4m3(({value}) * inverse_step)"
        return write(self.dtype, quantized(self.problem, self.layer, value, "inverse_step", "zero_point"))

    def bits(self, value: str) -> str:
        """The same as an unsigned number of 8 bits."""
        element = self.element(value)
        return f"(unsigned){element}.bits" if self.dtype == FLOAT8 else f"(unsigned)(unsigned char){element}"
