"""How sums of products of bytes are computed: matrices in tile registers, dot products of four, or pairs of 16 bits.

All three read weights as [pair of blocks][four inputs][block][16 outputs][4], and leave sums as [pixel][block][16].
They are exact: nothing saturates on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tenonrt_kernel_llvm.emitter import I8, I32, PTR, Function, Index, Value, vector
from tenonrt_kernel_llvm.target import BLOCK, Target, host_has

PAIR_BYTES = 2 * 4 * BLOCK  # a pair of blocks: of weights for four inputs, or of sums of a pixel
# Few pixels for weights that come from memory: ask for them this many bytes before they are multiplied.
_FEW, _AHEAD = 64, 1 << 14
_SUMS = vector(BLOCK, I32)
_BYTES = vector(4 * BLOCK, I8)


@dataclass(frozen=True)
class Engine:
    """One way. features: beyond those of the target, as fingerprints and as LLVM spell them."""

    name: str
    target: str
    features: tuple[str, ...] = ()
    extensions: str = ""
    signed: bool = True  # whether it multiplies signed inputs as they are; otherwise 128 is added to them

    def extend(self, target: Target) -> Target:
        """The target with what this needs."""
        return replace(target, features=(*target.features, *self.features), extensions=self.extensions)


AMX = Engine("amx", "avx512", ("amx_int8", "amx_tile"), "+amx-int8,+amx-tile")
VNNI = Engine("vnni", "avx512", ("avx512_vnni",), "+avx512vnni", signed=False)
WIDENING = Engine("wide", "avx2")
ENGINES = {engine.name: engine for engine in (AMX, VNNI, WIDENING)}
_LLVM_NAMES = {"amx_int8": "amx-int8", "amx_tile": "amx-tile", "avx512_vnni": "avx512vnni"}


def engines_for(target: Target) -> list[Engine]:
    """Those that code for a target may use on this machine, the best first."""
    found = [
        engine
        for engine in (AMX, VNNI)
        if engine.target == target.name and all(host_has(_LLVM_NAMES[f]) for f in engine.features)
    ]
    return found or ([WIDENING] if target.name in ("avx512", "avx2") else [])


@dataclass(frozen=True)
class Depth:
    """How many inputs a sum has, in chunks of a register of tiles (or of four)."""

    chunks: int
    chunk: int

    @property
    def padded(self) -> int:
        return self.chunks * self.chunk


def depth_of(engine: Engine, inputs: int) -> Depth:
    """As even as can be: at most 64 bytes a chunk, a multiple of four."""
    if engine is not AMX:
        return Depth(-(-inputs // 4), 4)
    chunks = -(-inputs // 64)
    return Depth(chunks, -(-inputs // (4 * chunks)) * 4)


@dataclass(frozen=True)
class Rows:
    """Inputs of the pixels of a unit: where the first begins, bytes from one to the next, and their element type."""

    pointer: Value
    step: int
    unsigned: bool


class Sums:
    """Computes sums of ``pixels`` at a time, the least number that a unit has at most. weights, start: of a pair."""

    def __init__(self, fn: Function, engine: Engine, depth: Depth, least: int, most: int) -> None:
        self.fn, self.engine, self.depth = fn, engine, depth
        each = {"amx": 16, "vnni": 12, "wide": 1}[engine.name]
        self.tile = min(each, least)  # pixels that are computed at once at least
        self.streams = most <= _FEW  # weights are read once or twice, from far away
        self.tiles = 2 if engine is AMX and most > self.tile else 1

    @property
    def nbytes(self) -> int:
        """Of the memory for sums."""
        return self.tile * self.tiles * PAIR_BYTES

    def compute(self, rows: Rows, first: Sequence[Value], weights: Value, start: Value, sums: Value) -> None:
        """``first``: the first pixel of each tile. start: sums that are there already, for each channel."""
        if self.engine is AMX:
            self._matrices(rows, first, weights, start, sums)
        else:
            self._products(rows, first[0], weights, start, sums)

    # tile registers: 0 to 3 are sums, 4 and 5 inputs, 6 and 7 weights ------------------------------------------------

    def _matrices(self, rows: Rows, first: Sequence[Value], weights: Value, start: Value, sums: Value) -> None:
        fn, depth = self.fn, self.depth
        for index in range(2 * len(first)):
            load_tile(fn, index, fn.offset(start, index % 2 * 64), 0)
        lines = [fn.offset(rows.pointer, pixel * rows.step) for pixel in first]

        def chunk(number: Value, _: list[Value]) -> Sequence[Value]:
            for index, line in enumerate(lines):
                load_tile(fn, 4 + index, fn.offset(line, number * depth.chunk), rows.step)
            at = fn.offset(weights, number * (depth.chunk // 4 * PAIR_BYTES))
            if self.streams:
                for ahead in range(depth.chunk // 4 * PAIR_BYTES // 64):
                    fn.prefetch(at, _AHEAD + 64 * ahead)
            for block in range(2):
                load_tile(fn, 6 + block, fn.offset(at, 64 * block), PAIR_BYTES)
            for index in range(len(lines)):
                for block in range(2):
                    multiply_tiles(fn, 2 * index + block, 4 + index, 6 + block, rows.unsigned)
            return ()

        fn.loop(0, depth.chunks, chunk)
        for index in range(2 * len(first)):
            store_tile(fn, index, fn.offset(sums, index // 2 * (self.tile * PAIR_BYTES) + index % 2 * 64), PAIR_BYTES)

    # dot products ----------------------------------------------------------------------------------------------------

    def _products(self, rows: Rows, first: Value, weights: Value, start: Value, sums: Value) -> None:
        fn = self.fn
        wide = self.engine is WIDENING
        line = fn.offset(rows.pointer, first * rows.step)
        begin = [fn.load(_SUMS, start, 64 * block) for block in range(2)]
        if wide:
            begin = [part for total in begin for part in _spread_pairs(fn, total)]
        each = len(begin)

        def four(number: Value, carried: list[Value]) -> Sequence[Value]:
            at = fn.offset(weights, number * PAIR_BYTES)
            taken = [fn.load(_BYTES, at, 64 * block) for block in range(2)]
            totals = list(carried)
            inputs = fn.offset(line, number * 4)
            for pixel in range(self.tile):
                given = fn.load(I32, inputs, pixel * rows.step, align=1)
                mine = slice(pixel * each, (pixel + 1) * each)
                add = self._widened if wide else self._dotted
                totals[mine] = add(totals[mine], given, taken, rows.unsigned)
            return totals

        totals = fn.loop(0, self.depth.chunks, four, begin * self.tile)
        for pixel in range(self.tile):
            mine = totals[pixel * each : (pixel + 1) * each]
            for block, total in enumerate(_join_pairs(fn, mine) if wide else mine):
                fn.store(total, sums, pixel * PAIR_BYTES + 64 * block)

    def _dotted(self, totals: Sequence[Value], given: Value, weights: Sequence[Value], unsigned: bool) -> list[Value]:
        """vpdpbusd takes unsigned inputs: signed ones have their highest bit turned, which adds 128."""
        fn = self.fn
        if not unsigned:
            given = fn.binary("xor", given, -0x7F7F7F80)
        spread = fn.convert_bits(fn.splat(given, BLOCK), _BYTES)
        return [
            fn.call("llvm.x86.avx512.vpdpbusd.512", _SUMS, [total, spread, w])
            for total, w in zip(totals, weights, strict=True)
        ]

    def _widened(self, totals: Sequence[Value], given: Value, weights: Sequence[Value], unsigned: bool) -> list[Value]:
        """Products of 16 bits, added in pairs: vpmaddubsw would saturate."""
        fn, result = self.fn, list(totals)
        wide = fn.convert("zext" if unsigned else "sext", fn.convert_bits(given, vector(4, I8)), "i16")
        spread = fn.convert_bits(fn.splat(fn.convert_bits(wide, "i64"), 4), vector(16, "i16"))
        for part in range(len(totals)):
            block, quarter = divmod(part, 4)
            some = fn.shuffle(weights[block], weights[block], range(16 * quarter, 16 * quarter + 16))
            pairs = fn.call("llvm.x86.avx2.pmadd.wd", vector(8, I32), [spread, fn.convert("sext", some, "i16")])
            result[part] = result[part] + pairs
        return result


def _spread_pairs(fn: Function, total: Value) -> list[Value]:
    """16 sums as four vectors of pairs whose sums they are."""
    zero = fn.zero(total.type)
    return [
        fn.shuffle(total, zero, [lane for i in range(4) for lane in (4 * part + i, 16)]) for part in range(4)
    ]  # fmt: skip


def _join_pairs(fn: Function, parts: Sequence[Value]) -> list[Value]:
    """The reverse: vectors of 16 sums."""
    found = []
    for start in range(0, len(parts), 4):
        halves = [fn.shuffle(parts[start + i], parts[start + i + 1], range(16)) for i in (0, 2)]
        even, odd = (fn.shuffle(halves[0], halves[1], range(side, 32, 2)) for side in (0, 1))
        found.append(even + odd)
    return found


def configure_tiles(fn: Function, configuration: Value) -> None:
    """Shapes of the tile registers, 64 bytes."""
    fn.declarations.add("declare void @llvm.x86.ldtilecfg(ptr)")
    fn.line(f"call void @llvm.x86.ldtilecfg(ptr {configuration.text})")


def release_tiles(fn: Function) -> None:
    """Leave no tiles behind: they would be saved with the thread's registers."""
    fn.declarations.add("declare void @llvm.x86.tilerelease()")
    fn.line("call void @llvm.x86.tilerelease()")


def tile_shapes(rows: int, chunk: int) -> bytes:
    """The configuration: rows of sums and inputs, ``chunk`` bytes of input a row (Intel's manual, LDTILECFG)."""
    columns = [64] * 4 + [chunk] * 2 + [64] * 2
    lines = [rows] * 6 + [chunk // 4] * 2
    wide = b"".join(c.to_bytes(2, "little") for c in columns)
    return (bytes([1]) + bytes(15) + wide + bytes(16) + bytes(lines)).ljust(64, b"\0")


def load_tile(fn: Function, tile: int, pointer: Value, step: Index) -> None:
    """Rows of a tile register, ``step`` bytes apart; 0 repeats the first."""
    _move_tile(fn, "tileloadd64", tile, pointer, step)


def store_tile(fn: Function, tile: int, pointer: Value, step: Index) -> None:
    """The reverse."""
    _move_tile(fn, "tilestored64", tile, pointer, step)


def _move_tile(fn: Function, name: str, tile: int, pointer: Value, step: Index) -> None:
    fn.declarations.add(f"declare void @llvm.x86.{name}(i8, {PTR}, i64)")
    fn.line(f"call void @llvm.x86.{name}(i8 {tile}, ptr {pointer.text}, i64 {fn.as_value(step, 'i64').text})")


def multiply_tiles(fn: Function, total: int, inputs: int, weights: int, unsigned: bool) -> None:
    """Add the product of a register of inputs and one of weights to one of sums."""
    name = f"llvm.x86.tdpb{'u' if unsigned else 's'}sd"
    fn.declarations.add(f"declare void @{name}(i8, i8, i8)")
    fn.line(f"call void @{name}(i8 {total}, i8 {inputs}, i8 {weights})")
