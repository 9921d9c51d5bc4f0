"""The product in Triton. Imported only where kernels are compiled.

Grouping of tiles so that those in flight share rows and columns in the second-level cache: Tillet et al., "Triton",
MAPL 2019.
"""

import triton
import triton.language as tl

_GROUP = tl.constexpr(8)  # rows of tiles that are taken together


@triton.jit  # type: ignore[untyped-decorator]
def activated(v, FUNCTION: tl.constexpr, ALPHA: tl.constexpr, BETA: tl.constexpr):  # type: ignore[no-untyped-def]
    """A value of single precision through an activation. Of a NaN every comparison is false, so that it stays."""
    if FUNCTION == "relu":
        v = tl.where(v < 0.0, 0.0, v)
    elif FUNCTION == "clip":
        if ALPHA is not None:
            v = tl.where(v < ALPHA, ALPHA, v)
        if BETA is not None:
            v = tl.where(v > BETA, BETA, v)
    elif FUNCTION == "sigmoid":
        v = 1.0 / (1.0 + tl.exp(-v))
    elif FUNCTION == "swish":
        v = v / (1.0 + tl.exp(-ALPHA * v))
    elif FUNCTION == "gelu":
        v = 0.5 * v * (1.0 + tl.erf(v * 0.7071067811865476))
    elif FUNCTION == "gelu_tanh":
        # (1 + tanh u) / 2 is the logistic function of 2 u; the number is twice the root of 2 / pi.
        v = v / (1.0 + tl.exp(-1.5957691216057308 * (v + 0.044715 * v * v * v)))
    return v


@triton.jit  # type: ignore[untyped-decorator]
def product(  # type: ignore[no-untyped-def]
    y, x, z, w, bias, m, y_pitch, x_pitch, z_pitch,
    K: tl.constexpr, N: tl.constexpr, CHANNELS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    FUNCTION: tl.constexpr, ALPHA: tl.constexpr, BETA: tl.constexpr,
):  # fmt: skip
    """y[m, N] = activation(x[m, K] w[N, K]^T + bias[N] + z[m, N]), a tile of y for each program.

    A matrix's rows lie its pitch apart; z may be None. Columns from CHANNELS on are padding, and become zero.
    """
    down, across = (m + ROWS - 1) // ROWS, (N + COLUMNS - 1) // COLUMNS
    number = tl.program_id(0)
    first = number // (_GROUP * across) * _GROUP
    height = tl.minimum(down - first, _GROUP)
    inside = number % (_GROUP * across)
    rows = (first + inside % height) * ROWS + tl.arange(0, ROWS)
    columns = inside // height * COLUMNS + tl.arange(0, COLUMNS)
    ks = tl.arange(0, DEPTH)
    # Rows and columns beyond the last are read as the last: their sums are not stored.
    x_at = x + tl.minimum(rows, m - 1).to(tl.int64)[:, None] * x_pitch + ks[None, :]
    w_at = w + tl.minimum(columns, N - 1)[None, :] * K + ks[:, None]
    sums = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for block in range((K + DEPTH - 1) // DEPTH):
        if K % DEPTH == 0:
            a, b = tl.load(x_at), tl.load(w_at)
        else:
            left = K - block * DEPTH
            a = tl.load(x_at, mask=ks[None, :] < left, other=0.0)
            b = tl.load(w_at, mask=ks[:, None] < left, other=0.0)
        sums = tl.dot(a, b, sums)
        x_at += DEPTH
        w_at += DEPTH
    sums += tl.load(bias + tl.minimum(columns, N - 1))[None, :]
    stored = (rows[:, None] < m) & (columns[None, :] < N)
    far = rows.to(tl.int64)[:, None]
    if z is not None:
        sums += tl.load(z + far * z_pitch + columns[None, :], mask=stored, other=0.0).to(tl.float32)
    sums = activated(sums, FUNCTION, ALPHA, BETA)
    if CHANNELS < N:
        sums = tl.where(columns[None, :] < CHANNELS, sums, 0.0)
    tl.store(y + far * y_pitch + columns[None, :], sums.to(y.dtype.element_ty), mask=stored)
