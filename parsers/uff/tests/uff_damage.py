"""UFF files that are damaged: cut, overwritten, random, or whole with something changed in them."""

from __future__ import annotations

from random import Random
from typing import Any

EXTREMES = (0, 1, -1, 7, 64, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))


def damaged(content: bytes, random: Random) -> bytes:
    """Cut, random or overwritten bytes."""
    what = random.randrange(3)
    if what == 0:
        return content[: random.randrange(len(content))]
    if what == 1:
        return random.randbytes(random.randint(1, 300))
    changed = bytearray(content)
    for _ in range(random.randint(1, 5)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def mutated(content: bytes, random: Random) -> bytes:
    """Cut, overwritten or random bytes; or, every second time, another file of the same encoding."""
    from tenonrt_parser_uff.schema import meta_graph

    if random.random() < 0.5:
        return damaged(content, random)
    file = meta_graph().FromString(content)
    nodes = file.graphs[0].nodes
    for _ in range(random.randint(1, 3)):
        _change(random.choice(nodes), [node.id for node in nodes], [node.operation for node in nodes], file, random)
    encoded: bytes = file.SerializeToString()
    return encoded


def _change(node: Any, names: list[str], operations: list[str], file: Any, random: Random) -> None:
    what = random.randrange(5)
    if what == 0:
        node.operation = random.choice([*operations, "StridedSlice", "Pad", "ConvTranspose", "Stack", "_Odd", ""])
    elif what == 1 and node.inputs:
        node.inputs[random.randrange(len(node.inputs))] = random.choice([*names, ""])
    elif what == 2:
        node.inputs.extend(random.choices(names, k=random.choice((1, 2, 30))))
    else:
        pool = list(node.fields.values()) if what == 3 else list(file.referenced_data.values())
        for value in random.sample(pool, min(len(pool), 1)):
            _change_data(value, random)


def _change_data(value: Any, random: Random) -> None:
    kind = value.WhichOneof("data_oneof")
    if kind == "i_list" and len(value.i_list.val):
        value.i_list.val[random.randrange(len(value.i_list.val))] = random.choice(EXTREMES)
    elif kind == "dim_orders_list" and len(value.dim_orders_list.val):
        random.choice(value.dim_orders_list.val).orders[-1].val.append(random.choice(EXTREMES))
    elif kind == "i":
        value.i = random.choice(EXTREMES)
    elif random.random() < 0.5:
        value.ref = random.choice(["weights_kernel", "orders_N+C", "nothing"])
    else:
        value.i_list.val.extend(random.choices(EXTREMES, k=3))
