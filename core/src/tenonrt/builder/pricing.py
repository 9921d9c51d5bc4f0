"""What reformats cost: the time of the best kernel for each, where it matters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from tenonrt.builder.cover import Column
from tenonrt.builder.offers import Offer, Offers
from tenonrt.builder.reformats import pose_reformat
from tenonrt.builder.rounds import race_again
from tenonrt.builder.selection import Selector
from tenonrt.builder.tuner import Tuner
from tenonrt.graph.graph import Tensor
from tenonrt.problem import Tactic
from tenonrt.types import LINEAR, Format, TensorType

_Stored = tuple[TensorType, Format, Format]  # what, from, to

# A tensor whose reformat is estimated at less than this share of the network keeps the estimate.
_NEGLIGIBLE = 0.002


def price_reformats(selector: Selector, columns: Sequence[Column], offers: Offers, tuner: Tuner) -> None:
    """Time the reformats that a cover may want, once for each distinct problem, and tell the selector."""
    wanted = list(_wanted(selector, columns))
    problems: dict[_Stored, list[Offer]] = {}
    for number, source, target in wanted:
        tensor = selector.tensor(number)
        key = (tensor.type, source, target)
        if key not in problems:
            posed = pose_reformat(offers.registry, offers.config, tensor, source, target)
            problems[key] = list(offers.alone(posed))
    tuner.check_all(offer for rivals in problems.values() for offer in rivals)
    sound = {key: [o for o in rivals if not tuner.check(o)] for key, rivals in problems.items()}
    start = time.monotonic()
    for rivals in sound.values():
        tuner.time(rivals)
    again = {str(number): rivals for number, rivals in enumerate(sound.values()) if rivals}
    race_again(again, tuner, time.monotonic() - start, lambda done, total, name: None)
    prices = {key: min(map(tuner.nanoseconds, rivals)) for key, rivals in sound.items() if rivals}
    for number, source, target in wanted:
        if (found := prices.get((selector.tensor(number).type, source, target))) is not None:
            selector.prices[number, target] = found


def find_limits(selector: Selector, offers: Offers) -> None:
    """Tell the selector in which formats no kernel on offer stores a tensor as a slice of a larger one, or reads one.

    Where kernels of the device itself offer it, these alone count: what starts in a format of theirs, no host can read.
    """
    examples = {part.format: tensor for tensor, parts in selector.slices.items() for part in parts}
    for format, tensor in examples.items():
        if not any(0 in tactic.writes_strided for tactic in _reformats(offers, tensor, LINEAR, format)):
            selector.unwritable.add(format)
        if not any(0 in tactic.reads_strided for tactic in _reformats(offers, tensor, format, LINEAR)):
            selector.unreadable.add(format)


def _reformats(offers: Offers, tensor: Tensor, source: Format, target: Format) -> list[Tactic]:
    """The tactics that count for a reformat."""
    rivals = list(offers.alone(pose_reformat(offers.registry, offers.config, tensor, source, target)))
    own = [offer for offer in rivals if offer.kernel.on_device]
    return [offer.tactic for offer in own or rivals]


def _wanted(selector: Selector, columns: Sequence[Column]) -> Iterator[tuple[int, Format, Format]]:
    """(tensor, from, to). A cover prices a reformat by its target alone: it is taken to start from linear storage where
    some tactic writes that, else from the first format that one writes."""
    problem = selector.problem(columns)
    written: dict[int, set[Format]] = {n: {LINEAR} for n in problem.given}
    for column in columns:
        for number, storage in column.writes:
            written.setdefault(number, set()).update([storage] if isinstance(storage, Format) else [])
    read = [*(read for column in columns for read in column.reads), *problem.demands]
    pairs = {(n, s) for n, accepts in read for s in accepts if isinstance(s, Format) and s.quant is None}
    limit = _NEGLIGIBLE * _least_total(columns)
    for number, target in sorted(pairs, key=lambda pair: (pair[0], str(pair[1]))):
        sources = sorted(written.get(number, set()) - {target}, key=lambda f: (f != LINEAR, str(f)))
        estimate = selector.reformat_price(number, target)
        type = selector.tensor(number).type
        if sources and sources[0].quant is None and estimate is not None and estimate >= limit and type.static:
            yield number, sources[0], target


def _least_total(columns: Sequence[Column]) -> float:
    """Less than any cover can cost: the cheapest share of each layer."""
    shares: dict[int, float] = {}
    for column in columns:
        for layer in column.layers:
            share = column.cost / len(column.layers)
            shares[layer] = min(share, shares.get(layer, share))
    return sum(shares.values())
