"""The compiled loop as LLVM IR: three ways to run a program, the workers' loop and the way to end it.

How threads share a phase: the caller publishes the phase and then its ticket (`layout`). Whoever sees a ticket with
chunks left takes one by compare-and-swap, runs it, and counts it as done; the caller takes chunks too, then waits until
all are done. A worker that comes late finds no chunk left and harms nobody, and a caller without any worker does all
the work alone: that the result is complete depends on chunks, never on threads. The next phase is written only when no
chunk of this one is left, so that whoever takes a chunk has read the phase that it belongs to.

No function calls another and none has data of its own, so the code has no relocations. The operating system is reached
through addresses in the tables. Needs llvmlite, which running programs does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from tenonrt_device_cpu.program import layout

I32, I64, PTR = ir.IntType(32), ir.IntType(64), ir.PointerType()
STATUS = ir.PointerType(ir.FunctionType(I32, [PTR, PTR, PTR, I64, I64]))
CLOCK = ir.PointerType(ir.FunctionType(I32, [I32, PTR]))
SYSCALL = ir.PointerType(ir.FunctionType(I64, [I64], var_arg=True))

# About half a millisecond: longer than the Python between two runs in a row, too short to count as use of a core.
SPINS = 12_000
_CLOCK_MONOTONIC = 1
_FUTEX = {"x86_64": 202, "aarch64": 98}
_FUTEX_WAIT, _FUTEX_WAKE = 128, 129  # with FUTEX_PRIVATE_FLAG: nobody outside the process sleeps here
# How a processor is told that it spins; on ARM `isb` is what pauses, `yield` does nothing on most.
_PAUSE = {"x86_64": ("llvm.x86.sse2.pause", ()), "aarch64": ("llvm.aarch64.isb", (15,))}

# The floating-point rules every thread computes by, whatever the application chose for its own: nothing is trapped, and
# on x86_64, where each costs a hundred cycles and more, results that would be subnormal are zero; operands are read as
# they are. On x86_64 a word in memory is loaded, on ARM a register set.
_RULES = {"x86_64": 0x9F80, "aarch64": 0}

FUNCTIONS = ("run_alone", "run_shared", "work", "stop")


def emit(machine: str) -> ir.Module:
    """The module of a machine's code, with the functions of `FUNCTIONS`."""
    module = ir.Module("program", context=ir.Context())
    _run(machine, module, "run_alone", shared=False)
    _run(machine, module, "run_shared", shared=True)
    _work(machine, module)
    _stop(machine, module)
    return module


class _Code:
    """A function being written, in the words of the tables."""

    def __init__(self, machine: str, module: ir.Module, name: str, type: ir.FunctionType) -> None:
        self.machine, self.module = machine, module
        self.function = ir.Function(module, type, name)
        self.function.attributes.add("nounwind")
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))

    def at(self, base: Any, offset: Any) -> Any:
        index = I64(offset) if isinstance(offset, int) else offset
        return self.b.gep(base, [index], source_etype=ir.IntType(8))

    def word(self, base: Any, offset: int, type: Any) -> Any:
        """The address of a field that threads share; llvmlite wants it typed for atomic operations."""
        address = self.at(base, offset)
        address.type = ir.PointerType(type)
        return address

    def local(self, type: Any, value: int | None = None, count: int = 1) -> Any:
        """A variable; in the entry block, for inside a loop it would take more of the stack each time."""
        with self.b.goto_entry_block():
            variable = self.b.alloca(type, count)
        if value is not None:
            self.b.store(type(value), variable)
        return variable

    def read(self, base: Any, offset: int, type: Any = I64) -> Any:
        """A field that only one thread writes, or that is published by another one's order."""
        return self.b.load(self.at(base, offset), typ=type)

    def see(self, base: Any, offset: int, type: Any = I32, order: str = "seq_cst") -> Any:
        """A field that another thread may be writing."""
        return self.b.load_atomic(self.word(base, offset, type), order, 4 if type == I32 else 8, typ=type)

    def put(self, base: Any, offset: int, value: Any, order: str = "seq_cst") -> None:
        self.b.store_atomic(value, self.word(base, offset, value.type), order, 4 if value.type == I32 else 8)

    def add(self, base: Any, offset: int, value: Any, operation: str = "add") -> Any:
        """Change a field at once; returns what it was."""
        return self.b.atomic_rmw(operation, self.word(base, offset, value.type), value, "seq_cst")

    def swap(self, base: Any, offset: int, old: Any, new: Any) -> Any:
        """Whether the field was ``old`` and is now ``new``."""
        return self.b.extract_value(
            self.b.cmpxchg(self.word(base, offset, old.type), old, new, "seq_cst", "seq_cst"), 1
        )

    def intrinsic(self, name: str, result: Any, *arguments: Any) -> Any:
        type = ir.FunctionType(result, [a.type for a in arguments])
        function = self.module.globals.get(name) or ir.Function(self.module, type, name)
        return self.b.call(function, arguments)

    def pause(self) -> None:
        name, arguments = _PAUSE[self.machine]
        self.intrinsic(name, ir.VoidType(), *(I32(a) for a in arguments))

    def rules(self) -> Any:
        """The thread's floating-point rules, in a variable."""
        saved = self.local(I64, 0)
        if self.machine == "x86_64":
            self.intrinsic("llvm.x86.sse.stmxcsr", ir.VoidType(), saved)
        else:
            self.b.store(self.intrinsic("llvm.aarch64.get.fpcr", I64), saved)
        return saved

    def set_rules(self, rules: Any) -> None:
        """Compute by the rules that a variable holds."""
        if self.machine == "x86_64":
            self.intrinsic("llvm.x86.sse.ldmxcsr", ir.VoidType(), rules)
        else:
            self.intrinsic("llvm.aarch64.set.fpcr", ir.VoidType(), self.b.load(rules, typ=I64))

    def futex(self, pool: Any, offset: int, operation: int, value: Any) -> Any:
        """Sleep while the word has a value, or wake so many; what the system call returns, -1 for any error."""
        call = self.read(pool, layout.POOL_SYSCALL, SYSCALL)
        none = ir.Constant(PTR, None)
        arguments = [I64(_FUTEX[self.machine]), self.at(pool, offset), I64(operation), value, none, none, I64(0)]
        return self.b.call(call, arguments)

    def run_chunk(self, phase: Any, program: Any, thread: Any, first: Any, past: Any) -> Any:
        """Call the phase's function on the chunks from ``first`` to before ``past``; its status."""
        stride = self.b.mul(thread, self.read(program, layout.PROGRAM_STRIDE))
        scratch = self.at(self.read(program, layout.PROGRAM_SCRATCH, PTR), stride)
        bounds = self.read(phase, layout.PHASE_BOUNDS, PTR)
        begin, end = (self.b.load(self.b.gep(bounds, [i], source_etype=I64), typ=I64) for i in (first, past))
        buffers, symbols = (self.read(phase, f, PTR) for f in (layout.PHASE_BUFFERS, layout.PHASE_SYMBOLS))
        return self.b.call(self.read(phase, layout.PHASE_FUNCTION, STATUS), [buffers, symbols, scratch, begin, end])

    def stamp(self, program: Any, index: Any) -> None:
        """The time in nanoseconds as entry ``index`` of the program's stamps, when it wants any."""
        stamps = self.read(program, layout.PROGRAM_STAMPS, PTR)
        with self.b.if_then(self.b.icmp_unsigned("!=", stamps, ir.Constant(PTR, None)), likely=False):
            now = self.local(I64, count=2)
            self.b.call(self.read(program, layout.PROGRAM_CLOCK, CLOCK), [I32(_CLOCK_MONOTONIC), now])
            nanoseconds = self.b.add(self.b.mul(self.read(now, 0), I64(10**9)), self.read(now, 8))
            self.b.store(nanoseconds, self.b.gep(stamps, [index], source_etype=I64))

    @contextmanager
    def loop(self) -> Iterator[tuple[ir.Block, ir.Block]]:
        """A block that repeats, and the one after it; yields both, to go to."""
        again, after = self.function.append_basic_block("loop"), self.function.append_basic_block("after")
        self.b.branch(again)
        self.b.position_at_end(again)
        yield again, after
        if not self.b.block.is_terminated:
            self.b.branch(again)
        self.b.position_at_end(after)


def _run(machine: str, module: ir.Module, name: str, shared: bool) -> None:
    """``i64 run_alone(program)`` and ``i64 run_shared(program, pool)``: every phase in order, until one fails.

    Returns 0, or the step + 1 in the upper and the status in the lower half.
    """
    code = _Code(machine, module, name, ir.FunctionType(I64, [PTR, PTR] if shared else [PTR]))
    b, program = code.b, code.function.args[0]
    index, owned, result = code.local(I64, 0), code.local(I32, 0), code.local(I64, 0)
    rules = code.rules()
    code.set_rules(code.local(I64, _RULES[machine]))
    code.stamp(program, I64(0))
    with code.loop() as (_, after):
        number = b.load(index, typ=I64)
        more = code.function.append_basic_block("more")
        b.cbranch(b.icmp_unsigned("<", number, code.read(program, layout.PROGRAM_COUNT)), more, after)
        b.position_at_end(more)
        phase = code.at(code.read(program, layout.PROGRAM_PHASES, PTR), b.mul(number, I64(layout.PHASE_SIZE)))
        if shared:
            status = _together_or_alone(code, phase, owned)
        else:
            status = code.run_chunk(phase, program, I64(0), I64(0), code.read(phase, layout.PHASE_CHUNKS))
        number = b.add(number, I64(1))
        code.stamp(program, number)
        b.store(number, index)
        with b.if_then(b.icmp_unsigned("!=", status, I32(0)), likely=False):
            step = b.shl(b.add(code.read(phase, layout.PHASE_STEP), I64(1)), I64(32))
            b.store(b.or_(step, b.zext(status, I64)), result)
            b.branch(after)
    if shared:
        with b.if_then(b.icmp_unsigned("!=", b.load(owned, typ=I32), I32(0))):
            code.put(code.function.args[1], layout.POOL_BUSY, I32(0))
    code.set_rules(rules)
    b.ret(b.load(result, typ=I64))


def _together_or_alone(code: _Code, phase: Any, owned: Any) -> Any:
    """A phase of several chunks with the pool, unless another program has it: then, and if it is one chunk, alone."""
    b, (program, pool) = code.b, code.function.args
    status = code.local(I32)
    chunks = code.read(phase, layout.PHASE_CHUNKS)
    with b.if_else(b.icmp_unsigned(">", chunks, I64(1))) as (several, one):
        with several:
            with b.if_then(b.icmp_unsigned("==", b.load(owned, typ=I32), I32(0)), likely=False):
                b.store(b.zext(code.swap(pool, layout.POOL_BUSY, I32(0), I32(1)), I32), owned)
            with b.if_else(b.icmp_unsigned("!=", b.load(owned, typ=I32), I32(0))) as (ours, theirs):
                with ours:
                    b.store(_spread(code, phase, chunks), status)
                with theirs:
                    b.store(code.run_chunk(phase, program, I64(0), I64(0), chunks), status)
        with one:
            b.store(code.run_chunk(phase, program, I64(0), I64(0), chunks), status)
    return b.load(status, typ=I32)


def _spread(code: _Code, phase: Any, chunks: Any) -> Any:
    """Publish a phase, take chunks from its front, wait until all are done; the first status."""
    b, (program, pool) = code.b, code.function.args
    own, status = code.local(I32, 1), code.local(I32)
    _publish(code, phase, chunks)
    b.store(code.run_chunk(phase, program, I64(0), I64(0), I64(1)), status)
    with code.loop() as (_, after):
        ticket = code.see(pool, layout.POOL_TICKET, I64, "acquire")
        some = code.function.append_basic_block("some")
        b.cbranch(b.icmp_unsigned("!=", _left(b, ticket), I64(0)), some, after)
        b.position_at_end(some)
        taken = code.swap(pool, layout.POOL_TICKET, ticket, b.add(ticket, I64((1 << layout.TICKET_BITS) - 1)))
        with b.if_then(taken):
            front = _front(b, ticket)
            got = code.run_chunk(phase, program, I64(0), front, b.add(front, I64(1)))
            before = b.load(status, typ=I32)
            b.store(b.select(b.icmp_unsigned("==", before, I32(0)), got, before), status)
            b.store(b.add(b.load(own, typ=I32), I32(1)), own)
    mine = b.load(own, typ=I32)
    with b.if_then(b.icmp_unsigned("!=", code.add(pool, layout.POOL_PENDING, mine, "sub"), mine)):
        _await(code, pool)
    others, before = code.see(pool, layout.POOL_STATUS, I32, "monotonic"), b.load(status, typ=I32)
    return b.select(b.icmp_unsigned("==", before, I32(0)), others, before)


def _publish(code: _Code, phase: Any, chunks: Any) -> None:
    """Make a phase the pool's work, its first chunk taken, and wake as many sleepers as there is work for."""
    b, (program, pool) = code.b, code.function.args
    code.put(pool, layout.POOL_PENDING, b.trunc(chunks, I32), "monotonic")
    code.put(pool, layout.POOL_STATUS, I32(0), "monotonic")
    code.put(pool, layout.POOL_PHASE, b.ptrtoint(phase, I64), "monotonic")
    code.put(pool, layout.POOL_PROGRAM, b.ptrtoint(program, I64), "monotonic")
    others = b.sub(chunks, I64(1))
    count = b.add(b.lshr(code.see(pool, layout.POOL_TICKET, I64, "monotonic"), I64(2 * layout.TICKET_BITS)), I64(1))
    front = b.or_(b.shl(count, I64(2 * layout.TICKET_BITS)), I64(1 << layout.TICKET_BITS))
    code.put(pool, layout.POOL_TICKET, b.or_(front, others))
    # The ticket is written before this is read, and workers do the reverse: one of the two sees the other.
    sleepers = b.zext(code.see(pool, layout.POOL_SLEEPERS), I64)
    with b.if_then(b.icmp_unsigned("!=", sleepers, I64(0)), likely=False):
        code.add(pool, layout.POOL_EPOCH, I32(1))
        wanted = b.select(b.icmp_unsigned("<", sleepers, others), sleepers, others)
        woken = code.futex(pool, layout.POOL_EPOCH, _FUTEX_WAKE, wanted)
        # Counted out here and not where they wake: until then the next phase would try to wake them again.
        with b.if_then(b.icmp_signed(">", woken, I64(0))):
            code.add(pool, layout.POOL_SLEEPERS, b.trunc(woken, I32), "sub")


def _await(code: _Code, pool: Any) -> None:
    """Wait until no chunk is pending: spinning, then asleep, as a worker may have lost its core."""
    b = code.b
    spins = code.local(I64, 0)
    with code.loop() as (again, after):
        pending = code.see(pool, layout.POOL_PENDING, I32, "acquire")
        some = code.function.append_basic_block("some")
        b.cbranch(b.icmp_unsigned("!=", pending, I32(0)), some, after)
        b.position_at_end(some)
        _spin(code, spins, again)
        code.put(pool, layout.POOL_WAITING, I32(1))
        code.futex(pool, layout.POOL_PENDING, _FUTEX_WAIT, b.zext(pending, I64))
        code.put(pool, layout.POOL_WAITING, I32(0))


def _spin(code: _Code, spins: Any, again: ir.Block) -> None:
    """Pause and go to ``again``, or go on here when that was done often enough."""
    b = code.b
    count = b.add(b.load(spins, typ=I64), I64(1))
    b.store(count, spins)
    with b.if_then(b.icmp_unsigned("<", count, I64(SPINS)), likely=True):
        code.pause()
        b.branch(again)


def _work(machine: str, module: ir.Module) -> None:
    """``void work(pool, thread)``: what a worker does until it is told to leave."""
    code = _Code(machine, module, "work", ir.FunctionType(ir.VoidType(), [PTR, I64]))
    b, (pool, thread) = code.b, code.function.args
    spins = code.local(I64, 0)
    code.set_rules(code.local(I64, _RULES[machine]))
    with code.loop() as (again, after):
        ticket = code.see(pool, layout.POOL_TICKET, I64, "acquire")
        idle = code.function.append_basic_block("idle")
        busy = code.function.append_basic_block("busy")
        b.cbranch(b.icmp_unsigned("!=", _left(b, ticket), I64(0)), busy, idle)
        b.position_at_end(busy)
        b.store(I64(0), spins)
        _take(code, pool, thread, ticket)
        b.branch(again)
        b.position_at_end(idle)
        staying = code.function.append_basic_block("staying")
        b.cbranch(b.icmp_unsigned("!=", code.see(pool, layout.POOL_QUIT, I32, "monotonic"), I32(0)), after, staying)
        b.position_at_end(staying)
        _spin(code, spins, again)
        _sleep(code, pool)
        b.store(I64(0), spins)
    b.ret_void()


def _take(code: _Code, pool: Any, thread: Any, ticket: Any) -> None:
    """Take the last chunk that is left, unless another thread was quicker, run it and count it as done."""
    b = code.b
    phase = b.inttoptr(code.see(pool, layout.POOL_PHASE, I64, "monotonic"), PTR)
    program = b.inttoptr(code.see(pool, layout.POOL_PROGRAM, I64, "monotonic"), PTR)
    with b.if_then(code.swap(pool, layout.POOL_TICKET, ticket, b.sub(ticket, I64(1)))):
        past = b.add(_front(b, ticket), _left(b, ticket))
        status = code.run_chunk(phase, program, thread, b.sub(past, I64(1)), past)
        with b.if_then(b.icmp_unsigned("!=", status, I32(0)), likely=False):
            code.swap(pool, layout.POOL_STATUS, I32(0), status)
        last = b.icmp_unsigned("==", code.add(pool, layout.POOL_PENDING, I32(1), "sub"), I32(1))
        with b.if_then(last):
            waiting = b.icmp_unsigned("!=", code.see(pool, layout.POOL_WAITING), I32(0))
            with b.if_then(waiting, likely=False):
                code.futex(pool, layout.POOL_PENDING, _FUTEX_WAKE, I64(1))


def _sleep(code: _Code, pool: Any) -> None:
    """Sleep until the epoch changes, unless work or the end has come meanwhile."""
    b = code.b
    epoch = code.see(pool, layout.POOL_EPOCH)
    code.add(pool, layout.POOL_SLEEPERS, I32(1))
    work = _left(b, code.see(pool, layout.POOL_TICKET, I64))
    reason = b.or_(work, b.zext(code.see(pool, layout.POOL_QUIT), I64))
    slept = code.local(I64, -1)
    with b.if_then(b.icmp_unsigned("==", reason, I64(0))):
        b.store(code.futex(pool, layout.POOL_EPOCH, _FUTEX_WAIT, b.zext(epoch, I64)), slept)
    with b.if_then(b.icmp_unsigned("!=", b.load(slept, typ=I64), I64(0))):  # else the one who woke us counted us out
        code.add(pool, layout.POOL_SLEEPERS, I32(1), "sub")


def _stop(machine: str, module: ir.Module) -> None:
    """``void stop(pool)``: tell the workers to leave. A program that has the pool goes on without them."""
    code = _Code(machine, module, "stop", ir.FunctionType(ir.VoidType(), [PTR]))
    b, pool = code.b, code.function.args[0]
    code.put(pool, layout.POOL_QUIT, I32(1))
    code.add(pool, layout.POOL_EPOCH, I32(1))
    code.futex(pool, layout.POOL_EPOCH, _FUTEX_WAKE, I64(2**31 - 1))
    b.ret_void()


def _left(b: ir.IRBuilder, ticket: Any) -> Any:
    return b.and_(ticket, I64(layout.MAX_CHUNKS))


def _front(b: ir.IRBuilder, ticket: Any) -> Any:
    return b.and_(b.lshr(ticket, I64(layout.TICKET_BITS)), I64(layout.MAX_CHUNKS))
