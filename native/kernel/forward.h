// The forward pass over time for the rows and units of one work item. A row that skips a step costs only the copy of
// its state.
#pragma once

#include "kernel/arena.h"
#include "kernel/barrier.h"
#include "kernel/cancel_poll.h"
#include "kernel/gates.h"
#include "kernel/masks.h"

namespace glasscell::GLASSCELL_TARGET {

// The memory of a work item. Rows are numbered within the item. The active rows of a step are the rows whose flags keep
// the step (kKeep).
template <class T> struct ForwardWorkspace {
    const ForwardCall<T>& call;
    const int64_t rows;
    Arena &own, &shared;  // the item's own memory; that of all items of the same rows

    const int64_t chunk = chunk_of(call, rows);                           // steps whose inputs are summed ahead, or 1
    const bool streams = streams_tape(call);                              // TileRows::streams
    const T** const h = own.allocate<const T*>(rows);                     // the state of each row
    const T** const c = own.allocate<const T*>(rows);
    const T** const x_in = own.allocate<const T*>(rows * chunk);          // for each active row: x and h, masked
    const T** const h_in = own.allocate<const T*>(rows);
    const T** const c_in = own.allocate<const T*>(rows);                  // its cell state
    T** const h_out = own.allocate<T*>(rows);                             // its next state
    T** const c_out = own.allocate<T*>(rows);
    int64_t* const active = own.allocate<int64_t>(rows);                  // which row it is
    int64_t* const at = own.allocate<int64_t>(rows);                      // the index of its step in the time block
    const T** const start = own.allocate<const T*>(rows);                 // the sums of its inputs, if summed ahead
    T* const h_pair = call.h ? nullptr : shared.allocate<T>(rows * 2 * call.H);  // (rows, 2, H), if no h is kept
    T* const c_own = call.c ? nullptr : own.allocate<T>(rows * call.H);   // (rows, H), if no c is kept
    T* const x_masked = own.allocate<T>(rows * chunk * masked_size(call.dropout_gates, call.I));
    T* const h_masked = own.allocate<T>(rows * masked_size(call.recurrent_dropout_gates, call.H));
    T* const zeros = own.allocate<T>(call.H);
    T** const ahead = own.allocate<T*>(rows * chunk);                     // where a step's sums go: (blocks, 4, lanes)
    T* const sums = sums_ahead() ? own.allocate<T>(rows * chunk * sums_size()) : nullptr;  // the sums, by row and step

    bool sums_ahead() const { return chunk > 1; }
    int64_t sums_size() const { return vector_count<T>(call.H) * 4 * kLanes<T>; }

    // The active rows from the `first` one on.
    TileRows<T> tile_rows(int64_t first) const {
        return {c_in + first, h_out + first, c_out + first, at + first, streams};
    }

    // The distance between masked rows: kLanes elements more than a row has, because rows a power of two apart would
    // share their places in the cache.
    static int64_t masked_size(int64_t gates, int64_t n) { return gates ? gates * n + kLanes<T> : 0; }

    // How many steps have their inputs summed together. In a tile of few rows each fma waits for the one before. So
    // where one step has too few rows for a tile, the tile takes the inputs of several steps: these sums need no state,
    // and read the kernel once for all the steps. The bits are the same.
    static int64_t chunk_of(const ForwardCall<T>& call, int64_t rows) {
        return rows * 2 > kTileRows || rows == 0 ? 1 : minimum(call.time_block.steps, 4 * kTileRows / rows);
    }
};

template <class T> WorkspaceBytes forward_workspace(const ForwardCall<T>& call, int64_t rows) {
    Arena own{nullptr}, shared{nullptr};
    (void)ForwardWorkspace<T>{call, rows, own, shared};
    return {own.used, shared.used};
}

// A step is computed in parts of a few unit blocks and a few row tiles. The gates of a part are summed first, and then
// finished together: the processor finishes rows and units side by side, and writes the tape, which is far away, in
// longer runs.
constexpr int kPartBlocks = 4, kPartTiles = 8;

// The sums of one or two rows are too few in one unit block: each fma waits for the one before. So one row takes
// several blocks at once, and two rows do where the registers hold all sums.
constexpr int kFewRowsBlocks = 2;
constexpr int64_t blocks_at_once(int64_t rows) {
    return rows == 1 || (rows + 1) * 4 * kFewRowsBlocks < kRegisters ? kFewRowsBlocks : 1;
}

// The part of a step that is summed and finished together.
struct StepPart {
    int64_t active, tiles;       // active rows of the step, and their tiles
    int64_t from, to;            // the part's tiles
    int64_t row, rows;           // its first active row, and their count
    int64_t unit, last, blocks;  // its units unit..last-1, and their blocks
};

// The packed weights of some unit blocks, of one gate or of all four.
template <class T> struct BlockWeights {
    int64_t block, blocks;   // first block within the part, and count
    int64_t gate;
    const T *packed, *next;  // the weights of the first block; of the block after the last
};

// Adds an offset to the pointers of n rows.
template <class T> const T* const* offset_rows(const T* const* rows, int64_t n, int64_t offset, const T** out) {
    for (int64_t r = 0; r < n; ++r) out[r] = rows[r] + offset;
    return out;
}

// The loop over time of one work item.
template <class T> struct ForwardLoop {
    const ForwardCall<T>& call;
    WorkItem item;
    const ForwardWorkspace<T> work;
    const Layout layout = layout_of(call);
    const int64_t I = call.I, H = call.H;
    const int64_t first = call.time_block.first, end = first + call.time_block.steps;
    int64_t chunk_start = first;  // the step from which the chunks of inputs summed ahead are counted
    CancelPoll poll{call.cancellation};
    static constexpr int L = kLanes<T>;

    void run() {
        const bool standard = has_default_activations(call.options);
        const auto step = per_gate_masks(call)
                              ? (standard ? &ForwardLoop::run_step<true, true> : &ForwardLoop::run_step<true, false>)
                              : (standard ? &ForwardLoop::run_step<false, true> : &ForwardLoop::run_step<false, false>);
        const int64_t time_block = call.cell_checkpoints ? steps_per_time_block(call.B, call.time) : 1;
        start_states();
        for (int64_t s = first; s < end; ++s) {
            if (poll.cancelled(item.count * (item.last - item.first))) return;
            const int64_t in_chunk = (s - chunk_start) % work.chunk;
            if (work.sums_ahead() && in_chunk == 0) sum_ahead(s);
            if (call.cell_checkpoints && s % time_block == 0) keep_checkpoint(s / time_block);
            const int64_t active = list_active_rows(s, in_chunk);
            (this->*step)(active);
            for (int64_t n = 0; n < active; ++n)
                work.h[work.active[n]] = work.h_out[n], work.c[work.active[n]] = work.c_out[n];
            if (item.group && !exchange_states(s)) {
                if (item.member) return end_stores();
                take_over_cells();
                take_over(item, H);
                chunk_start = s + 1;
            }
        }
        end_stores();
        keep_final_states();
    }

    GLASSCELL_INLINE void end_stores() {
        if (work.streams) flush_stores();
    }

    GLASSCELL_INLINE void start_states() {
        memset(work.zeros, 0, size_t(H) * sizeof(T));
        for (int64_t row = 0; row < item.count; ++row)
            work.h[row] = call.h0 + item.rows[row] * H, work.c[row] = call.c0 + item.rows[row] * H;
        if (item.group) item.group->members[item.member].cells = work.c_own;
    }

    // Copies the cell states of the other members, which have left the group.
    void take_over_cells() {
        const ThreadGroup& group = *item.group;
        for (int n = 1; work.c_own && n < group.size; ++n) {
            const BarrierSlot& slot = group.members[n];
            const int64_t first = slot.first, last = n + 1 < group.size ? group.members[n + 1].first : H;
            for (int64_t row = 0; row < item.count; ++row)
                memcpy(work.c_own + row * H + first, static_cast<const T*>(slot.cells) + row * H + first,
                       size_t(last - first) * sizeof(T));
        }
    }

    // Copies the item's units of a row. Returns `to`.
    GLASSCELL_INLINE T* copy_units(const T* from, T* to) {
        if (to != from) memcpy(to + item.first, from + item.first, size_t(item.last - item.first) * sizeof(T));
        return to;
    }

    GLASSCELL_INLINE void keep_checkpoint(int64_t n) {
        for (int64_t row = 0; row < item.count; ++row)
            copy_units(work.c[row], call.cell_checkpoints + (n * call.B + item.rows[row]) * H);
    }

    GLASSCELL_INLINE void keep_final_states() {
        for (int64_t row = 0; row < item.count; ++row) {
            copy_units(work.h[row], call.hT + item.rows[row] * H);
            copy_units(work.c[row], call.cT + item.rows[row] * H);
        }
    }

    // Lists the active rows of step s, and carries the states of the other rows over the step. Returns how many rows
    // are active.
    GLASSCELL_INLINE int64_t list_active_rows(int64_t s, int64_t in_chunk) {
        const int64_t t = time_of(call, s);
        int64_t count = 0;
        for (int64_t row = 0; row < item.count; ++row) {
            const int64_t b = item.rows[row], at = offset_in(call.time_block, b, s);
            const uint8_t flags = flags_of(call, b, t);
            if (flags & kReset) work.h[row] = work.c[row] = work.zeros;
            if (flags & kKeep) {
                activate_row(count, row, b, at);
                if (work.sums_ahead())
                    work.start[count] = work.sums + (row * work.chunk + in_chunk) * work.sums_size();
                else
                    work.x_in[count] = masked_input(b, t, row);
                ++count;
            } else {
                if (call.h) work.h[row] = copy_units(work.h[row], call.h + at * H);
                if (call.c) work.c[row] = copy_units(work.c[row], call.c + at * H);
            }
        }
        return count;
    }

    // Sets the places where active row n, which is row `row` of the item, reads and writes its states. `at`: the index
    // of its step.
    GLASSCELL_INLINE void activate_row(int64_t n, int64_t row, int64_t b, int64_t at) {
        work.active[n] = row, work.at[n] = at;
        work.h_in[n] = masked_hidden(b, row), work.c_in[n] = work.c[row];
        work.h_out[n] = call.h ? call.h + at * H : other_of_pair(row);
        work.c_out[n] = call.c ? call.c + at * H : work.c_own + row * H;
    }

    // Returns where the next h goes if no sequence is kept. All units read the old h, so the new h is written beside
    // it.
    GLASSCELL_INLINE T* other_of_pair(int64_t row) {
        T* const pair = work.h_pair + row * 2 * H;
        return work.h[row] == pair ? pair + H : pair;
    }

    // Returns x of row b at time index t as the gates read it: the row itself, or its masked copies, which go to
    // `slot`.
    GLASSCELL_INLINE const T* masked_input(int64_t b, int64_t t, int64_t slot) {
        const T* const x = call.x + (b * call.time + t) * I;
        if (!call.dropout_gates) return x;
        T* const masked = work.x_masked + slot * work.masked_size(call.dropout_gates, I);
        apply_masks(x, call.dropout_mask, call.dropout_gates, call.B, b, I, masked, I);
        return masked;
    }

    // Returns h of row b as the gates read it: the state itself, or its masked copies.
    GLASSCELL_INLINE const T* masked_hidden(int64_t b, int64_t row) {
        const int64_t gates = call.recurrent_dropout_gates;
        if (!gates) return work.h[row];
        T* const masked = work.h_masked + row * work.masked_size(gates, H);
        apply_masks(work.h[row], call.recurrent_dropout_mask, gates, call.B, b, H, masked, H);
        return masked;
    }

    // Sums bias and inputs of the kept steps of the chunk that starts at step s, a tile of steps at a time.
    void sum_ahead(int64_t s) {
        const int64_t count = list_chunk(s), tiles = tile_count(count);
        const int64_t gates = per_gate_masks(call) ? 4 : 1, x_gate = gate_stride(call.dropout_gates, I);
        const auto sum = gates == 4 ? gates_tile_of<T, 1, 1> : gates_tile_of<T, 4, 1>;
        for (int64_t unit = item.first; unit < item.last; unit += L) {
            const T* const packed = call.packed + unit / L * layout.block;
            if (poll.cancelled(count * 4 * L * I)) return;
            for (int64_t n = 0; n < gates * tiles; ++n) {
                const int64_t gate = n / tiles, tile = n % tiles;
                const int64_t at = tile_start(count, tiles, tile), rows = tile_start(count, tiles, tile + 1) - at;
                T* z[kTileRows];
                const T* x[kTileRows];
                for (int64_t r = 0; r < rows; ++r) z[r] = work.ahead[at + r] + unit * 4 + gate * L;
                sum(rows, {nullptr, offset_rows(work.x_in + at, rows, gate * x_gate, x), nullptr, I, 0,
                           packed + gate * layout.gate, layout, z, packed});
            }
        }
    }

    // Lists x of the kept steps of a chunk, and the places of their sums. Returns how many steps are kept.
    int64_t list_chunk(int64_t s) {
        const int64_t steps = minimum(work.chunk, end - s);
        int64_t count = 0;
        for (int64_t row = 0; row < item.count; ++row) {
            for (int64_t step = 0; step < steps; ++step) {
                const int64_t b = item.rows[row], t = time_of(call, s + step);
                if (!(flags_of(call, b, t) & kKeep)) continue;
                work.x_in[count] = masked_input(b, t, count);
                work.ahead[count++] = work.sums + (row * work.chunk + step) * work.sums_size();
            }
        }
        return count;
    }

    // Runs one step of the active rows. The outputs of a cancelled step are undefined.
    template <bool PerGate, bool Default> void run_step(int64_t active) {
        alignas(64) T z[kPartTiles * kTileRows * kPartBlocks * 4 * L];
        const int64_t tiles = tile_count(active);
        for (int64_t unit = item.first; unit < item.last; unit += kPartBlocks * L) {
            const int64_t last = minimum(unit + kPartBlocks * L, item.last), blocks = vector_count<T>(last - unit);
            for (int64_t from = 0; from < tiles; from += kPartTiles) {
                const int64_t to = minimum(from + kPartTiles, tiles);
                const int64_t row = tile_start(active, tiles, from), rows = tile_start(active, tiles, to) - row;
                if (poll.cancelled(rows * 4 * (last - unit) * (I + H))) return;
                sum_gates<PerGate>({active, tiles, from, to, row, rows, unit, last, blocks}, z);
                finish_tiles<T, Default>(call, z, work.tile_rows(row), rows, blocks, unit, last);
            }
        }
    }

    // Sums the raw gates of a part into z: (rows, blocks, 4, lanes).
    template <bool PerGate> void sum_gates(const StepPart& part, T* z) {
        const int64_t most = blocks_at_once(part.active);
        for (int64_t b = 0, blocks; b < part.blocks; b += blocks) {
            blocks = PerGate ? part.blocks : b + most <= part.blocks ? most : 1;
            const int64_t unit = part.unit + b * L, after = unit + blocks * L;
            const T* const packed = call.packed + unit / L * layout.block;
            const T* const next = call.packed + (after < item.last ? after : item.first) / L * layout.block;
            for (int64_t gate = 0; gate < (PerGate ? 4 : 1); ++gate)
                for (int64_t tile = part.from; tile < part.to; ++tile)
                    sum_tile<PerGate>(part, {b, blocks, gate, packed + gate * layout.gate, next}, tile, z);
        }
    }

    template <bool PerGate>
    GLASSCELL_INLINE void sum_tile(const StepPart& part, const BlockWeights<T>& weights, int64_t tile, T* z) {
        const int64_t gate = weights.gate, unit = part.unit + weights.block * L;
        const int64_t at = tile_start(part.active, part.tiles, tile);
        const int64_t n = tile_start(part.active, part.tiles, tile + 1) - at;
        T* z_rows[kTileRows];
        const T *x_rows[kTileRows], *h_rows[kTileRows], *start_rows[kTileRows];
        for (int64_t r = 0; r < n; ++r)
            z_rows[r] = z + ((at - part.row + r) * part.blocks + weights.block) * 4 * L + gate * L;
        for (int64_t u = unit; call.gates && gate == 0 && u < unit + weights.blocks * L; u += L)
            prefetch_tape(call, work.tile_rows(at), n, u);
        GatesTile<T> gates = {nullptr, work.x_in + at, work.h_in + at, I, H, weights.packed, layout, z_rows,
                              weights.next + minimum(tile, 3) * (I + H) * L};
        if (PerGate) {
            gates.x = offset_rows(gates.x, n, gate * gate_stride(call.dropout_gates, I), x_rows);
            gates.h = offset_rows(gates.h, n, gate * gate_stride(call.recurrent_dropout_gates, H), h_rows);
        }
        if (work.sums_ahead()) {
            gates.x = nullptr;
            gates.start = offset_rows(work.start + at, n, unit * 4 + gate * L, start_rows);
        }
        if (PerGate)
            gate_tile_of<T>(n, weights.blocks, gates);
        else if (weights.blocks > 1)
            n == 1 ? gates_tile<T, 1, 4, kFewRowsBlocks>(gates) : gates_tile<T, 2, 4, kFewRowsBlocks>(gates);
        else
            gates_tile_of<T, 4, 1>(n, gates);
    }

    // Waits for the threads that compute the other units of the same rows. Returns whether the group goes on. Data in
    // another core's cache takes long to arrive, so the states that will be written, and those that the next step
    // reads, are prefetched.
    GLASSCELL_INLINE bool exchange_states(int64_t s) {
        for (int64_t row = 0; call.h && s + 2 < end && row < item.count; ++row)
            prefetch<T, true>(call.h + offset_in(call.time_block, item.rows[row], s + 2) * H + item.first,
                              item.last - item.first);
        const bool goes_on = barrier_wait(item, call.cancellation);
        for (int64_t row = 0; row < item.count; ++row) prefetch<T, false>(work.h[row], H);
        return goes_on;
    }
};

template <class T>
void forward(const ForwardCall<T>& call, const WorkItem& item, void* own_memory, void* shared_memory) {
    Arena own{static_cast<char*>(own_memory)}, shared{static_cast<char*>(shared_memory)};
    ForwardLoop<T>{call, item, {call, item.count, own, shared}}.run();
}

}  // namespace glasscell::GLASSCELL_TARGET
