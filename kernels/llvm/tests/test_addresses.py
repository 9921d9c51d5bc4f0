"""Constants of AArch64 code are found from wherever the code lies."""

from __future__ import annotations

import struct

from tenonrt_kernel_llvm.assembly import assemble
from tenonrt_kernel_llvm.emitter import FLOAT, PTR, Function, vector
from tenonrt_kernel_llvm.target import NEON


def test_addresses_are_loaded_whole() -> None:
    fn = Function(NEON, "kernel", [(PTR, "p")])
    (pointer,) = fn.parameters
    for number in range(3):
        lanes = fn.lane_constants("i32", range(100 * number, 100 * number + 4))
        fn.store(fn.convert("sitofp", fn.load(lanes.type, pointer) + lanes, FLOAT), pointer, 16 * number)
    fn.store(fn.load(vector(4), pointer), pointer, 64)
    fn.ret()
    image, _ = assemble(NEON, [fn])
    words = struct.unpack(f"<{len(image) // 4}I", image[: len(image) // 4 * 4])
    found = []
    for at, word in enumerate(words):
        assert word & 0x9F000000 != 0x90000000, "an ADRP is left, which counts pages"
        if word & 0x9F000000 == 0x10000000:
            high, low = word >> 5 & 0x7FFFF, word >> 29 & 3
            distance = (high << 2 | low) - (1 << 21 if high >> 18 else 0)
            found.append(struct.unpack_from("<4i", image, 4 * at + distance))
    assert sorted(found) == [tuple(range(100 * n, 100 * n + 4)) for n in range(3)]
