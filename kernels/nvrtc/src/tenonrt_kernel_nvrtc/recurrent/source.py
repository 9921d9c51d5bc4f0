"""The source of the steps of recurrent layers, whose first inputs are projected: clusters of blocks for all of time.

A pair of warps has 8 units: the four gates of each are rows of ``mma``, k is divided between the two, and weights are
operands in registers from the first step to the last. Columns are sequences, eight at a time: while the states of eight
are on their way, the next eight are computed. The warps of a pair give each other half of their sums, so that a thread
has the gates of one unit of a sequence (of each eight) and its cell. The new hidden state goes to all blocks by
``st.async``, which completes their barriers by itself; there are two buffers.

A buffer is written again two steps later. Whoever writes has heard from all warps of all blocks since they read it, for
a warp tells what it has made only after it has read what that was made of; so nothing else has to be waited for.

A stack of layers is a row of clusters, of which every other one projects what a layer puts out for the next. They tell
each other through memory that is all ones before, which no stored float is, so that values say by themselves that they
are there; clusters wait for those before them only.

For 512 units in 16 blocks and one sequence, a step takes about 1330 cycles, 0.67 µs: 416 of products, 67 of what pairs
leave each other, 268 of functions, 343 of telling blocks and storing, 112 until they have heard. What 16 blocks hear of
eight sequences, 8 KiB, takes 770 more (one H200).
"""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt_kernel_nvrtc.recurrent.instructions import FUNCTIONS, INSTRUCTIONS
from tenonrt_kernel_nvrtc.recurrent.problem import Recurrence
from tenonrt_kernel_nvrtc.recurrent.tiles import GROUP, HALVES, Tile

_PLACE = "const int b = row0 + n * 8 + l * 2 + q;"  # the sequence of a thread, of eight
_EACH = '_Pragma("unroll") for (int n = 0; n < {}; ++n)'


def source(layers: Sequence[Recurrence], tile: Tile, formats: dict[str, str], parameters: list[str]) -> str:
    """The instructions and the function ``kernel``; layers of a stack are alike but for their operands.

    formats: C types by the names of parameters: x and y with the number of an operand or a result; ``projected``, what
    parts of a stack tell each other (``hiddens``) and their bias (``biases``), and ``weights``.
    """
    r, stack = layers[0], len(layers) > 1
    head = (
        f'extern "C" __global__ void __cluster_dims__({tile.blocks}, 1, 1) __launch_bounds__({tile.threads}, 1) '
        f"kernel({', '.join(parameters)})"
    )
    begin = f"{_start(r, tile, stack)}{_weights(tile)}{_states(layers, tile, formats)}"
    between = _between(layers, tile) if stack else ""
    steps = f"{_loop(layers, tile, formats)}{_end(layers, tile, formats)}"
    return f"{INSTRUCTIONS}{FUNCTIONS}{head} {{{begin}{between}{steps}\n}}\n"


def _start(r: Recurrence, tile: Tile, stack: bool) -> str:
    """Where a thread is. q: its half of k, and of its pair's columns; unit: of the layer; row0, limit: of the batch.

    part: direction, or where in a stack: layers have the even ones.
    """
    groups = -(-r.sequences // tile.sequences)
    which = "layer = part / 2, direction = 0" if stack else "layer = 0, direction = part"
    return f"""
    next_may_begin();
    const int t = threadIdx.x, warp = t / 32, lane = t % 32, pair = warp / {HALVES}, q = warp % {HALVES};
    const int g = lane / 4, l = lane % 4, rank = blockIdx.x % {tile.blocks}, cluster = blockIdx.x / {tile.blocks};
    const int part = cluster / {groups}, row0 = cluster % {groups} * {tile.sequences}, {which};
    const int unit = rank * {tile.units} + pair * {GROUP} + g;
    const unsigned base = own_shared(), exchange = base + {2 * tile.state_bytes};
    const unsigned told = exchange + {tile.exchange_bytes};
    const int limit = row0 + {tile.sequences} < {r.sequences} ? row0 + {tile.sequences} : {r.sequences};
    auto awaited = [&](int n) {{
        const int rows = limit - row0 - n * 8;
        return {2 * tile.all_units} * (rows < 8 ? rows : 8);
    }};
    if (t == 0) {{
        for (int i = 0; i < {2 * tile.columns}; ++i) set_up(told + 8 * i);
        barriers_are_set();
        for (int i = 0; i < {2 * tile.columns}; ++i) if (row0 + i / 2 * 8 < limit) expect(told + 8 * i, awaited(i / 2));
    }}"""


def _weights(tile: Tile) -> str:
    """Into registers, while earlier kernels still run; streamed ones are read in each step."""
    steps = tile.depth // HALVES // 16
    kept = f"""uint4 w[{steps}][2];
    _Pragma("unroll") for (int k = 0; k < {steps}; ++k)
        _Pragma("unroll") for (int m = 0; m < 2; ++m) w[k][m] = weight(own_weights + k * 512 + m * 256);"""
    return f"""
    const narrow_t *const own_weights = weights
        + (((long long)part * {tile.blocks} + rank) * {tile.threads // 32} + warp) * {steps * 512} + lane * 8;
    {"" if tile.streamed else kept}
    wait_for_others();"""


def _by_layer(values: Sequence[str]) -> str:
    """An expression of the layer."""
    if len(set(values)) == 1:
        return values[0]
    return "".join(f"layer == {i} ? {value} : " for i, value in enumerate(values[:-1])) + values[-1]


def _states(layers: Sequence[Recurrence], tile: Tile, formats: dict[str, str]) -> str:
    """The state before the first step: hidden in shared memory, what a thread has of both in registers."""
    r, depth, rows = layers[0], tile.depth, 8 * tile.columns

    def given(name: str, sequence: str, unit: str) -> str:
        return _by_layer([
            _state(one, f"x{one.operands[name]}", formats, sequence, unit) if one.operands[name] >= 0 else "0.f"
            for one in layers
        ])  # fmt: skip

    mine = f"b < limit && unit < {r.hidden}"
    length = f"{mine} ? x{r.operands['lengths']}[b] : 0" if r.operands["lengths"] >= 0 else f"{r.steps}"
    return f"""
    for (int i = t; i < {rows * depth // 8}; i += {tile.threads}) {{
        const int b = i % {rows}, piece = i / {rows};
        alignas(16) narrow_t before[8];
        _Pragma("unroll") for (int j = 0; j < 8; ++j) {{
            const int k = piece * 8 + j;
            before[j] = to_narrow(row0 + b < limit && k < {r.hidden} ? {given("hidden", "(row0 + b)", "k")} : 0.f);
        }}
        set_eight(base + {_slot(tile, "b", "piece")}, *(const uint4 *)before);
        set_eight(base + {tile.state_bytes} + {_slot(tile, "b", "piece")}, make_uint4(0, 0, 0, 0));
    }}
    float hidden[{tile.columns}], cell[{tile.columns}]; int length[{tile.columns}];
    {_EACH.format(tile.columns)} {{
        {_PLACE}
        hidden[n] = {mine} ? {given("hidden", "b", "unit")} : 0.f;
        cell[n] = {mine} ? {given("cell", "b", "unit")} : 0.f;
        length[n] = {length};
    }}
    cluster_sync();"""


def _slot(tile: Tile, sequence: str, piece: str) -> str:
    """Where eight elements of k of a sequence lie: sequences that a warp makes follow each other."""
    return f"({piece}) * {tile.piece_bytes} + {sequence} / 8 * 128 + {sequence} % 2 * 64 + {sequence} % 8 / 2 * 16"


def _state(r: Recurrence, pointer: str, formats: dict[str, str], sequence: str, unit: str) -> str:
    element = f"{pointer}[{_state_place(r, sequence, unit)}]"
    return f"to_float({element})" if formats[pointer] == "narrow_t" else element


def _state_place(r: Recurrence, sequence: str, unit: str) -> str:
    """Of an initial or last state, [directions, batch, hidden] or [batch, directions, hidden]."""
    if r.time_first:
        return f"(direction * {r.sequences} + {sequence}) * {r.hidden} + {unit}"
    return f"({sequence} * {r.directions} + direction) * {r.hidden} + {unit}"


def _time(r: Recurrence) -> str:
    """Where in time a step of a sequence is; past its length a sequence reads and writes in order."""
    if not any(r.reversed):
        return "s"
    turned = "s < length[n] ? length[n] - 1 - s : s"
    return f"({turned})" if all(r.reversed) else f"(direction ? ({turned}) : s)"


def _row(r: Recurrence) -> str:
    """Of what is projected, and of what layers of a stack put out."""
    if r.time_first and not r.turned:
        return f"({_time(r)} * {r.sequences} + b)"
    return f"(b * {r.steps} + {_time(r)})"


def _between(layers: Sequence[Recurrence], tile: Tile) -> str:
    """The odd parts of a stack: what a layer puts out times the next one's weights, and a bias; they return."""
    r, pieces, rows = layers[0], tile.all_units // 8, 8 * tile.columns
    each = -(-rows * pieces // tile.threads)
    return f"""
    if (part & 1) {{
        const float4 bias = *(const float4 *)(biases + (part / 2 * {tile.all_units} + unit) * 4);
        const narrow_t *const from = hiddens + part / 2 * {r.rows * tile.all_units}ll;
        narrow_t *const to = projected + (part / 2 + 1) * {r.rows * 4 * tile.all_units}ll;
        uint4 next[{each}];
        auto look = [&](int s, int v) {{
            const int i = v * {tile.threads} + t, b = row0 + i % {rows}, k = i / {rows};
            next[v] = make_uint4(0, 0, 0, 0);
            if (b < limit && k < {pieces})
                next[v] = seen((const uint4 *)(from + {_row(r)} * {tile.all_units}ll + k * 8));
        }};
        _Pragma("unroll") for (int v = 0; v < {each}; ++v) look(0, v);
        for (int s = 0; s < {r.steps}; ++s) {{
            _Pragma("unroll") for (int v = 0; v < {each}; ++v) {{
                const int i = v * {tile.threads} + t, b = i % {rows}, k = i / {rows};
                while (stale(next[v])) {{ look_again(); look(s, v); }}
                if (k < {pieces}) set_eight(base + (s & 1) * {tile.state_bytes} + {_slot(tile, "b", "k")}, next[v]);
            }}
            block_sync();
            if (s + 1 < {r.steps}) _Pragma("unroll") for (int v = 0; v < {each}; ++v) look(s + 1, v);
            {_EACH.format(tile.columns)} {{
                {_PLACE}
                {_products(tile)}
                const unsigned low = to_narrow(a0 + bias.x) | (unsigned)to_narrow(a1 + bias.y) << 16;
                const unsigned high = to_narrow(a2 + bias.z) | (unsigned)to_narrow(a3 + bias.w) << 16;
                if (b < limit)
                    show((uint2 *)(to + {_row(r)} * {4 * tile.all_units}ll + unit * 4), make_uint2(low, high));
            }}
        }}
        return;
    }}"""


def _loop(layers: Sequence[Recurrence], tile: Tile, formats: dict[str, str]) -> str:
    r, stack = layers[0], len(layers) > 1
    columns = r.directions * 4 * tile.all_units
    of_layer = f"layer * {r.rows * columns}ll + " if stack else ""
    place = f"{of_layer}{_row(r)} * {columns}ll + direction * {4 * tile.all_units} + unit * 4"
    read = (
        f"const uint2 *const from = (const uint2 *)(projected + {place}); x[n] = {'seen(from)' if stack else '*from'};"
    )
    wait = "while (stale(x[n])) { look_again(); read(s, n, x); }" if stack else ""
    return f"""
    unsigned peers[{-(-tile.blocks // 8)}];  // addresses in blocks that a lane tells, others of every block at a time
    for (int i = 0; i < {-(-tile.blocks // 8)}; ++i) peers[i] = in_block(base, (g + i * 8 + rank) % {tile.blocks});
    auto read = [&](int s, int n, uint2 (&x)[{tile.columns}]) {{
        {_PLACE}
        x[n] = make_uint2(0, 0);
        if (b < limit) {{ {read} }}
    }};
    uint2 x[{tile.columns}];
    {_EACH.format(tile.columns)} read(0, n, x);
    for (int s = 0; s < {r.steps}; ++s) {{
        uint2 next[{tile.columns}];
        if (s + 1 < {r.steps}) {_EACH.format(tile.columns)} read(s + 1, n, next);
        {_EACH.format(tile.columns)} {{
            {_PLACE}
            {"if (row0 + n * 8 >= limit) break;" if tile.columns > 1 else ""}
            const unsigned barrier = told + 8 * (n * 2 + (s & 1));
            if (s) {{
                await(barrier, (s - 1) / 2 & 1);
                if (t == 0) expect(barrier, awaited(n));
            }}
            {_products(tile)}
            {wait}
            const float x0 = to_float((narrow_t)(x[n].x & 0xffff)), x1 = to_float((narrow_t)(x[n].x >> 16));
            const float x2 = to_float((narrow_t)(x[n].y & 0xffff)), x3 = to_float((narrow_t)(x[n].y >> 16));
            {_cell(r)}
            {_told(r, tile)}
            {_put(layers, tile, formats)}
            x[n] = next[n];
        }}
    }}"""


def _products(tile: Tile) -> str:
    """The sums a0 to a3 of a unit's four rows for one of eight sequences: of half of k, and what the pair's other warp
    has of the columns that stay here.

    Sums are two of each, for a product waits for the one before that adds to the same.
    """
    half = f"exchange + ((pair * {HALVES} + %s) * {tile.columns} + n) * 512 + lane * 16"
    return f"""float sums[2][2][4] = {{}}, v[2][4];
            const unsigned at = base + (s & 1) * {tile.state_bytes} + n * 128
                + q * {tile.depth // HALVES // 8 * tile.piece_bytes} + {_slot(tile, "(lane % 8)", "lane / 8")};
            {_streamed(tile) if tile.streamed else _kept(tile)}
            _Pragma("unroll") for (int m = 0; m < 2; ++m)
                _Pragma("unroll") for (int i = 0; i < 4; ++i) v[m][i] = sums[0][m][i] + sums[1][m][i];
            const float4 even = make_float4(v[0][0], v[0][2], v[1][0], v[1][2]);
            const float4 odd = make_float4(v[0][1], v[0][3], v[1][1], v[1][3]);
            leave({half % "1 - q"}, q ? even : odd);
            pair_sync(pair);
            const float4 mine = q ? odd : even, other = left({half % "q"});
            const float a0 = mine.x + other.x, a1 = mine.y + other.y;
            const float a2 = mine.z + other.z, a3 = mine.w + other.w;"""


def _kept(tile: Tile) -> str:
    """Products with weights in registers."""
    return f"""_Pragma("unroll") for (int k = 0; k < {tile.depth // HALVES // 16}; k += 2) {{
                const uint4 h = states(at + k * {2 * tile.piece_bytes});
                _Pragma("unroll") for (int m = 0; m < 2; ++m) multiply(sums[0][m], w[k][m], h.x, h.y);
                _Pragma("unroll") for (int m = 0; m < 2; ++m) multiply(sums[1][m], w[k + 1][m], h.z, h.w);
            }}"""


def _streamed(tile: Tile) -> str:
    """Products with weights on their way: some are read before those that were are used."""
    steps, ahead = tile.depth // HALVES // 16, tile.ahead
    each = f'_Pragma("unroll") for (int j = 0; j < {ahead}; ++j) _Pragma("unroll") for (int m = 0; m < 2; ++m)'
    return f"""uint4 w[{ahead}][2], following[{ahead}][2];
            {each} following[j][m] = weight(own_weights + j * 512 + m * 256);
            _Pragma("unroll 1") for (int k = 0; k < {steps}; k += {ahead}) {{
                {each} w[j][m] = following[j][m];
                if (k + {ahead} < {steps}) {each}
                    following[j][m] = weight(own_weights + (k + {ahead} + j) * 512 + m * 256);
                _Pragma("unroll") for (int j = 0; j < {ahead}; j += 2) {{
                    const uint4 h = states(at + (k + j) * {2 * tile.piece_bytes});
                    _Pragma("unroll") for (int m = 0; m < 2; ++m) multiply(sums[0][m], w[j][m], h.x, h.y);
                    _Pragma("unroll") for (int m = 0; m < 2; ++m) multiply(sums[1][m], w[j + 1][m], h.z, h.w);
                }}
            }}"""


def _cell(r: Recurrence) -> str:
    """The gates' functions, which are rows in ONNX's order: LSTM's input, output, forget, cell; GRU's update, reset and
    both parts of the candidate."""

    def bounded(text: str) -> str:
        return text if r.clip is None else f"smaller(larger({text}, {-r.clip!r}f), {r.clip!r}f)"

    if r.kind == "GRU":
        return f"""const float update = sigmoid({bounded("a0 + x0")}), reset = sigmoid({bounded("a1 + x1")});
            const float candidate = hyperbolic({bounded("x2 + reset * (a2 + x3)")});
            const float made = candidate + update * (hidden[n] - candidate), memory = 0.f;"""
    kept = "1.f - into" if r.coupled else f"sigmoid({bounded('a2 + x2')})"
    return f"""const float into = sigmoid({bounded("a0 + x0")}), kept = {kept};
            const float memory = kept * cell[n] + into * hyperbolic({bounded("a3 + x3")});
            const float made = sigmoid({bounded("a1 + x1")}) * hyperbolic(memory);"""


def _told(r: Recurrence, tile: Tile) -> str:
    """The new state is kept and told to all blocks; shown: what is put out, which is 0 past a sequence's length."""
    alive = "s < length[n]" if r.operands["lengths"] >= 0 else "true"
    each = f'_Pragma("unroll") for (int i = 0; i < {-(-tile.blocks // 8)}; ++i)'
    slot = f"unit / 8 * {tile.piece_bytes} + n * 128 + q * 64 + l * 16"
    return f"""const bool alive = {alive};
            if (alive) {{ hidden[n] = made; cell[n] = memory; }}
            const float shown = alive ? made : 0.f;
            const uint4 all = gathered(to_narrow(hidden[n]), g);
            if (s + 1 < {r.steps} && b < limit) {{
                const unsigned to = base + (s + 1 & 1) * {tile.state_bytes} + {slot};
                const unsigned full = told + 8 * (n * 2 + (s + 1 & 1));
                {each} if (g + i * 8 < {tile.blocks}) tell(peers[i] + (to - base), peers[i] + (full - base), all);
            }}"""


def _put(layers: Sequence[Recurrence], tile: Tile, formats: dict[str, str]) -> str:
    """Of the last layer of a stack, into all hidden states; of the others, where the next one sees it."""
    r, last = layers[0], layers[-1]
    out = _put_out(last, formats) if last.every >= 0 else ""
    if len(layers) == 1:
        return out
    to = f"hiddens + layer * {r.rows * tile.all_units}ll + {_row(r)} * {tile.all_units}ll + unit - g"
    shown = f"if (g == n && b < limit) show((uint4 *)({to}), all);"
    return f"if (layer < {len(layers) - 1}) {{ {shown} }} else {{ {out} }}"


def _put_out(r: Recurrence, formats: dict[str, str]) -> str:
    """[steps, directions, batch, hidden] or [batch, steps, directions, hidden]."""
    time = _time(r)
    if r.time_first and not r.put_turned:
        place = f"(({time} * {r.directions} + direction) * {r.sequences} + b) * {r.hidden}ll"
    else:
        place = f"((b * {r.steps} + {time}) * {r.directions} + direction) * {r.hidden}ll"
    name = f"y{r.every}"
    if formats[name] == "narrow_t" and r.hidden % 8 == 0 and r.operands["lengths"] < 0:
        inside = f"g == n && b < limit && unit - g < {r.hidden}"
        return f"if ({inside}) *(uint4 *)({name} + {place} + unit - g) = all;"
    value = "to_narrow(shown)" if formats[name] == "narrow_t" else "shown"
    return f"if (b < limit && unit < {r.hidden}) {name}[{place} + unit] = {value};"


def _end(layers: Sequence[Recurrence], tile: Tile, formats: dict[str, str]) -> str:
    """The last states."""
    lines = list[str]()
    for i, r in enumerate(layers):
        for number, value in ((r.last, "hidden[n]"), (r.memory, "cell[n]")):
            if number >= 0:
                stored = f"to_narrow({value})" if formats[f"y{number}"] == "narrow_t" else value
                lines.append(f"if (layer == {i}) y{number}[{_state_place(r, 'b', 'unit')}] = {stored};")
    if not lines:
        return ""
    return f"""
    {_EACH.format(tile.columns)} {{
        {_PLACE}
        if (b < limit && unit < {layers[0].hidden}) {{ {" ".join(lines)} }}
    }}"""
