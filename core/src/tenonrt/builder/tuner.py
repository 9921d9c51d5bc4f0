"""What is known of offers: first runs in trial processes, then times in this one; the timing cache answers for both."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import msgspec

from tenonrt.builder.cache import CacheEntry, TimingCache
from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.offers import Offer
from tenonrt.builder.sampling import separated, trial_values
from tenonrt.builder.timing import Entrant, Surroundings, Time, race
from tenonrt.builder.trial import Packs, Sample, bind_sample, compile_for
from tenonrt.builder.trials import TrialPool
from tenonrt.builder.watching import Watch
from tenonrt.builder.worker import TrialReply, TrialRequest
from tenonrt.contracts import AllocatesOutputs, Device, Launch
from tenonrt.errors import BuildError, ExecutionError
from tenonrt.plugins.code_version import code_version
from tenonrt.plugins.registry import Registry
from tenonrt.problem import Code, Problem

# Drawing the inputs of a trial and computing its answer in float64 must not exhaust the machine that builds.
MAX_TRIAL_BYTES = 1 << 29
# What a step in Python costs beside its own time where others run in the device's program: the way out and back in, and
# threads that have gone to sleep or compete with those of a library.
LEAVING_SECONDS = 20e-6
# Offers of one problem that a process tries in a row, where others could be trying some of them.
_SHARE = 6

# In quiet a fiftieth of runs is disturbed, beside one busy process half of them.
_OTHER_WORK = 0.1

# What is raced again: a disturbed race may have taken one of the best for so much slower than the best.
_LEADERS = 2.0

Key = tuple[str, str]  # the problem's key and the offer's id
Tell = Callable[[int, int, str], None]


class Again(NamedTuple):
    """The least seconds of a problem in all races before and in this one; sound: every leader has had a sound run."""

    before: float
    after: float
    sound: bool


def trial_bytes(problem: Problem) -> int:
    """The bytes of a problem's tensors in float64, at the small values that symbols have in a trial."""
    values = trial_values(problem, 2)
    return 8 * sum(math.prod(type.concrete(values)) for type in problem.types)


def weight_bytes(problem: Problem) -> int:
    """The bytes of a problem's constants."""
    sizes = [problem.types[i].nbytes for i in problem.constants]
    return sum(size for size in sizes if isinstance(size, int))


@dataclass
class Tuner:
    """Keeps verdicts and times of offers by (problem, kernel, tactic)."""

    config: BuilderConfig
    registry: Registry
    device: Device
    cache: TimingCache
    trials: TrialPool
    touched: int = 0  # bytes that one run of the network reads
    notes: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _known: dict[Key, CacheEntry] = field(default_factory=dict)
    _codes: dict[Key, Code] = field(default_factory=dict)
    _kept: set[Key] = field(default_factory=set)  # whose code is in the cache
    _fresh: set[Key] = field(default_factory=set)  # timed by this build, by a race that may be run again
    _sound: dict[Key, list[float]] = field(default_factory=dict)  # what races found that were not disturbed throughout
    _has_native: bool = False  # steps can run without coming back to Python between them
    _surroundings: Surroundings | None = None
    _watch: Watch = field(init=False)
    _deadline: float | None = None

    def __post_init__(self) -> None:
        self._watch = Watch(self.config.threads)
        if self.config.tuning_seconds is not None:
            self._deadline = time.monotonic() + self.config.tuning_seconds

    def known(self, offer: Offer) -> CacheEntry | None:
        """What this build has learnt of an offer."""
        return self._known.get(key_of(offer))

    def summary(self) -> str:
        """What the tuner did, in one line."""
        counted = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return f"tuning: {counted or 'nothing to do'}; timing cache: {self.cache.hits} hits, {self.cache.misses} misses"

    def locked(self, what: str) -> None:
        """`BuildError` where the configuration allows only what the timing cache knows, and it does not know this."""
        if self.config.lock:
            raise BuildError(
                f"the timing cache has no {what}, and the build is locked to it; build once without the lock, on this "
                "machine and with the same plugins, options and model"
            )

    # first runs ------------------------------------------------------------------------------------------------------

    def check(self, offer: Offer) -> str:
        """Why an offer is refused after its first run, or an empty string. Kernels that run the reference pass."""
        self.check_all([offer])
        known = self.known(offer)
        return known.why if known is not None else ""

    def check_all(self, offers: Iterable[Offer], tell: Tell = lambda done, total, name: None) -> None:
        """The first runs of all offers that nothing is known of, problem by problem, side by side."""
        groups: dict[str, dict[str, Offer]] = {}
        for offer in offers:
            if self._must_run(offer):
                groups.setdefault(offer.posed.key, {})[offer.id] = offer
        if not groups:
            return
        first = next(iter(next(iter(groups.values())).values()))
        self.locked(f"first runs of {sum(map(len, groups.values()))} tactics, {first.id} at {first.posed.region.name}")
        # The longest first, so that the processes end together.
        work = sorted(self._shares(groups), key=lambda g: -len(g) * trial_bytes(g[0].posed.problem))
        finished = 0

        def done(index: int, replies: list[TrialReply]) -> None:
            nonlocal finished
            for offer, reply in zip(work[index], replies, strict=True):
                self._judge(offer, reply)
            finished += 1
            tell(finished, len(work), work[index][0].posed.region.name)

        tell(0, len(work), work[0][0].posed.region.name)
        requests = [[TrialRequest(o.entry.id, o.posed.problem, o.tactic) for o in group] for group in work]
        self.trials.run(requests, done)

    def _shares(self, groups: Mapping[str, Mapping[str, Offer]]) -> Iterator[list[Offer]]:
        """What one process tries: all offers for a problem, whose samples it draws once; fewer where compiling is slow.

        Libraries of a GPU take up to a second to build a plan, and have many for each problem.
        """
        for group in groups.values():
            offers = list(group.values())
            size = _SHARE if self.device.races else len(offers)
            yield from (offers[i : i + size] for i in range(0, len(offers), size))

    def _must_run(self, offer: Offer) -> bool:
        key = key_of(offer)
        if offer.kernel.runs_reference or key in self._known:
            return False
        cached = self.cache.get(self._cache_key(offer))
        if cached is not None:
            self._remember(key, cached)
        elif (nbytes := self._trial_bytes(offer.posed.problem)) > MAX_TRIAL_BYTES:
            self._learn(offer, CacheEntry(f"a trial of it would take {nbytes} bytes, more than {MAX_TRIAL_BYTES}"))
        return key not in self._known

    def _trial_bytes(self, problem: Problem) -> int:
        """What the answer of a trial takes, which is that of a few items where a batch has items on their own."""
        nbytes = trial_bytes(problem)
        few = separated(problem, self.registry.layer_type) if nbytes > MAX_TRIAL_BYTES else None
        return nbytes if few is None else trial_bytes(few)

    def _judge(self, offer: Offer, reply: TrialReply) -> None:
        self.counts["tactics tried"] += 1
        if reply.ok and offer.general:
            parts = reply.blob, reply.info, reply.native, reply.workspace
            self._codes[key_of(offer)] = Code(offer.posed.problem, offer.tactic, *parts)
        entry = CacheEntry(
            reply.why if not reply.ok else "", reply.error if reply.ok else None, native=reply.native is not None
        )
        if reply.settled:
            self._learn(offer, entry)
        else:
            self._remember(key_of(offer), entry)

    def passed(self, offer: Offer) -> bool:
        """Whether an offer had a first run in which all was right; kernels that run the reference need none."""
        known = self.known(offer)
        return offer.kernel.runs_reference or (known is not None and not known.why)

    def error(self, offer: Offer) -> float:
        """Max |y - ref| over max |ref| at its first run; 0 when there was none."""
        known = self.known(offer)
        return known.error or 0.0 if known is not None else 0.0

    def code(self, offer: Offer, *, keep: bool = True) -> Code:
        """The compiled tactic: from its trial, the cache, or compiled now. ``keep``: in the cache, for other builds."""
        key = key_of(offer)
        if key not in self._codes:
            found = self.cache.code(self._cache_key(offer), offer.posed.problem, offer.tactic)
            if found is not None:
                self._kept.add(key)
            self._codes[key] = found or offer.kernel.compile(offer.posed.problem, offer.tactic)
        code = self._codes[key]
        if keep and key not in self._kept and (code.blob or code.native is not None):
            self._kept.add(key)
            self.cache.keep_code(self._cache_key(offer), code)
        return code

    # times -----------------------------------------------------------------------------------------------------------

    def time(self, offers: Sequence[Offer]) -> bool:
        """Time the offers for one problem against each other, those whose time is not known; whether it did."""
        wanted = [offer for offer in offers if self._lacks_time(offer)]
        if not wanted or self._expired(wanted[0]):
            return False
        self.locked(f"times of {wanted[0].posed.region.name}")
        found = self._contest(wanted)
        for offer, measured in found:
            self._know_time(offer, measured)
            if not self.device.races:
                self._fresh.add(key_of(offer))
        self.counts["problems timed"] += bool(found)
        return True

    def leaves(self, offer: Offer) -> bool:
        """Whether its step runs outside the device's program, where others stay inside."""
        return self._has_native and not self._is_native(offer)

    def _is_native(self, offer: Offer) -> bool:
        known = self.known(offer)
        return known is not None and known.native

    def time_again(self, offers: Sequence[Offer]) -> Again | None:
        """Race the leaders for one problem once more, steps in Python left out; None where nothing was to be raced.

        Who had only disturbed runs may be far behind for no fault of its own.
        """
        fresh = [offer for offer in offers if key_of(offer) in self._fresh and not self.leaves(offer)]
        known = [(offer, self._seconds(offer)) for offer in fresh]
        least = min((seconds for _, seconds in known), default=math.inf)
        leaders = [
            o for o, s in known if s <= least * _LEADERS * (1 if key_of(o) in self._sound else self.config.threads)
        ]
        if not leaders or self._past_deadline():
            return None
        found = self._contest(leaders)
        for offer, measured in found:
            self._know_time(offer, measured)
        self.counts["races run again"] += 1
        if not found:
            return None
        sound = all(key_of(offer) in self._sound for offer in leaders)
        return Again(least, min(measured.seconds for _, measured in found), sound)

    @property
    def disturbed(self) -> bool:
        """Whether the machine has other work: more than a few runs of races were disturbed."""
        return self._watch.share > _OTHER_WORK

    def settle(self) -> None:
        """The times so far are final."""
        self.counts["times of disturbed runs alone"] += len(self._fresh.difference(self._sound))
        self._fresh.clear()
        self._sound.clear()

    def _seconds(self, offer: Offer) -> float:
        known = self.known(offer)
        return math.inf if known is None or known.seconds is None else known.seconds

    def _know_time(self, offer: Offer, measured: Time) -> None:
        """The lower median of what sound races found; where there was none, the least, for disturbances only add."""
        key = key_of(offer)
        if measured.sound:
            self._sound.setdefault(key, []).append(measured.seconds)
        found = sorted(self._sound.get(key, ())) or [min(measured.seconds, self._seconds(offer))]
        seconds = found[(len(found) - 1) // 2]
        self._learn(offer, msgspec.structs.replace(self.known(offer) or CacheEntry(), seconds=seconds))

    def _contest(self, wanted: Sequence[Offer]) -> list[tuple[Offer, Time]]:
        """One race of offers for one problem: those that could be run, and their times."""
        problem = wanted[0].posed.problem
        sample = Sample.typical(problem, self.registry.layer_type)
        try:
            bound, raced = self._raced(wanted, problem, sample)
        except ExecutionError as error:
            # Drawn values of a host input (a shape) need not be those that the problem's types follow from.
            self.notes.append(f"{wanted[0].posed.region.name} was not timed, estimates decide: {error}")
            for offer in wanted:
                self._learn(offer, msgspec.structs.replace(self.known(offer) or CacheEntry(), timeless=True))
            return []
        return list(zip(bound, raced, strict=True))

    def _raced(self, wanted: Sequence[Offer], problem: Problem, sample: Sample) -> tuple[list[Offer], list[Time]]:
        """The offers that can be run, and the time of each."""
        if self.device.races and any(offer.kernel.on_device for offer in wanted):
            offers, times = self._raced_by_device([o for o in wanted if o.kernel.on_device], sample)
            hosts = [offer for offer in wanted if not offer.kernel.on_device]
            others = self._raced(hosts, problem, sample) if hosts else ([], [])
            return offers + others[0], times + others[1]
        bound = [(offer, entrant) for offer in wanted if (entrant := self._bind(offer, sample)) is not None]
        offers, entrants = [offer for offer, _ in bound], [entrant for _, entrant in bound]
        if self._surroundings is None:
            self._surroundings = Surroundings(self.device, self.config.threads, self.touched)
        # Idle threads of a library want cores that steps in Python then wait for: that is theirs, and no disturbance.
        watch = self._watch if all(self._is_native(offer) for offer in offers) else None
        return offers, race(entrants, self._surroundings, weight_bytes(problem), watch) if bound else []

    def _raced_by_device(self, wanted: Sequence[Offer], sample: Sample) -> tuple[list[Offer], list[Time]]:
        found: list[tuple[Offer, Time]] = []
        packs = Packs()
        binders = [partial(self._bind_again, offer, sample, packs) for offer in wanted]
        for offer, result in zip(wanted, self.device.race(binders), strict=True):
            if isinstance(result, Exception):
                self._refuse(offer, result)
            else:
                found.append((offer, Time(result)))
        return [offer for offer, _ in found], [measured for _, measured in found]

    def _bind_again(self, offer: Offer, sample: Sample, packs: Packs) -> Launch:
        if offer.general:
            code = self.code(offer, keep=False)
        else:
            code = compile_for(offer.kernel, offer.posed.problem, offer.tactic, offer.support, sample)
        return bind_sample(offer.kernel, code, sample, self.device, packs=packs).launch

    def _refuse(self, offer: Offer, error: Exception) -> None:
        entry = self.known(offer) or CacheEntry()
        self._learn(offer, CacheEntry(f"at the sizes to be tuned for it raised {error!r}", entry.error))

    def _bind(self, offer: Offer, sample: Sample) -> Entrant | None:
        """The offer after one run, None when it fails at the sizes it is timed at, or makes its own outputs."""
        try:
            launch = self._bind_again(offer, sample, Packs())
            if isinstance(launch.executable, AllocatesOutputs):
                entry = self.known(offer) or CacheEntry()
                self._learn(offer, msgspec.structs.replace(entry, timeless=True))
                return None
            runnable = self.device.bind([launch], self.config.threads)
            runnable.run(None)
        except Exception as error:  # noqa: BLE001 - whatever a kernel raises, the build goes on without it
            self._refuse(offer, error)
            return None
        return Entrant(launch, runnable)

    def nanoseconds(self, offer: Offer) -> int:
        """What the cover is told: the time, else the kernel's estimate, else a microsecond."""
        known = self.known(offer)
        seconds = known.seconds if known is not None else None
        if seconds is None:
            seconds = offer.estimate if offer.estimate is not None else 1e-6
        if self.leaves(offer):
            seconds += LEAVING_SECONDS
        return max(1, round(seconds * 1e9))

    def _remember(self, key: Key, entry: CacheEntry) -> None:
        self._known[key] = entry
        self._has_native = self._has_native or entry.native

    def recalls(self, offer: Offer) -> bool:
        """Whether this build or the timing cache has tried an offer."""
        key = key_of(offer)
        if key not in self._known and (cached := self.cache.get(self._cache_key(offer))) is not None:
            self._remember(key, cached)
        return key in self._known

    def _lacks_time(self, offer: Offer) -> bool:
        if not self.recalls(offer):
            return True
        known = self._known[key_of(offer)]
        return known.seconds is None and not known.timeless

    def _past_deadline(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _expired(self, offer: Offer) -> bool:
        if not self._past_deadline():
            return False
        self.notes.append(f"tuning_seconds is over: {offer.posed.region.name} was not timed, estimates decide")
        return True

    def _learn(self, offer: Offer, entry: CacheEntry) -> None:
        self._remember(key_of(offer), entry)
        self.cache.put(self._cache_key(offer), entry)

    def _cache_key(self, offer: Offer) -> str:
        return self.cache.key(offer.posed.key, offer.entry.id, code_version(offer.entry), offer.tactic.key)


def key_of(offer: Offer) -> Key:
    """What verdicts and times are kept by."""
    return offer.posed.key, offer.id
