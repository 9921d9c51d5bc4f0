"""Pricing offers: a first run in the trial process, then timing in this one; the timing cache answers for both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tenonrt.builder.cache import CacheEntry, TimingCache
from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.offers import Offer
from tenonrt.builder.trial import Bound, Sample, bind_sample, compile_for
from tenonrt.builder.trials import TrialProcess
from tenonrt.contracts import AllocatesOutputs, Device
from tenonrt.errors import ExecutionError
from tenonrt.plugins.registry import Registry
from tenonrt.problem import Code, Problem

# Every candidate is run in turn for this many rounds; its time is the least of them, so that a disturbance of one
# round, or a drifting clock, does not decide.
_ROUNDS = 7
_SECONDS_PER_PROBLEM = 0.5
# Drawing the inputs of a trial and computing its answer in float64 must not exhaust the machine that builds.
MAX_TRIAL_BYTES = 1 << 31


def trial_bytes(problem: Problem) -> int:
    """The bytes of a problem's tensors of fixed size, in float64; symbols are small in a trial."""
    sizes = [type.size for type in problem.types]
    return 8 * sum(size for size in sizes if isinstance(size, int))


@dataclass
class Tuner:
    """Keeps verdicts and times of offers by (problem, kernel, tactic)."""

    config: BuilderConfig
    registry: Registry
    device: Device
    cache: TimingCache
    trials: TrialProcess
    notes: list[str] = field(default_factory=list)
    _known: dict[tuple[str, str], CacheEntry] = field(default_factory=dict)
    _codes: dict[tuple[str, str], Code] = field(default_factory=dict)
    _deadline: float | None = None

    def __post_init__(self) -> None:
        if self.config.tuning_seconds is not None:
            self._deadline = time.monotonic() + self.config.tuning_seconds

    def known(self, offer: Offer) -> CacheEntry | None:
        """What this build has learnt of an offer."""
        return self._known.get((offer.posed.key, offer.id))

    def check(self, offer: Offer) -> str:
        """Why an offer is refused after its first run, or an empty string. Kernels that run the reference pass."""
        key = (offer.posed.key, offer.id)
        if offer.kernel.runs_reference:
            return self._known[key].why if key in self._known else ""
        if key not in self._known:
            cached = self.cache.get(self._cache_key(offer))
            self._known[key] = cached if cached is not None else self._try(offer)
        return self._known[key].why

    def error(self, offer: Offer) -> float:
        """Max |y - ref| over max |ref| at its first run; 0 when there was none."""
        known = self.known(offer)
        return known.error or 0.0 if known is not None else 0.0

    def code(self, offer: Offer, problem: Problem) -> Code:
        """The compiled tactic: from its trial when that compiled the same problem, else compiled now."""
        found = self._codes.get((offer.posed.key, offer.id))
        return found if found is not None else offer.kernel.compile(problem, offer.tactic)

    def time(self, offers: Sequence[Offer]) -> None:
        """Time the offers for one problem against each other, those whose time is not known."""
        wanted = [offer for offer in offers if self._seconds(offer) is None]
        if not wanted or self._expired(wanted[0]):
            return
        sample = Sample.largest(wanted[0].posed.problem, self.registry.layer_type)
        bound = []
        for offer in wanted:
            candidate = self._bind(offer, sample)
            if candidate is not None and not isinstance(candidate.launch.executable, AllocatesOutputs):
                bound.append((offer, candidate))
        try:
            raced = self._race(bound)
        except ExecutionError as error:
            # Drawn values of a host input (a shape) need not be those that the problem's types follow from.
            self.notes.append(f"{wanted[0].posed.region.name} was not timed, estimates decide: {error}")
            return
        for offer, seconds in raced:
            entry = self._known.get((offer.posed.key, offer.id), CacheEntry())
            self._learn(offer, CacheEntry(entry.why, entry.error, seconds))

    def _bind(self, offer: Offer, sample: Sample) -> Bound | None:
        """The offer ready to be timed, None when it fails at the sizes it is timed at: then it is refused."""
        try:
            code = compile_for(offer.kernel, offer.posed.problem, offer.tactic, offer.support, sample)
            bound = bind_sample(offer.kernel, code, sample, self.device)
            if not isinstance(bound.launch.executable, AllocatesOutputs):
                self.device.bind([bound.launch], self.config.threads).run(None)
        except Exception as error:  # noqa: BLE001 - whatever a kernel raises, the build goes on without it
            entry = self._known.get((offer.posed.key, offer.id), CacheEntry())
            self._learn(offer, CacheEntry(f"at the largest sizes it raised {error!r}", entry.error))
            return None
        return bound

    def nanoseconds(self, offer: Offer) -> int:
        """What the cover is told: the time, else the kernel's estimate, else a microsecond."""
        known = self.known(offer)
        seconds = known.seconds if known is not None else None
        if seconds is None:
            seconds = offer.estimate if offer.estimate is not None else 1e-6
        return max(1, round(seconds * 1e9))

    def _seconds(self, offer: Offer) -> float | None:
        key = (offer.posed.key, offer.id)
        if key not in self._known:
            cached = self.cache.get(self._cache_key(offer))
            if cached is None:
                return None
            self._known[key] = cached
        return self._known[key].seconds

    def _expired(self, offer: Offer) -> bool:
        if self._deadline is None or time.monotonic() < self._deadline:
            return False
        self.notes.append(f"tuning_seconds is over: {offer.posed.region.name} was not timed, estimates decide")
        return True

    def _race(self, bound: Sequence[tuple[Offer, Bound]]) -> list[tuple[Offer, float]]:
        runnables = [self.device.bind([b.launch], self.config.threads) for _, b in bound]
        best = [float("inf")] * len(bound)
        stop = time.monotonic() + _SECONDS_PER_PROBLEM
        for round_number in range(_ROUNDS + 1):
            for index, runnable in enumerate(runnables):
                with np.errstate(all="ignore"):  # as when an engine runs
                    seconds = sum(runnable.time(None))
                if round_number > 0 or len(bound) == 1:  # the first round warms caches and lazy state
                    best[index] = min(best[index], seconds)
            if round_number > 0 and time.monotonic() > stop:
                break
        return [(offer, seconds) for (offer, _), seconds in zip(bound, best, strict=True)]

    def _try(self, offer: Offer) -> CacheEntry:
        if (nbytes := trial_bytes(offer.posed.problem)) > MAX_TRIAL_BYTES:
            entry = CacheEntry(f"a trial of it would take {nbytes} bytes, more than {MAX_TRIAL_BYTES}")
            self._learn(offer, entry)
            return entry
        reply = self.trials.run(offer.entry.id, offer.posed.problem, offer.tactic)
        if reply.ok and not offer.posed.problem.symbols:
            code = Code(offer.posed.problem, offer.tactic, reply.blob, reply.info, reply.native)
            self._codes[offer.posed.key, offer.id] = code
        entry = CacheEntry(reply.why if not reply.ok else "", reply.error if reply.ok else None)
        if reply.settled:
            self._learn(offer, entry)
        return entry

    def _learn(self, offer: Offer, entry: CacheEntry) -> None:
        self._known[offer.posed.key, offer.id] = entry
        self.cache.put(self._cache_key(offer), entry)

    def _cache_key(self, offer: Offer) -> str:
        return self.cache.key(offer.posed.key, offer.entry.id, offer.entry.version, offer.tactic.key)
