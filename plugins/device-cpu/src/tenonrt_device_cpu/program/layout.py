"""Where the fields of the tables lie that Python fills and the compiled loop reads. Offsets are bytes, fields 8 bytes.

A pool is written by several threads at once, so what different threads write lies in different cache lines; two lines
each, because processors fetch lines in pairs.
"""

from __future__ import annotations

# One phase of one step: `status = function(buffers, symbols, scratch, bounds[i], bounds[i + 1])` for every chunk i.
PHASE_FUNCTION, PHASE_BUFFERS, PHASE_SYMBOLS, PHASE_BOUNDS, PHASE_CHUNKS, PHASE_STEP = range(0, 48, 8)
PHASE_SIZE = 48

# A program. scratch + thread * stride is the thread's own. stamps: 0, or room for a time before and after each phase.
PROGRAM_PHASES, PROGRAM_COUNT, PROGRAM_SCRATCH, PROGRAM_STRIDE, PROGRAM_STAMPS, PROGRAM_CLOCK = range(0, 48, 8)
PROGRAM_SIZE = 48

# What the pool is asked to do, written by the caller: the ticket says how many chunks of the phase are left.
POOL_TICKET, POOL_PHASE, POOL_PROGRAM = 0, 8, 16
# How far that is, written by all (32 bits each): chunks not done, the first status, whether the caller sleeps.
POOL_PENDING, POOL_STATUS, POOL_WAITING = 128, 132, 136
# Sleeping (32 bits each): the word workers sleep on, how many sleep, whether they shall leave.
POOL_EPOCH, POOL_SLEEPERS, POOL_QUIT = 256, 260, 264
POOL_BUSY = 384  # 32 bits: a program has the pool
POOL_SYSCALL = 512  # the address of libc's syscall
POOL_SIZE = 640

# A ticket is one word, so that taking a chunk and knowing whose it is are one operation: from the low end, how many
# chunks are left, how many the caller has taken from the front (workers take from the back), and a count of phases that
# makes an old ticket differ from a new one.
TICKET_BITS = 12
MAX_CHUNKS = (1 << TICKET_BITS) - 1

# With four chunks a thread, a thread that loses its core for a while holds up a quarter of its work, not all of it.
CHUNKS_PER_THREAD = 4
