"""Numbers as keys, and a merge sort of keys: 64-bit integers whose order is that of a score, then of a place.

A key has a score in its upper half, so that greater scores come first, and what it belongs to in its lower half, which
makes the order stable.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt_kernel_llvm.emitter import FLOAT, I1, I32, I64, Function, Index, Value
from tenonrt_kernel_llvm.indexing import times

KEY = 8  # bytes
_SIGN, _LOW = 1 << 31, (1 << 32) - 1


def key_of(fn: Function, score: Value, place: Value) -> Value:
    """The key of a float32 that is not NaN, and of a place below 2**32. Zeros of either sign are alike."""
    bits = fn.convert("bitcast", score, I32)
    # No addition of zero would do: it loses numbers so small that processors may take them for zero.
    bits = fn.select(fn.compare("eq", bits, -_SIGN), fn.constant(I32, 0), bits)
    negative = fn.compare("slt", bits, 0)
    # Ascending as unsigned: of numbers below zero the greater has the lesser bits.
    ascending = fn.select(negative, fn.binary("xor", bits, -1), fn.binary("xor", bits, -_SIGN))
    descending = fn.convert("zext", fn.binary("xor", ascending, -1), I64)
    return fn.binary("or", fn.binary("shl", descending, 32), place)


def place_of(fn: Function, key: Value) -> Value:
    """What a key belongs to."""
    return fn.binary("and", key, _LOW)


def score_of(fn: Function, key: Value) -> Value:
    """The score that a key was made of."""
    upper = fn.convert("trunc", fn.binary("lshr", key, 32), I32)
    ascending = fn.binary("xor", upper, -1)
    negative = fn.compare("sge", ascending, 0)  # the highest bit is not set
    bits = fn.select(negative, fn.binary("xor", ascending, -1), fn.binary("xor", ascending, -_SIGN))
    return fn.convert("bitcast", bits, FLOAT)


def sort(fn: Function, keys: Value, spare: Value, count: Value, most: int) -> Value:
    """Sort ``count`` keys, at most ``most``: where they are then, in their own memory or in the spare.

    Runs of 1, 2, 4, ... keys are merged, without branches, until one is left.
    """

    def turn(number: Value, pointers: list[Value]) -> Sequence[Value]:
        source, target = pointers
        width = fn.binary("shl", fn.constant(I64, 1), number)

        def pair(index: Value, _: list[Value]) -> Sequence[Value]:
            start = index * width * 2
            middle = fn.as_value(fn.minimum(start + width, count), I64)
            end = fn.as_value(fn.minimum(start + width * 2, count), I64)
            _merge(fn, source, target, (start, middle, end))
            return ()

        # A run that is alone is merged with none, which copies it.
        pairs = (count + (width * 2 - 1)) // (width * 2)
        fn.loop(0, pairs, pair)
        return [target, source]

    turns = max(most - 1, 0).bit_length()
    return fn.loop(0, _turns(fn, count, turns), turn, [keys, spare])[0]


def _turns(fn: Function, count: Value, most: int) -> Index:
    """How often the runs are doubled until one has all keys."""
    total: Value = fn.constant(I64, 0)
    for power in range(most):
        total = total + fn.convert("zext", fn.compare("sgt", count, 1 << power), I64)
    return total


def _merge(fn: Function, source: Value, target: Value, edges: tuple[Value, Value, Value]) -> None:
    """The runs [start, middle) and [middle, end), each in order, into one."""
    start, middle, end = edges
    last = end - 1

    def one(place: Value, at: list[Value]) -> Sequence[Value]:
        first, second = (fn.load(I64, source, times(fn.minimum(index, last), KEY), 8) for index in at)
        left = fn.compare("slt", at[0], middle)
        none = fn.compare("sge", at[1], end)
        lesser = fn.binary("or", none, fn.compare("ule", first, second))
        taken = fn.emit(I1, f"and i1 {left.text}, {lesser.text}")
        fn.store(fn.select(taken, first, second), target, place * KEY, 8)
        moved = fn.convert("zext", taken, I64)
        return [at[0] + moved, at[1] + (1 - moved)]

    fn.loop(start, end, one, [start, middle])
