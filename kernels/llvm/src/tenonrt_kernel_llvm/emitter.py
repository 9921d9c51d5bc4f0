"""A small typed layer over LLVM IR's text: values with operators, loops with carried values, one function at a time.

Index arithmetic mixes Python integers and values: what is known while generating is folded here, so that generators
read the same whether a size is a constant or comes at run time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from tenonrt_kernel_llvm.target import Target

I1, I8, I32, I64, HALF, FLOAT, DOUBLE, PTR = "i1", "i8", "i32", "i64", "half", "float", "double", "ptr"

_SUFFIX = {FLOAT: "f32", DOUBLE: "f64", "i1": "i1", "i8": "i8", "i32": "i32", "i64": "i64", "i16": "i16"}


def vector(lanes: int, element: str = FLOAT) -> str:
    """The type of a vector; one lane is the element itself."""
    return f"<{lanes} x {element}>" if lanes > 1 else element


def element_of(type: str) -> str:
    """``float`` of ``<16 x float>``."""
    return type.split(" x ")[1].rstrip(">") if type.startswith("<") else type


def lanes_of(type: str) -> int:
    """16 of ``<16 x float>``; 1 of what is no vector."""
    return int(type[1:].split(" x ", maxsplit=1)[0]) if type.startswith("<") else 1


def is_float(type: str) -> bool:
    """Whether a type, or a vector's element, is a floating-point number."""
    return element_of(type) in (FLOAT, DOUBLE)


class Value:
    """A result in a function. Operators emit instructions; Python numbers on either side become constants."""

    __slots__ = ("function", "text", "type")

    def __init__(self, function: Function, type: str, text: str) -> None:
        self.function, self.type, self.text = function, type, text

    def __add__(self, other: Operand) -> Value:
        return self.function.binary("add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.function.binary("sub", self, other)

    def __mul__(self, other: Operand) -> Value:
        return self.function.binary("mul", self, other)

    def __truediv__(self, other: Operand) -> Value:
        return self.function.binary("fdiv", self, other)

    def __floordiv__(self, other: Operand) -> Value:
        """For integers that are not negative."""
        return self.function.binary("udiv", self, other)

    def __mod__(self, other: Operand) -> Value:
        """For integers that are not negative."""
        return self.function.binary("urem", self, other)

    def __radd__(self, other: float) -> Value:
        return self.function.binary("add", self, other)

    def __rmul__(self, other: float) -> Value:
        return self.function.binary("mul", self, other)

    def __rsub__(self, other: float) -> Value:
        return self.function.binary("sub", self.function.constant(self.type, other), self)

    def __neg__(self) -> Value:
        if is_float(self.type):
            return self.function.emit(self.type, f"fneg {self.type} {self.text}")
        return 0 - self


Operand = Value | int | float
Index = Value | int  # known only at run time, or while generating


class Function:
    """One function being written. ``target`` decides what a fused multiply-add becomes."""

    def __init__(self, target: Target, name: str, parameters: Sequence[tuple[str, str]], returns: str = "void") -> None:
        self.target = target
        self.name = name
        self.returns = returns
        self.parameters = [Value(self, type, f"%{label}") for type, label in parameters]
        self.declarations: set[str] = set()
        self._lines = ["entry:"]
        self._signature = ", ".join(f"{p.type} {p.text}" for p in self.parameters)
        self._count = 0
        self._label = "entry"
        self._stack: list[str] = []

    # text ------------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The definition. Memory on the stack is reserved on entry."""
        head = [self._lines[0], *self._stack]
        body = "\n".join([*head, *self._lines[1:]])
        return f"define {self.returns} @{self.name}({self._signature}) #0 {{\n{body}\n}}\n"

    def line(self, text: str) -> None:
        self._lines.append(f"  {text}")

    def emit(self, type: str, instruction: str) -> Value:
        """An instruction with a result."""
        self._count += 1
        name = f"%v{self._count}"
        self._lines.append(f"  {name} = {instruction}")
        return Value(self, type, name)

    def _fresh_label(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def start_block(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self._label = label

    def new_block(self) -> None:
        """End the basic block: the code generator looks for common loads within one block only."""
        label = self._fresh_label("next")
        self.line(f"br label %{label}")
        self.start_block(label)

    # constants -------------------------------------------------------------------------------------------------------

    def constant(self, type: str, value: float) -> Value:
        """A constant; a vector has it in every lane. Floats are rounded to the type."""
        element = element_of(type)
        if element == FLOAT:
            value = struct.unpack("<f", struct.pack("<f", value))[0] if abs(value) < 3.4028236e38 else value
        text = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}" if is_float(element) else str(int(value))
        return Value(self, type, text if lanes_of(type) == 1 else f"splat ({element} {text})")

    def lane_constants(self, element: str, values: Sequence[float]) -> Value:
        """A vector of given numbers."""
        inside = ", ".join(f"{element} {self.constant(element, value).text}" for value in values)
        return Value(self, vector(len(values), element), f"<{inside}>")

    def zero(self, type: str) -> Value:
        return Value(self, type, "zeroinitializer" if lanes_of(type) > 1 else self.constant(type, 0).text)

    def as_value(self, operand: Operand, type: str) -> Value:
        return operand if isinstance(operand, Value) else self.constant(type, operand)

    # arithmetic ------------------------------------------------------------------------------------------------------

    def binary(self, operation: str, a: Value, b: Operand) -> Value:
        """``add``, ``sub`` and ``mul`` of either kind of number; others by LLVM's name. x+0, x*1, x/1 emit nothing."""
        if not isinstance(b, Value) and not is_float(a.type):
            if (operation in ("add", "sub") and b == 0) or (operation in ("mul", "udiv") and b == 1):
                return a
            if b == 0 and operation == "mul":
                return self.constant(a.type, 0)
        if is_float(a.type) and operation in ("add", "sub", "mul"):
            operation = f"f{operation}"
        other = self.as_value(b, a.type)
        return self.emit(a.type, f"{operation} {a.type} {a.text}, {other.text}")

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, fused where the target has it; LLVM would call a library elsewhere."""
        if not self.target.fma:
            return a * b + c
        return self.intrinsic("fma", a.type, [a, b, c])

    def intrinsic(self, name: str, type: str, arguments: Sequence[Value], overload: str | None = None) -> Value:
        """An intrinsic overloaded on one type, that of its result by default."""
        of = overload or type
        lanes = lanes_of(of)
        suffix = (f"v{lanes}" if lanes > 1 else "") + _SUFFIX[element_of(of)]
        return self.instruction(f"{name}.{suffix}", type, arguments)

    def instruction(self, name: str, type: str, arguments: Sequence[Value]) -> Value:
        """An intrinsic by its whole name, such as one of a processor's own."""
        self.declarations.add(f"declare {type} @llvm.{name}({', '.join(a.type for a in arguments)})")
        return self.emit(type, f"call {type} @llvm.{name}({', '.join(f'{a.type} {a.text}' for a in arguments)})")

    def compare(self, predicate: str, a: Value, b: Operand) -> Value:
        """A comparison by LLVM's name of it: ``olt`` and the like for floats, ``slt`` and the like for integers."""
        word = "fcmp" if is_float(a.type) else "icmp"
        other = self.as_value(b, a.type)
        return self.emit(vector(lanes_of(a.type), I1), f"{word} {predicate} {a.type} {a.text}, {other.text}")

    def select(self, condition: Value, a: Operand, b: Operand) -> Value:
        """Lane by lane when the condition is a vector."""
        type = a.type if isinstance(a, Value) else b.type if isinstance(b, Value) else I64
        first, second = self.as_value(a, type), self.as_value(b, type)
        return self.emit(type, f"select {condition.type} {condition.text}, {type} {first.text}, {type} {second.text}")

    def minimum(self, a: Index, b: Index) -> Index:
        """The lesser of two integers."""
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        first, second = self.as_value(a, I64), self.as_value(b, I64)
        return self.select(self.compare("slt", first, second), first, second)

    def maximum(self, a: Index, b: Index) -> Index:
        """The greater of two integers."""
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        first, second = self.as_value(a, I64), self.as_value(b, I64)
        return self.select(self.compare("sgt", first, second), first, second)

    def convert(self, instruction: str, value: Value, element: str) -> Value:
        """``sitofp``, ``bitcast``, ``zext`` and other conversions to the same number of lanes."""
        type = vector(lanes_of(value.type), element)
        return self.emit(type, f"{instruction} {value.type} {value.text} to {type}")

    def convert_bits(self, value: Value, type: str) -> Value:
        """The same bits as another type, of any number of lanes."""
        return self.emit(type, f"bitcast {value.type} {value.text} to {type}")

    def call(self, name: str, type: str, arguments: Sequence[Value]) -> Value:
        """An intrinsic of one processor, by its whole name."""
        self.declarations.add(f"declare {type} @{name}({', '.join(a.type for a in arguments)})")
        return self.emit(type, f"call {type} @{name}({', '.join(f'{a.type} {a.text}' for a in arguments)})")

    # vectors ---------------------------------------------------------------------------------------------------------

    def splat(self, scalar: Value, lanes: int) -> Value:
        """A scalar in every lane."""
        if lanes == 1:
            return scalar
        type = vector(lanes, scalar.type)
        first = self.emit(type, f"insertelement {type} poison, {scalar.type} {scalar.text}, i32 0")
        return self.emit(type, f"shufflevector {type} {first.text}, {type} poison, <{lanes} x i32> zeroinitializer")

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Lanes picked from two vectors, those of ``b`` counted on from those of ``a``."""
        type = vector(len(lanes), element_of(a.type))
        mask = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.emit(type, f"shufflevector {a.type} {a.text}, {b.type} {b.text}, <{len(lanes)} x i32> <{mask}>")

    def extract(self, value: Value, lane: int) -> Value:
        if lanes_of(value.type) == 1:
            return value
        return self.emit(element_of(value.type), f"extractelement {value.type} {value.text}, i32 {lane}")

    def insert(self, vector: Value, scalar: Value, lane: int) -> Value:
        return self.emit(
            vector.type, f"insertelement {vector.type} {vector.text}, {scalar.type} {scalar.text}, i32 {lane}"
        )

    # memory ----------------------------------------------------------------------------------------------------------

    def offset(self, pointer: Value, nbytes: Index) -> Value:
        """A pointer some bytes further."""
        if isinstance(nbytes, int) and nbytes == 0:
            return pointer
        return self.emit(PTR, f"getelementptr i8, ptr {pointer.text}, i64 {self.as_value(nbytes, I64).text}")

    def load(self, type: str, pointer: Value, nbytes: Index = 0, align: int = 4) -> Value:
        """``align``: bytes; vectors need no more than their elements do."""
        at = self.offset(pointer, nbytes)
        return self.emit(type, f"load {type}, ptr {at.text}, align {align}")

    def store(self, value: Value, pointer: Value, nbytes: Index = 0, align: int = 4) -> None:
        at = self.offset(pointer, nbytes)
        self.line(f"store {value.type} {value.text}, ptr {at.text}, align {align}")

    def load_lanes(self, type: str, pointer: Value, count: int, nbytes: Index = 0, align: int = 4) -> Value:
        """The first ``count`` lanes, the others zero; nothing behind them is touched."""
        if count == lanes_of(type):
            return self.load(type, pointer, nbytes, align)
        at, mask = self.offset(pointer, nbytes), self._mask(lanes_of(type), count)
        symbol = f"@llvm.masked.load.v{lanes_of(type)}{_SUFFIX[element_of(type)]}.p0"
        self.declarations.add(f"declare {type} {symbol}(ptr, i32, {mask.type}, {type})")
        return self.emit(
            type, f"call {type} {symbol}(ptr {at.text}, i32 {align}, {mask.type} {mask.text}, {type} zeroinitializer)"
        )

    def store_lanes(self, value: Value, pointer: Value, count: int, nbytes: Index = 0, align: int = 4) -> None:
        """Store the first ``count`` lanes only."""
        if count == lanes_of(value.type):
            self.store(value, pointer, nbytes, align)
            return
        if count == 1:  # LLVM makes a store of the wide element of a truncated vector's single lane
            self.store(self.extract(value, 0), pointer, nbytes, align)
            return
        at, mask = self.offset(pointer, nbytes), self._mask(lanes_of(value.type), count)
        symbol = f"@llvm.masked.store.v{lanes_of(value.type)}{_SUFFIX[element_of(value.type)]}.p0"
        self.declarations.add(f"declare void {symbol}({value.type}, ptr, i32, {mask.type})")
        self.line(f"call void {symbol}({value.type} {value.text}, ptr {at.text}, i32 {align}, {mask.type} {mask.text})")

    def _mask(self, lanes: int, count: int) -> Value:
        return self.lane_constants(I1, [int(lane < count) for lane in range(lanes)])

    def prefetch(self, pointer: Value, nbytes: Index = 0, level: int = 2) -> None:
        """Ask for a cache line, into the cache of this level. Any address will do, also one of no memory."""
        at = self.offset(pointer, nbytes)
        self.declarations.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.line(f"call void @llvm.prefetch.p0(ptr {at.text}, i32 0, i32 {4 - level}, i32 1)")

    def stack(self, nbytes: int) -> Value:
        """Memory that lasts as long as the call, 64-byte aligned."""
        self._count += 1
        name = f"%stack{self._count}"
        self._stack.append(f"  {name} = alloca [{nbytes} x i8], align 64")
        return Value(self, PTR, name)

    # control ---------------------------------------------------------------------------------------------------------

    def loop(
        self,
        start: Index,
        stop: Index,
        body: Callable[[Value, list[Value]], Sequence[Value]],
        carried: Sequence[Value] = (),
        step: int = 1,
    ) -> list[Value]:
        """``body(i, carried) -> carried`` for i = start, start + step, ... below stop; the last carried values.

        The test is at the end, after a guard where the loop may have no turn at all.
        """
        known = isinstance(start, int) and isinstance(stop, int)
        if known and start >= stop:  # type: ignore[operator]
            return list(carried)
        if known and start + step >= stop:  # type: ignore[operator]
            return list(body(self.constant(I64, start), list(carried)) or ())  # type: ignore[arg-type]
        first, last = self.as_value(start, I64), self.as_value(stop, I64)
        head, after = self._fresh_label("loop"), self._fresh_label("after")
        before = self._label
        if known:
            self.line(f"br label %{head}")
        else:
            self.line(f"br i1 {self.compare('slt', first, last).text}, label %{head}, label %{after}")
        self.start_block(head)
        following, turns = f"%next.{head}", [f"%turn{n}.{head}" for n in range(len(carried))]
        latch = f"latch.{head}"
        index = self.emit(I64, f"phi i64 [{first.text}, %{before}], [{following}, %{latch}]")
        phis = [
            self.emit(v.type, f"phi {v.type} [{v.text}, %{before}], [{turn}, %{latch}]")
            for v, turn in zip(carried, turns, strict=True)
        ]
        results = list(body(index, phis) or ())
        self.line(f"br label %{latch}")
        self.start_block(latch)
        for turn, result in zip(turns, results, strict=True):
            self.line(f"{turn} = {_copy(result)}")
        self.line(f"{following} = add nsw i64 {index.text}, {step}")
        self.line(f"%again.{head} = icmp slt i64 {following}, {last.text}")
        self.line(f"br i1 %again.{head}, label %{head}, label %{after}")
        self.start_block(after)
        ended = [Value(self, v.type, turn) for v, turn in zip(carried, turns, strict=True)]
        if known:
            return ended
        return [
            self.emit(v.type, f"phi {v.type} [{v.text}, %{before}], [{end.text}, %{latch}]")
            for v, end in zip(carried, ended, strict=True)
        ]

    def when(
        self,
        condition: Value,
        then: Callable[[], Sequence[Value] | None],
        otherwise: Callable[[], Sequence[Value] | None] | None = None,
    ) -> list[Value]:
        """One of two pieces of code; both return as many values, of which the taken one's are the result."""
        yes, no, after = self._fresh_label("then"), self._fresh_label("else"), self._fresh_label("end")
        self.line(f"br i1 {condition.text}, label %{yes}, label %{no}")
        self.start_block(yes)
        first = list(then() or ())
        first_end = self._label
        self.line(f"br label %{after}")
        self.start_block(no)
        second = list((otherwise() if otherwise else None) or ())
        second_end = self._label
        self.line(f"br label %{after}")
        self.start_block(after)
        return [
            self.emit(a.type, f"phi {a.type} [{a.text}, %{first_end}], [{b.text}, %{second_end}]")
            for a, b in zip(first, second, strict=True)
        ]

    def ensure(self, condition: Value, status: int) -> None:
        """Return ``status`` from a function of integers unless the condition holds."""
        good, bad = self._fresh_label("good"), self._fresh_label("bad")
        self.line(f"br i1 {condition.text}, label %{good}, label %{bad}")
        self.start_block(bad)
        self.line(f"ret {self.returns} {status}")
        self.start_block(good)

    def ret(self, value: Value | None = None) -> None:
        self.line("ret void" if value is None else f"ret {value.type} {value.text}")


def _copy(value: Value) -> str:
    """An instruction that only renames: phis need names before their values exist."""
    return (
        f"bitcast {value.type} {value.text} to {value.type}"
        if value.type != PTR
        else (f"getelementptr i8, ptr {value.text}, i64 0")
    )
