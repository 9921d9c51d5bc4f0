"""Damaged files: every one is read or refused with a `ParseError` that begins with the file's name.

``TENONRT_FUZZ_CASES`` and ``TENONRT_FUZZ_SEED`` choose more cases and others.
"""

# ruff: noqa: E501 - networks and tables keep their lines
from __future__ import annotations

import os
import random
import re
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tenonrt
from tenonrt.contracts import ParseError

CASES = int(os.environ.get("TENONRT_FUZZ_CASES", "300"))
SEED = int(os.environ.get("TENONRT_FUZZ_SEED", "0"))
NET = """name: "net"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" relu_param { negative_slope: 0.1 } }
layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL } }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "cut" type: "Slice" bottom: "pool" top: "a" top: "b" slice_param { axis: 1 slice_point: 1 } }
layer { name: "join" type: "Concat" bottom: "b" bottom: "a" top: "join" concat_param { axis: 1 } }
layer { name: "shape" type: "Reshape" bottom: "join" top: "shape" reshape_param { shape { dim: 0 dim: -1 dim: 4 } } }
layer { name: "turn" type: "Permute" bottom: "shape" top: "turn" permute_param { order: 0 order: 2 order: 1 } }
layer { name: "ip" type: "InnerProduct" bottom: "turn" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "best" type: "ArgMax" bottom: "ip" top: "best" argmax_param { top_k: 2 out_max_val: true } }
layer { name: "prior" type: "PriorBox" bottom: "pool" bottom: "x" top: "prior" prior_box_param { min_size: 4 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" include { phase: TEST } }
"""
VALUES = ["0", "-1", "1", "7", "2147483647", "4294967296", "1e30", "nan", "-0.5", "TRAIN", "true", '"x"', "'conv'", "{ }",
          "[1, 2]", "999999999999999999999", '"\\377"']  # fmt: skip
TYPES = ["Scale", "Bias", "Eltwise", "LSTM", "Deconvolution", "MVN", "Crop", "Tile", "Embed", "PReLU", "Power", "Log", "SPP",
         "Upsample", "Interp", "ROIPooling", "DetectionOutput", "Proposal", "RPROI", "Python", "Flatten", "Reduction",
         "Normalize", "Parameter", "Data", "Split", "Silence", "Unknown", "Identity"]  # fmt: skip


def text_structure(text: str, rng: random.Random) -> str:
    """Change a value, a field's name or a type; repeat, drop or move a line."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        choice = rng.randrange(6)
        if choice == 0:
            lines[at] = re.sub(r'type: "\w+"', f'type: "{rng.choice(TYPES)}"', lines[at])
        elif choice == 1:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif choice == 2 and len(lines) > 2:
            del lines[at]
        else:
            pattern = r"(?<=: )[^ ]+" if choice < 5 else r"\w+(?=:)"
            found = list(re.finditer(pattern, lines[at]))
            if found:
                chosen, words = (
                    rng.choice(found),
                    VALUES if choice < 5 else ["axis", "top", "dim", "kernel_h", "stride"],
                )
                lines[at] = lines[at][: chosen.start()] + rng.choice(words) + lines[at][chosen.end() :]
    return "\n".join(lines)


def bytes_at_random(data: bytes, rng: random.Random) -> bytes:
    """Overwrite, insert, drop or cut off bytes."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(made) or 1)
        choice = rng.randrange(5)
        if choice < 2 and made:
            made[at] = rng.randrange(256)
        elif choice == 2:
            made[at:at] = rng.randbytes(rng.randint(1, 6))
        elif choice == 3:
            del made[at : at + rng.randint(1, 20)]
        elif rng.random() < 0.3:
            del made[at:]
    return bytes(made)


def model_structure(data: bytes, rng: random.Random) -> bytes:
    """Change a tag or a length in the first bytes of a message: what the wire format hangs on."""
    made = bytearray(data)
    starts = [m.start() for m in re.finditer(rb"\xa2\x06|\x3a|\x0a|\x2a|\x12", data)]
    for _ in range(rng.randint(1, 3)):
        at = rng.choice(starts) + rng.randrange(3)
        if at < len(made):
            made[at] = rng.choice([0, 1, 5, 8, 10, 42, 45, 58, 98, 127, 128, 255, made[at] ^ 1 << rng.randrange(8)])
    return bytes(made)


@pytest.mark.parametrize("kind", ["text structure", "text bytes", "model structure", "model bytes"])
def test_damage(networks: ModuleType, tmp_path: Path, kind: str) -> None:
    deploy, trained = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    deploy.write_text(NET)
    weights = networks.made_up(deploy, seed=1)
    model = networks.caffemodel({name: [np.asarray(a) for a in blobs] for name, blobs in weights.items()})
    trained.write_bytes(model)
    assert len(tenonrt.parse(deploy, registry=networks.REGISTRY, options={"weights": str(trained)}).layers) > 10
    rng, outcomes = random.Random(f"{kind} {SEED}"), {"read": 0, "refused": 0}
    for number in range(CASES):
        if kind.startswith("text"):
            damaged = text_structure(NET, rng).encode() if "structure" in kind else bytes_at_random(NET.encode(), rng)
            deploy.write_bytes(damaged)
        else:
            trained.write_bytes((model_structure if "structure" in kind else bytes_at_random)(model, rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tenonrt.parse(
                    deploy, registry=networks.REGISTRY, options={"weights": str(trained), "random_weights": 1}
                )
        except ParseError as error:
            told = str(error)
        else:
            told = ""
        outcomes["refused" if told else "read"] += 1
        assert not told or told.startswith(str(tmp_path)), (number, told)
    assert min(outcomes.values()) > 0, outcomes
