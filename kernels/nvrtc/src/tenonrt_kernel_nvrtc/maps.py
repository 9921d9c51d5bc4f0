"""Maps: every element of the result computed from elements at positions that are sums over its coordinates.

A thread computes a few elements that are neighbours in memory. Operands that are neighbours too are read at once, one
element that all share is read once, others one by one. Axes that every operand walks alike are merged first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenonrt.contracts import TensorType

from tenonrt_kernel_nvrtc.storage import C_TYPES, Axes, item_bytes, read, stored, value_type, write

BLOCK = 256
_WIDEST = 16  # bytes that a thread reads or writes at once
_CHANNELS = 1  # the axis that lies inside of a pixel


@dataclass(frozen=True)
class Access:
    """An operand: how far it moves with each axis of the result, in elements. pitched: its pixels may lie apart.

    there: (axis, first, last) of the coordinates of the result where it is there; elsewhere it is ``outside``.
    """

    name: str
    dtype: str
    strides: tuple[int, ...]
    offset: int = 0
    pitched: bool = False
    pixel: tuple[int, ...] = ()  # strides in pixels, of a pitched operand
    there: tuple[tuple[int, int, int], ...] = ()
    outside: str = "0"


@dataclass(frozen=True)
class Map:
    """A result and what is read for it. compute: C lines of one element, and its value; given the operands' names."""

    result: TensorType
    operands: Sequence[Access]
    compute: Callable[[dict[str, str]], tuple[list[str], str]]
    pitched: bool = False
    name: str = "out"


def access(name: str, type: TensorType, result: TensorType, pitched: bool = False) -> Access:
    """An operand that is broadcast to the result, its axes aligned at the end."""
    own = Axes.of(type)
    missing = result.rank - type.rank
    shape = type.concrete({})
    strides = [0] * missing + [0 if shape[axis] == 1 else own.strides[axis] for axis in range(type.rank)]
    return Access(name, stored(type), tuple(strides), pitched=pitched, pixel=_pixels(type, strides) if pitched else ())


def _pixels(type: TensorType, strides: Sequence[int]) -> tuple[int, ...]:
    """Strides in pixels: of the channel axis none, for it lies inside of one."""
    width = Axes.of(type).sizes[-1]
    return tuple(0 if axis == 1 else stride // width for axis, stride in enumerate(strides))


class Writer:
    """Writes the function of one map."""

    def __init__(self, plan: Map) -> None:
        self.plan = plan
        axes = Axes.of(plan.result)
        self.order, self.sizes = list(axes.order), list(axes.sizes)
        shape = plan.result.concrete({})
        self.padded = shape[self.order[-1]] if self.order and shape[self.order[-1]] != self.sizes[-1] else None
        pixel = _pixels(plan.result, axes.strides) if plan.pitched else ()
        self.out = Access(plan.name, stored(plan.result), axes.strides, pitched=plan.pitched, pixel=pixel)
        self.groups = self._merged()
        self.width = self._width()

    def _merged(self) -> list[list[int]]:
        """Neighbouring axes that everything walks as one, from the outermost."""
        groups: list[list[int]] = []
        for position, axis in enumerate(self.order):
            if groups and self._walks_on(groups[-1][-1], axis, self.sizes[position]):
                groups[-1].append(axis)
            else:
                groups.append([axis])
        return groups or [[]]

    def _walks_on(self, outer: int, inner: int, size: int) -> bool:
        if self.padded is not None and inner == self.order[-1]:
            return False
        for operand in (*self.plan.operands, self.out):
            if any(axis in (outer, inner) for axis, _, _ in operand.there):
                return False
            if operand.pitched:
                if _CHANNELS in (outer, inner) or operand.pixel[outer] != operand.pixel[inner] * size:
                    return False
            elif operand.strides[outer] != operand.strides[inner] * size:
                return False
        return True

    def _size(self, group: Sequence[int]) -> int:
        total = 1
        for axis in group:
            total *= self.sizes[self.order.index(axis)]
        return total

    def _width(self) -> int:
        """Elements of a thread: neighbours of the innermost axis, as many as are read and written at once."""
        inner = self._size(self.groups[-1])
        width = _WIDEST // item_bytes(self.out.dtype)
        while width > 1 and (inner % width or not self._aligned(self.out, width)):
            width //= 2
        return width

    def _stride(self, operand: Access, group: Sequence[int]) -> int:
        return operand.strides[group[-1]] if group else 0

    def _aligned(self, operand: Access, width: int) -> bool:
        inner = self.groups[-1]
        if not inner or self._stride(operand, inner) != 1 or operand.offset % width:
            return False
        if any(axis == inner[-1] and (first % width or last % width) for axis, first, last in operand.there):
            return False
        others = [operand.strides[group[-1]] for group in self.groups[:-1]]
        return all(stride % width == 0 for stride in others)

    @property
    def threads(self) -> int:
        total = 1
        for size in self.sizes:
            total *= size
        return total // self.width

    def source(self) -> str:
        width, inner = self.width, self._size(self.groups[-1])
        lines = ["int t = blockIdx.x * blockDim.x + threadIdx.x;", f"if (t >= {self.threads}) return;"]
        lines += [f"int g{len(self.groups) - 1} = t % {inner // width} * {width};", f"int rest = t / {inner // width};"]
        for number in range(len(self.groups) - 2, -1, -1):
            size = self._size(self.groups[number])
            lines += [f"int g{number} = rest % {size}; rest /= {size};" if number else f"int g{number} = rest;"]
        names: dict[str, str] = {}
        for operand in self.plan.operands:
            lines += self._load(operand)
            names[operand.name] = f"{operand.name}_v[j]"
        body, value = self.plan.compute(names)
        stored_value = write(self.out.dtype, value)
        if self.padded is not None:
            inside = f"g{len(self.groups) - 1} + j < {self.padded}"
            stored_value = f"{inside} ? {stored_value} : ({C_TYPES[self.out.dtype]})0"
        lines += [
            f"Vec<{C_TYPES[self.out.dtype]}, {width}> result;",
            "#pragma unroll",
            f"for (int j = 0; j < {width}; ++j) {{",
        ]
        lines += [f"    {line}" for line in (*body, f"result.e[j] = {stored_value};")]
        lines += ["}", f"put<{C_TYPES[self.out.dtype]}, {width}>({self.out.name} + {self._offset(self.out)}, result);"]
        return "\n    ".join(lines)

    def _offset(self, operand: Access, lane: str = "") -> str:
        """Where an operand is at the thread's coordinates, ``lane`` elements on."""
        terms = []
        for number, group in enumerate(self.groups):
            if not group:
                continue
            last = number == len(self.groups) - 1
            position = f"(g{number} + {lane})" if last and lane else f"g{number}"
            if operand.pitched and group[-1] != _CHANNELS:
                if operand.pixel[group[-1]]:
                    terms.append(f"{position} * {operand.pixel[group[-1]]} * {operand.name}_pitch")
            elif operand.strides[group[-1]]:
                terms.append(f"{position} * {operand.strides[group[-1]]}")
        return " + ".join([*terms, str(operand.offset)])

    def _inside(self, operand: Access, lane: str = "") -> str:
        tests = []
        for axis, first, last in operand.there:
            number = next(i for i, group in enumerate(self.groups) if axis in group)
            on = lane and number == len(self.groups) - 1
            place = f"g{number} + {lane}" if on else f"g{number}"
            tests.append(f"{place} >= {first} && {place} < {last}")
        return " && ".join(tests)

    def _load(self, operand: Access) -> list[str]:
        name, width, ctype = operand.name, self.width, C_TYPES[operand.dtype]
        lines = [f"{value_type(operand.dtype)} {name}_v[{width}];"]
        inner = self.groups[-1]
        step = self._stride(operand, inner)
        varies = any(axis in inner for axis, _, _ in operand.there) and not self._aligned(operand, width)
        if step == 0 and not varies:
            read_one = self._guarded(operand, read(operand.dtype, f"{name}[{self._offset(operand)}]"), "")
            return [*lines, f"{{ {value_type(operand.dtype)} one = {read_one};",
                    f"_Pragma(\"unroll\") for (int j = 0; j < {width}; ++j) {name}_v[j] = one; }}"]  # fmt: skip
        if (self._aligned(operand, width) and self.padded is None) or self._fills(operand):
            inside = self._inside(operand)
            fetched = f"fetch<{ctype}, {width}>({name} + {self._offset(operand)})"
            element = read(operand.dtype, "whole.e[j]")
            lines += [
                f"{{ Vec<{ctype}, {width}> whole{{}}; {f'if ({inside}) ' if inside else ''}whole = {fetched};",
                f'_Pragma("unroll") for (int j = 0; j < {width}; ++j) {name}_v[j] = {element}; }}',
            ]
            if inside and operand.outside != "0":
                lines.append(f"if (!({inside})) for (int j = 0; j < {width}; ++j) {name}_v[j] = {operand.outside};")
            return lines
        one = self._guarded(operand, read(operand.dtype, f"{name}[{self._offset(operand, 'j')}]"), "j")
        return [*lines, f'_Pragma("unroll") for (int j = 0; j < {width}; ++j) {name}_v[j] = {one};']

    def _fills(self, operand: Access) -> bool:
        """Whether an operand has the padding that the result has, so that whole vectors of it can be read."""
        return self.padded is not None and operand.pitched and self._aligned(operand, self.width)

    def _guarded(self, operand: Access, value: str, lane: str) -> str:
        tests = self._inside(operand, lane)
        if self.padded is not None and lane and not self._fills(operand):
            bound = f"g{len(self.groups) - 1} + {lane} < {self.padded}"
            tests = f"{tests} && {bound}" if tests else bound
        return f"({tests} ? {value} : ({value_type(operand.dtype)})({operand.outside}))" if tests else value


def function(writers: Sequence[Writer], parameters: Sequence[Access]) -> str:
    """The kernel: pointers of the results and of ``parameters``, then the pitches of those that have one.

    A block writes of one result, of several that which its second number says.
    """
    made, bodies = [writer.out for writer in writers], [writer.source() for writer in writers]
    pointers = [f"{C_TYPES[o.dtype]} *{o.name}" for o in made] + [
        f"const {C_TYPES[o.dtype]} *{o.name}" for o in parameters
    ]
    pitches = [f"int {o.name}_pitch" for o in (*made, *parameters) if o.pitched]
    body = bodies[0]
    if len(bodies) > 1:
        body = "\n    ".join(f"if (blockIdx.y == {i}) {{\n    {text}\n    }}" for i, text in enumerate(bodies))
    return f'extern "C" __global__ void kernel({", ".join((*pointers, *pitches))}) {{\n    {body}\n}}\n'
