// The forward pass over time for some rows, and some or all of their units. Rows that skip a step cost nothing but the
// carry.
#pragma once

#include "kernel/gates.h"
#include "kernel/arena.h"
#include "kernel/masks.h"
#include "kernel/barrier.h"
#include "kernel/cancel_poll.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

template <class T> struct ForwardWorkspace {
    const T **h, **c;         // [rows] where the state of each row stands
    const T **x_in, **h_in;   // [rows * chunk], [rows] what the gates of an active row read
    const T** c_in;           // [rows] its cell state
    T **h_out, **c_out;       // [rows] where its next state goes
    int64_t *active, *at;     // [rows] which row it is, and the place of its step
    const T** start;          // [rows] where the sums of its raw gates start, if summed ahead
    T *h_pair, *c_own;        // [rows][2][H] for all parts, [rows][H]: the states when no sequence is kept
    T *x_masked, *h_masked;   // [rows * chunk] and [rows] of masked_size: (gates, I), (gates, H)
    T* zeros;                 // [H]
    int64_t chunk;            // steps whose input part is summed ahead; 1: each with its step
    T** ahead;                // [rows * chunk] where those sums stand, each (blocks, 4, lanes)
    T* sums;                  // the same, in the order of row and step
    bool streams;                // TileRows::streams

    ForwardWorkspace(const ForwardCall<T>& call, int64_t rows, Arena& own, Arena& shared) {
        chunk = chunk_of(call, rows), streams = streams_tape(call);
        h = own.allocate<const T*>(rows), c = own.allocate<const T*>(rows);
        x_in = own.allocate<const T*>(rows * chunk), h_in = own.allocate<const T*>(rows);
        c_in = own.allocate<const T*>(rows);
        h_out = own.allocate<T*>(rows), c_out = own.allocate<T*>(rows);
        active = own.allocate<int64_t>(rows), at = own.allocate<int64_t>(rows);
        start = own.allocate<const T*>(rows);
        h_pair = call.h ? nullptr : shared.allocate<T>(rows * 2 * call.H);
        c_own = call.c ? nullptr : own.allocate<T>(rows * call.H);
        x_masked = own.allocate<T>(rows * chunk * masked_size(call.input_gates, call.I));
        h_masked = own.allocate<T>(rows * masked_size(call.recurrent_gates, call.H));
        zeros = own.allocate<T>(call.H);
        ahead = own.allocate<T*>(rows * chunk);
        sums = chunk > 1 ? own.allocate<T>(rows * chunk * sums_size(call)) : nullptr;
    }

    // Of the active rows from the `first` one on.
    TileRows<T> from(int64_t first) const { return {c_in + first, h_out + first, c_out + first, at + first, streams}; }

    // From one row's masked copies to the next one's: rows a power of two apart would share their places in the cache.
    static int64_t masked_size(int64_t gates, int64_t n) { return gates ? gates * n + kLanes<T> : 0; }

    static int64_t sums_size(const ForwardCall<T>& call) {
        return (call.H + kLanes<T> - 1) / kLanes<T> * 4 * kLanes<T>;
    }

    // A tile of few rows waits for its own sums. Where one step has too few rows for a tile, the input part of several
    // steps is summed together: it needs no state, and reads the kernel once for all of them. The bits are the same.
    static int64_t chunk_of(const ForwardCall<T>& call, int64_t rows) {
        return rows * 2 > kTileRows || rows == 0 ? 1 : minimum(call.time_block.steps, 4 * kTileRows / rows);
    }
};

template <class T> size_t forward_scratch(const ForwardCall<T>& call, int64_t rows) {
    Arena own{nullptr}, shared{nullptr};
    ForwardWorkspace<T>(call, rows, own, shared);
    return own.used;
}

template <class T> size_t forward_shared(const ForwardCall<T>& call, int64_t rows) {
    Arena own{nullptr}, shared{nullptr};
    ForwardWorkspace<T>(call, rows, own, shared);
    return shared.used;
}

// A step goes over its units a group of blocks at a time, and over its rows some tiles at a time, and finishes what it summed
// of both together: side by side in the processor, and into the tape, which is far away, in longer runs.
constexpr int kGroupBlocks = 4, kGroupTiles = 8;

// One row's sums of one block wait for each other, those of several blocks do not.
constexpr int kRowBlocks = 2;

// The pointers of n rows, all `offset` elements further on.
template <class T> const T* const* offset_rows(const T* const* rows, int64_t n, int64_t offset, const T** out) {
    for (int64_t r = 0; r < n; ++r) out[r] = rows[r] + offset;
    return out;
}

// The raw gates of the active rows in tiles from..to-1 of `tiles`, and of the `blocks` blocks from `unit` on, into
// z: (rows, blocks, 4, lanes). `ahead`: the input parts are summed already.
template <class T, bool PerGate>
void sum_gates(const ForwardCall<T>& call, const ForwardWorkspace<T>& rows, const WorkItem& item, int64_t count, bool ahead,
               int64_t from, int64_t to, int64_t unit, int64_t blocks, T* z) {
    constexpr int L = kLanes<T>, kGates = PerGate ? 4 : 1;
    T* places[kTileRows];
    const T *x_rows[kTileRows], *h_rows[kTileRows], *start_rows[kTileRows];
    const Layout layout = layout_of(call);
    const int64_t tiles = tile_count(count), top = tile_start(count, tiles, from), I = call.I, H = call.H;
    const int64_t x_gate = call.input_gates == 4 ? I : 0, h_gate = call.recurrent_gates == 4 ? H : 0;
    const int64_t most = count == 1 ? kRowBlocks : 1, block = (1 + I + H) * 4 * L;
    const T* const first_packed = call.packed + item.first / L * block;
    const T* packed = call.packed + unit / L * block;
    for (int64_t b = 0, width; b < blocks; b += width, unit += width * L, packed += width * block) {
        width = PerGate ? blocks : b + most <= blocks ? most : 1;
        const T* const next = unit + width * L < item.last ? packed + width * block : first_packed;
        for (int64_t gate = 0; gate < kGates; ++gate) {
            for (int64_t tile = from; tile < to; ++tile) {
                const int64_t first = tile_start(count, tiles, tile), n = tile_start(count, tiles, tile + 1) - first;
                for (int64_t r = 0; r < n; ++r) places[r] = z + ((first - top + r) * blocks + b) * 4 * L + gate * L;
                for (int64_t u = unit; call.gates && gate == 0 && u < unit + width * L; u += L)
                    prefetch_tape(call, rows.from(first), n, u);
                GatesTile<T> gates = {nullptr, rows.x_in + first, rows.h_in + first, I, H, packed + gate * layout.gate, layout,
                                      block, places, next + minimum(tile, 3) * (I + H) * L};
                if (PerGate) {
                    gates.x = offset_rows(gates.x, n, gate * x_gate, x_rows);
                    gates.h = offset_rows(gates.h, n, gate * h_gate, h_rows);
                }
                if (ahead) {
                    gates.x = nullptr;
                    gates.start = offset_rows(rows.start + first, n, unit * 4 + gate * L, start_rows);
                }
                if (PerGate)
                    gate_tile_of<T>(n, width, gates);
                else if (width > 1)
                    gates_tile<T, 1, 4, kRowBlocks>(gates);
                else
                    gates_tile_of<T, 4, 1>(n, gates);
            }
        }
    }
}

// One step of the `count` active rows, for the part's units. Where it is told to stop, what it gives is undefined.
template <class T, bool PerGate, bool Standard>
void run_step(const ForwardCall<T>& call, const ForwardWorkspace<T>& rows, const WorkItem& item, int64_t count, bool ahead,
              CancelPoll& poll) {
    constexpr int L = kLanes<T>;
    alignas(64) T z[kGroupTiles * kTileRows * kGroupBlocks * 4 * L];
    const int64_t tiles = tile_count(count);
    for (int64_t unit = item.first; unit < item.last; unit += kGroupBlocks * L) {
        const int64_t last = minimum(unit + kGroupBlocks * L, item.last), blocks = (last - unit + L - 1) / L;
        for (int64_t from = 0; from < tiles; from += kGroupTiles) {
            const int64_t to = minimum(from + kGroupTiles, tiles);
            const int64_t first = tile_start(count, tiles, from), n = tile_start(count, tiles, to) - first;
            if (poll.cancelled(n * 4 * (last - unit) * (call.I + call.H))) return;
            sum_gates<T, PerGate>(call, rows, item, count, ahead, from, to, unit, blocks, z);
            finish_tiles<T, Standard>(call, z, rows.from(first), n, blocks, unit, last);
        }
    }
}

// What the gates read of x at one step: the row itself, or its masked copies at `slot`.
template <class T>
const T* input_of(const ForwardCall<T>& call, const ForwardWorkspace<T>& state, int64_t b, int64_t t, int64_t slot) {
    const T* const x = call.x + (b * call.time + t) * call.I;
    if (!call.input_gates) return x;
    T* const masked = state.x_masked + slot * state.masked_size(call.input_gates, call.I);
    apply_masks(x, call.dropout_mask + b * call.I, call.input_gates, call.B * call.I, call.I, masked, call.I);
    return masked;
}

// Sums bias and inputs of the kept steps first..first + chunk - 1 of all rows, a tile of steps at a time.
template <class T>
void sum_ahead(const ForwardCall<T>& call, const ForwardWorkspace<T>& state, const WorkItem& item, int64_t first, CancelPoll& poll) {
    constexpr int L = kLanes<T>;
    const int64_t steps = minimum(state.chunk, call.time_block.first + call.time_block.steps - first);
    const int64_t size = ForwardWorkspace<T>::sums_size(call);
    int64_t count = 0;
    for (int64_t row = 0; row < item.count; ++row) {
        for (int64_t step = 0; step < steps; ++step) {
            const int64_t b = item.rows[row], t = time_of(call, first + step);
            if (!(flags_of(call, b, t) & kKeep)) continue;
            state.x_in[count] = input_of(call, state, b, t, count);
            state.ahead[count++] = state.sums + (row * state.chunk + step) * size;
        }
    }
    const Layout layout = layout_of(call);
    const int64_t tiles = tile_count(count), x_gate = call.input_gates == 4 ? call.I : 0, gates = per_gate_masks(call) ? 4 : 1;
    const int64_t block = (1 + call.I + call.H) * 4 * L;
    const auto run = gates == 4 ? gates_tile_of<T, 1, 1> : gates_tile_of<T, 4, 1>;
    const T* packed = call.packed + item.first / L * block;
    for (int64_t unit = item.first; unit < item.last; unit += L, packed += block) {
        if (poll.cancelled(count * 4 * L * call.I)) return;
        for (int64_t n = 0; n < gates * tiles; ++n) {
            const int64_t gate = n / tiles, tile = n % tiles;
            const int64_t at = tile_start(count, tiles, tile), rows = tile_start(count, tiles, tile + 1) - at;
            T* places[kTileRows];
            const T* x[kTileRows];
            for (int64_t r = 0; r < rows; ++r) places[r] = state.ahead[at + r] + unit * 4 + gate * L;
            run(rows, {nullptr, offset_rows(state.x_in + at, rows, gate * x_gate, x), nullptr, call.I, 0,
                       packed + gate * layout.gate, layout, block, places, packed});
        }
    }
}

template <class T> void forward(const ForwardCall<T>& call, const WorkItem& item, void* own_memory, void* shared_memory) {
    const int64_t H = call.H, end = call.time_block.first + call.time_block.steps;
    const size_t bytes = size_t(item.last - item.first) * sizeof(T);  // of this part's units of one row
    Arena own{static_cast<char*>(own_memory)}, shared{static_cast<char*>(shared_memory)};
    const ForwardWorkspace<T> state(call, item.count, own, shared);
    memset(state.zeros, 0, size_t(H) * sizeof(T));
    for (int64_t row = 0; row < item.count; ++row) {
        state.h[row] = call.h0 + item.rows[row] * H;
        state.c[row] = call.c0 + item.rows[row] * H;
    }
    const auto carry = [&](T* to, const T* from) {
        if (to != from) memcpy(to + item.first, from + item.first, bytes);
        return to;
    };
    const bool standard = call.options.activation == Activation::tanh &&
                          call.options.recurrent_activation == Activation::sigmoid;
    const auto run = per_gate_masks(call) ? (standard ? run_step<T, true, true> : run_step<T, true, false>)
                                   : (standard ? run_step<T, false, true> : run_step<T, false, false>);
    const bool ahead = state.chunk > 1;
    const int64_t back = call.cell_checkpoints ? steps_per_time_block(call.B, call.time) : 1;
    CancelPoll poll(call.cancellation);
    for (int64_t s = call.time_block.first; s < end; ++s) {
        if (poll.cancelled(item.count * (item.last - item.first))) return;
        const int64_t t = time_of(call, s), within = (s - call.time_block.first) % state.chunk;
        if (ahead && within == 0) sum_ahead(call, state, item, s, poll);
        int64_t count = 0;
        for (int64_t row = 0; row < item.count; ++row) {
            const int64_t b = item.rows[row], at = offset_in(call.time_block, b, s);
            const uint8_t bits = flags_of(call, b, t);
            if (call.cell_checkpoints && s % back == 0) carry(call.cell_checkpoints + (s / back * call.B + b) * H, state.c[row]);
            if (bits & kReset) state.h[row] = state.c[row] = state.zeros;
            if (!(bits & kKeep)) {  // the state carries over
                if (call.h) state.h[row] = carry(call.h + at * H, state.h[row]);
                if (call.c) state.c[row] = carry(call.c + at * H, state.c[row]);
                continue;
            }
            const T* h = state.h[row];
            if (call.recurrent_gates) {
                T* const masked = state.h_masked + row * state.masked_size(call.recurrent_gates, H);
                apply_masks(h, call.recurrent_dropout_mask + b * H, call.recurrent_gates, call.B * H, H, masked, H);
                h = masked;
            }
            if (call.h) {
                state.h_out[count] = call.h + at * H;
            } else {  // all units read the old h, so the new one goes to the other place
                T* const pair = state.h_pair + row * 2 * H;
                state.h_out[count] = state.h[row] == pair ? pair + H : pair;
            }
            state.c_out[count] = call.c ? call.c + at * H : state.c_own + row * H;
            if (ahead)
                state.start[count] = state.sums + (row * state.chunk + within) * state.sums_size(call);
            else
                state.x_in[count] = input_of(call, state, b, t, row);
            state.h_in[count] = h, state.c_in[count] = state.c[row];
            state.active[count] = row, state.at[count] = at;
            ++count;
        }
        run(call, state, item, count, ahead, poll);
        for (int64_t n = 0; n < count; ++n) {
            const int64_t row = state.active[n];
            state.h[row] = state.h_out[n], state.c[row] = state.c_out[n];
        }
        if (item.group && call.h && s + 2 < end)
            for (int64_t row = 0; row < item.count; ++row)
                prefetch<T, true>(call.h + offset_in(call.time_block, item.rows[row], s + 2) * H + item.first, item.last - item.first);
        barrier_wait(item, call.cancellation);
        if (item.group)
            for (int64_t row = 0; row < item.count; ++row) prefetch<T, false>(state.h[row], H);
    }
    if (state.streams) flush_stores();
    for (int64_t row = 0; row < item.count; ++row) {
        const int64_t b = item.rows[row];
        carry(call.hT + b * H, state.h[row]);
        carry(call.cT + b * H, state.c[row]);
    }
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
