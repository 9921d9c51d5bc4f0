"""Kernels: every tactic of every problem they take, held to what the runtime relies on.

A tactic's first run is in a process of its own. Those that fail there (`test_first_run_ends`,
`test_stays_in_its_buffers`, `test_leaves_inputs_alone`, `test_result_is_right`) are not run in this one, so the later
rules say nothing about them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite

import msgspec
import numpy as np
import pytest
from tenonrt.builder.sampling import judge, problem_tolerance
from tenonrt.builder.trial import bind_sample, try_tactic
from tenonrt.builder.trials import TrialProcess
from tenonrt.contracts import Kernel, NativeCall, Support, Tactic, Weights, numpy_dtype
from tenonrt.dims import bounds
from tenonrt.errors import PluginError
from tenonrt.plugins.discovery import Entry, incompatibility
from tenonrt.plugins.registry import DEVICES, Registry
from tenonrt.types import rounded_as

from tenonrt_testing.candidates import Candidate, Fault, Subject
from tenonrt_testing.elsewhere import OtherProcess, Question, SavedArray
from tenonrt_testing.examples import same_values
from tenonrt_testing.execution import CompiledKernel, allocates, fill, run, strided, surroundings, with_operands, wrong
from tenonrt_testing.problems import given_sample
from tenonrt_testing.subjects import instance, report

GROUP = "tenonrt.kernels"
_subjects: dict[str, Subject] = {}


@pytest.fixture(scope="session")
def trials(request: pytest.FixtureRequest) -> Iterator[TrialProcess]:
    """One worker for all first runs; it is replaced when it ends."""
    with TrialProcess(request.config.getoption("--tenonrt-seconds")) as process:
        yield process


@pytest.fixture(scope="session")
def another_hash_seed() -> Iterator[OtherProcess]:
    """A process that is asked for tactics."""
    with OtherProcess() as process:
        yield process


@pytest.fixture(scope="session")
def nothing_compiled() -> Iterator[OtherProcess]:
    """A process that is given code, and was never asked to make any, nor for tactics."""
    with OtherProcess() as process:
        yield process


@pytest.fixture
def subject(entry: Entry, registry: Registry, trials: TrialProcess) -> Subject:
    if why := incompatibility(entry.distribution):
        pytest.skip(f"the core refuses it: {why}")
    if entry.id not in _subjects:
        kernel = instance(entry)
        name = entry.name.partition("/")[0]
        name = next(iter(registry.names(DEVICES)), "none") if name == "*" else name
        try:
            device = registry.device(name)
        except PluginError as error:
            pytest.skip(f"its device is not here: {error}")
        _subjects[entry.id] = Subject(entry, kernel, device, name, registry, trials)
    return _subjects[entry.id]


@pytest.fixture
def sound(subject: Subject) -> Subject:
    """A subject some of whose tactics may be run in this process."""
    if subject.absent:
        pytest.skip(f"its device is not here: {subject.absent}")
    if not subject.sound:
        why = subject.candidates[0].reply.why if subject.candidates else "it supports no problem that the kit poses"
        pytest.skip(f"nothing to run here: {why}")
    return subject


# before anything runs -----------------------------------------------------------------------------------------------


def test_is_a_kernel(entry: Entry) -> None:
    """The entry point names a subclass of `Kernel` that can be made without arguments.

    When this fails: the class lacks `supports` or `bind`, or its constructor wants something.
    """
    assert isinstance(instance(entry), Kernel)


def test_supports_answers_everything(subject: Subject) -> None:
    """`supports` never raises, gives the same answer twice, and says why it refuses.

    When this fails: the message names the problem. Check ranks, roles, absent inputs (-1) and symbolic dimensions
    before using them, and give every refusal a reason that helps its reader.
    """
    bad = []
    for case in subject.found.cases:
        try:
            first, second = subject.kernel.supports(case.problem), subject.kernel.supports(case.problem)
        except Exception as error:  # noqa: BLE001 - the rule is that nothing is raised
            bad.append(f"{case.name}: it raised {error!r}")
            continue
        names = {s.name for s in case.problem.symbols}
        if type(first) is not Support:
            bad.append(f"{case.name}: it returned a {type(first).__name__}")
        elif first != second:
            bad.append(f"{case.name}: {first} became {second}")
        elif not first.ok and not first.why.strip():
            bad.append(f"{case.name}: refused without a reason")
        elif first.runtime_symbols != "all" and not set(first.runtime_symbols) <= names:
            bad.append(f"{case.name}: runtime_symbols {first.runtime_symbols} are not among {sorted(names)}")
    report(bad, "supports() is not total and pure")


def test_supports_something(subject: Subject) -> None:
    """At least one of the problems that the kit poses is supported; skipped, with the refusals, when none is.

    When this is skipped: the kit cannot test the kernel. Add cases to the layer, or check the refusals listed.
    """
    if not subject.supported:
        refusals = {c.name: subject.kernel.supports(c.problem).why for c in subject.found.cases[:8]}
        pytest.skip(f"none of {len(subject.found.cases)} problems is supported: {refusals}")


def test_regions_are_convex(subject: Subject) -> None:
    """Every region that the kernel claims can be one step.

    When this fails: a path leaves the region and comes back, so that no order of steps could compute it. Follow only
    consumers all of whose other inputs are from outside, and stop at a tensor that someone else reads.
    """
    report(subject.found.bad_regions, "regions() claims what cannot be a region")


def test_tactics_are_well_formed(subject: Subject) -> None:
    """Tactics have unique keys, survive encoding, and fit their problem.

    When this fails: two tactics share a key, a list of formats or an in-place pair does not match the problem's
    operands, the precision is no element type, or an estimate is not a positive number of seconds.
    """
    bad = []
    for case, _ in subject.supported:
        try:
            tactics = list(subject.kernel.tactics(case.problem))
            prices = [subject.kernel.estimate(case.problem, tactic) for tactic in tactics]
        except Exception as error:  # noqa: BLE001 - whatever a kernel raises is the finding
            bad.append(f"{case.name}: it raised {error!r}")
            continue
        keys = [tactic.key for tactic in tactics]
        if not tactics or len(set(keys)) != len(keys):
            bad.append(f"{case.name}: keys {keys}")
        bad += [f"{case.name} [{t.key}]: {why}" for t in tactics if (why := _misfit(t, case.problem))]
        bad += [f"{case.name}: estimate {p}" for p in prices if p is not None and not (isfinite(p) and p >= 0)]
    report(bad, "tactics are not well formed")


def _misfit(tactic: Tactic, problem: object) -> str:
    reads, writes = len(problem.activations), len(problem.outputs)  # type: ignore[attr-defined]
    if msgspec.json.decode(msgspec.json.encode(tactic), type=Tactic) != tactic:
        return "it changes when encoded as JSON"
    if (tactic.inputs and len(tactic.inputs) != reads) or (tactic.outputs and len(tactic.outputs) != writes):
        return f"{len(tactic.inputs)} and {len(tactic.outputs)} formats for {reads} inputs and {writes} outputs"
    if any(not (0 <= o < writes and 0 <= a < reads) for o, a in tactic.inplace):
        return f"in-place pairs {tactic.inplace} of {writes} outputs and {reads} inputs"
    if any(not 0 <= i < reads for i in tactic.reads_strided) or any(not 0 <= o < writes for o in tactic.writes_strided):
        return "a strided operand that does not exist"
    lower, _ = bounds(tactic.workspace)
    if lower is None or lower < 0:
        return f"a workspace of {tactic.workspace} bytes"
    try:
        numpy_dtype(rounded_as(tactic.precision))
    except ValueError as error:
        return str(error)
    return ""


def test_what_is_permitted_is_offered(subject: Subject) -> None:
    """`tactics_within` offers what `tactics` does of a precision that is permitted, and nothing else of it.

    When this fails: a kernel that overrides `tactics_within` filters by something else than what it is told. Builds
    ask it instead of `tactics`.
    """
    bad = []
    for case, _ in subject.supported:
        known = list(subject.kernel.tactics(case.problem))
        for precision in sorted({tactic.precision for tactic in known}):
            wanted = [tactic.key for tactic in known if tactic.precision == precision]
            within = subject.kernel.tactics_within(case.problem, precision.__eq__)
            offered = [tactic.key for tactic in within if tactic.precision == precision]
            if offered != wanted:
                bad.append(f"{case.name}: {offered} where {precision} is permitted; tactics() has {wanted}")
    report(bad, "what is offered does not follow what is permitted")


def test_tactics_are_stable(subject: Subject, another_hash_seed: OtherProcess) -> None:
    """Another process, with other hash seeds, offers the same tactics in the same order.

    When this fails: tactics come from a set or a dict keyed by objects, or depend on what ran before. Timing caches and
    plans refer to them by key.
    """
    cases = [case for case, _ in subject.supported]
    questions = [Question(subject.entry.id, case.problem) for case in cases]
    answers = another_hash_seed.ask(questions, 60 + subject.trials.seconds)
    if isinstance(answers, str):
        pytest.fail(answers, pytrace=False)
    bad = []
    for case, answer in zip(cases, answers, strict=True):
        here = tuple(subject.kernel.tactics(case.problem))
        if answer.tactics != here:
            bad.append(
                f"{case.name}: {[t.key for t in here]} here, {[t.key for t in answer.tactics]} {answer.why} there"
            )
    report(bad, "tactics differ from process to process")


# the first run ------------------------------------------------------------------------------------------------------


def _faults(subject: Subject, fault: Fault) -> list[str]:
    """The candidates with a fault. Kernels that run the reference have nothing to be compared with."""
    if subject.absent:
        pytest.skip(f"its device is not here: {subject.absent}")
    if fault == "result" and subject.kernel.runs_reference:
        return []
    return [f"{c.name}: {c.reply.why}" for c in subject.candidates if c.fault == fault]


def test_first_run_ends(subject: Subject) -> None:
    """Compiling, packing, binding and launching end within ``--tenonrt-seconds`` without raising or crashing.

    When this fails: the message has the exception, the signal, or says that time ran out. Reproduce it with the problem
    named.
    """
    report(_faults(subject, "ended"), "the first run did not end well")


def test_stays_in_its_buffers(subject: Subject) -> None:
    """Nothing is written before or after an output, an input or the workspace.

    When this fails: a loop or a vector store runs past the end, or the workspace declared is too small. The sizes 1 and
    those that are no multiple of a vector are the usual culprits.
    """
    report(_faults(subject, "bounds"), "it wrote outside of its buffers")


def test_leaves_inputs_alone(subject: Subject) -> None:
    """Inputs have the same bytes after a launch, unless the tactic declares them in place.

    When this fails: the kernel uses an input as scratch. Declare workspace, or an in-place pair.
    """
    report(_faults(subject, "inputs"), "it changed its inputs")


def test_result_is_right(subject: Subject) -> None:
    """Every tactic of every supported problem is within the layers' tolerance of the float64 reference.

    Outputs are filled with NaN beforehand. When this fails: the message says how many values are off and by how much;
    "NaN or infinite values differ" often means that some were never written.
    """
    report(_faults(subject, "result"), "results are wrong")


def test_given_values_are_computed(sound: Subject) -> None:
    """The arrays that the layer's author wrote into cases (extremes, infinities, special indices) are computed right.

    When this fails: NaN and infinities must propagate as the reference does, and large values must not overflow on the
    way to a result that does not.
    """
    bad = []
    for candidate in sound.sound:
        sample = given_sample(candidate.case, sound.registry)
        if sample is not None and not sound.impure(candidate.case) and not sound.kernel.runs_reference:
            verdict, _ = try_tactic(
                CompiledKernel(sound.kernel, sound.code(candidate)),
                candidate.case.problem,
                candidate.tactic,
                [sample],
                sound.registry.layer_type,
                sound.device,
            )
            if not verdict.ok:
                bad.append(f"{candidate.name}: {verdict.why}")
    report(bad, "given values are computed wrong")


# what the runtime relies on -----------------------------------------------------------------------------------------


def test_repeats_bit_for_bit(sound: Subject) -> None:
    """A second launch on the same inputs gives the same bits, whatever the outputs and the workspace hold.

    When this fails: the kernel reads memory before writing it (outputs, workspace), keeps state, or lets threads decide
    the order of a sum.
    """
    bad = []
    for candidate, code, sample in sound.compiled():
        bound = bind_sample(sound.kernel, code, sample, sound.device)
        if sound.impure(candidate.case):
            continue
        results = []
        for byte in (0xFF, 0x00):
            fill(bound, byte)
            if bound.launch.workspace is not None and bound.launch.workspace.size:
                bound.launch.workspace[...] = byte
            results.append([np.array(a) for a in run(bound, sound.device)])
        if not same_values(*results):
            bad.append(candidate.name)
    report(bad, "two launches gave different bits")


def test_two_executables_live_together(sound: Subject) -> None:
    """Two executables of one code, with other weights and inputs, do not disturb each other.

    When this fails: state is kept in the kernel, the module or the code instead of the executable.
    """
    bad = []
    for candidate, code, sample in sound.compiled():
        if sound.impure(candidate.case):
            continue
        other = replace(type(sample).draw(sample.problem, sound.registry.layer_type, 2, 1), values=sample.values)
        pair = [bind_sample(sound.kernel, code, s, sound.device) for s in (sample, other)]
        for bound, s in zip(pair, (sample, other), strict=True):
            if why := wrong(run(bound, sound.device), s, code, bound, sound.registry):
                bad.append(f"{candidate.name}: beside another executable, {why}")
        if why := wrong(run(pair[0], sound.device), sample, code, pair[0], sound.registry):
            bad.append(f"{candidate.name}: after another executable ran, {why}")
    report(bad, "two executables disturb each other")


def test_native_ranges_are_independent(sound: Subject) -> None:
    """A `NativeCall` called on three disjoint ranges at once gives the bits of one call on all of them.

    When this fails: units share scratch, overlap in what they write, or a unit's result depends on where its range
    begins.
    """
    bad, tried = [], 0
    for candidate, code, sample in sound.compiled():
        bound = bind_sample(sound.kernel, code, sample, sound.device)
        if isinstance(bound.launch.executable, NativeCall):
            tried += 1
            whole = [np.array(a) for a in run(bound, sound.device, 1)]
            fill(bound)
            if not same_values(whole, run(bound, sound.device, 3)):
                bad.append(candidate.name)
    report(bad, "three ranges differ from one")
    if not tried:
        pytest.skip("no executable has the ability NativeCall")


def test_declared_strides_work(subject: Subject, request: pytest.FixtureRequest) -> None:
    """Operands that a tactic declares strided may be slices of larger buffers; what lies around them stays.

    When this fails: the kernel takes an operand for contiguous, or writes over its neighbours. Take strides from the
    arrays (`launch`) or from the symbols (`NativeCall`), or do not declare the operand.
    """
    report(_faults(subject, "strides"), "strided operands do not work")
    sound: Subject = request.getfixturevalue("sound")
    bad, tried = [], 0
    for candidate, code, sample in sound.compiled():
        tactic = candidate.tactic
        if not (tactic.reads_strided or tactic.writes_strided) or sound.impure(candidate.case):
            continue
        tried += 1
        if allocates(bind_sample(sound.kernel, code, sample, sound.device)):
            continue
        bad += [
            f"{candidate.name}, slices along axis {axis}: {why}"
            for axis in range(_rank(candidate))
            if (why := _strided_fault(sound, code, sample, axis))
        ]
    report(bad, "strided operands do not work")
    if not tried:
        pytest.skip("no tactic declares strided operands")


def _rank(candidate: Candidate) -> int:
    return max((type.rank for type in candidate.case.problem.types), default=0)


def _strided_fault(sound: Subject, code: object, sample: object, axis: int) -> str:
    bound, wholes = strided(sound.kernel, code, sample, axis, sound.device)  # type: ignore[arg-type]
    fill(bound)
    before = [surroundings(part, whole) for part, whole in wholes]
    try:
        outputs = run(bound, sound.device)
    except Exception as error:  # noqa: BLE001 - whatever a kernel raises is the finding
        return f"it raised {error!r}"
    if before != [surroundings(part, whole) for part, whole in wholes]:
        return "it wrote beside its slice"
    return wrong(outputs, sample, code, bound, sound.registry)  # type: ignore[arg-type]


def test_in_place_pairs_work(subject: Subject, request: pytest.FixtureRequest) -> None:
    """An output and an input that a tactic declares in place may be one buffer.

    When this fails: the kernel reads an element of the input after it wrote the output's element there.
    """
    report(_faults(subject, "inplace"), "in-place results are wrong")
    sound: Subject = request.getfixturevalue("sound")
    bad, tried = [], 0
    for candidate, code, sample in sound.compiled():
        for output, activation in candidate.tactic.inplace:
            tried += 1
            bound = bind_sample(sound.kernel, code, sample, sound.device)
            outputs = list(bound.launch.outputs)
            shared = bound.launch.inputs[activation].reshape(-1).view(np.uint8)
            like = outputs[output]
            if shared.nbytes != like.nbytes:
                bad.append(f"{candidate.name}: output {output} has {like.nbytes} bytes, input has {shared.nbytes}")
                continue
            outputs[output] = shared.view(like.dtype).reshape(like.shape)
            aliased = with_operands(bound, bound.launch.inputs, outputs)
            if why := wrong(run(aliased, sound.device), sample, code, aliased, sound.registry):
                bad.append(f"{candidate.name}: output {output} in place of input {activation}: {why}")
    report(bad, "in-place results are wrong")
    if not tried:
        pytest.skip("no tactic declares in-place pairs")


def test_code_works_in_another_process(sound: Subject, nothing_compiled: OtherProcess) -> None:
    """Code that was encoded, and weights that were packed here, give the right result where nothing was compiled.

    When this fails: `bind` needs something that only `compile` or `pack` in the same process provides. Everything goes
    into `Code` (blob, info) and the packed arrays; packed arrays are read-only there, as in a memory-mapped plan.
    """
    questions, names = [], []
    for candidate, code, sample in sound.compiled():
        if sound.impure(candidate.case):
            continue
        constants = tuple(sample.inputs[i] for i in sample.problem.constants)
        bound = bind_sample(sound.kernel, code, sample, sound.device)
        if any(scale is not None for *_, scale in bound.outputs) or any(f.quant for f in candidate.tactic.inputs):
            continue  # the scales of quantized formats are chosen by the builder
        packed = tuple(SavedArray.of(a) for a in sound.kernel.pack(code, Weights(constants)))
        names.append(candidate.name)
        questions.append(Question(sound.entry.id, candidate.case.problem, code, packed))
    answers = nothing_compiled.ask(questions, 60 + sound.trials.seconds)
    if isinstance(answers, str):
        pytest.fail(answers, pytrace=False)
    bad = [f"{name}: {answer.why}" for name, answer in zip(names, answers, strict=True) if answer.why]
    report(bad, "code does not work in another process")


def test_tolerance_can_be_met(sound: Subject) -> None:
    """The precision that a tactic names is no finer than its operands can hold.

    When this fails: a tactic on float16 tensors says float32, and would be held to errors that its output type cannot
    express. Name the least precise type that values pass through.
    """
    bad = []
    for candidate in sound.sound:
        sample = sound.sample(candidate.case)
        tolerance = problem_tolerance(
            sample.problem, sound.registry.layer_type, candidate.tactic.precision, candidate.tactic.exact
        )
        for number, expected in zip(sample.problem.outputs, sample.expected, strict=True):
            rounded = expected.astype(numpy_dtype(sample.problem.types[number].dtype))
            if not judge(rounded, expected, tolerance).ok:
                bad.append(f"{candidate.name}: rounding to {rounded.dtype} alone exceeds {tolerance}")
    report(bad, "tactics promise more than their types can hold")
