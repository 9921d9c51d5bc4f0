"""How long a trained Caffe model of 64 MB takes to read, and what memory: uv run tests/benchmarks/bench_caffemodel.py

The targets: 0.25 s, and twice the file's size. Every blob is made an array, as a network that needs them all does.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from tenonrt_parser_caffe.network import read_weights

MEBIBYTE = 1 << 20


def varint(value: int) -> bytes:
    """A number as it goes over the wire."""
    made = b""
    while value > 127:
        made, value = made + bytes([value & 127 | 128]), value >> 7
    return made + bytes([value])


def delimited(number: int, value: bytes) -> bytes:
    """A field that holds bytes."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def model(layers: int, floats: int, packed: bool) -> bytes:
    """A model of layers with one blob each; old files have a tag before every float."""
    values = np.random.default_rng(0).standard_normal(floats).astype("<f4")
    if packed:
        data = delimited(5, values.tobytes())
    else:
        pairs = np.zeros(floats, [("tag", "u1"), ("value", "<f4")])
        pairs["tag"], pairs["value"] = 5 << 3 | 5, values
        data = pairs.tobytes()
    blob = delimited(7, delimited(7, delimited(1, varint(floats))) + data)
    return b"".join(delimited(100, delimited(1, f"layer{i}".encode()) + blob) for i in range(layers))


def read(path: Path) -> int:
    """Read every blob; how many bytes they are."""
    return sum(blob.array().nbytes for blobs in read_weights(path).values() for blob in blobs)


def main() -> None:
    """Measure packed and unpacked files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.caffemodel"
        for packed in (True, False):
            size = path.write_bytes(model(16, MEBIBYTE if packed else MEBIBYTE * 4 // 5, packed))
            read(path)
            times = []
            for _ in range(7):
                start = time.perf_counter()
                read(path)
                times.append(time.perf_counter() - start)
            tracemalloc.start()
            weights = read_weights(path)
            arrays = [blob.array() for blobs in weights.values() for blob in blobs]
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            print(
                f"{'packed' if packed else 'unpacked'}: {size / MEBIBYTE:.0f} MiB, {len(arrays)} blobs: "
                f"{statistics.median(times):.3f} s, peak {peak / size:.2f} times the file"
            )


if __name__ == "__main__":
    main()
