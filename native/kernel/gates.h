// The gates of a tile. A tile is some rows and the units of one block, or of several blocks where there are only one or
// two rows (blocks_at_once in forward.h). It sums the four gates of its units together. With per-gate masks each gate
// reads rows of its own, and a tile sums one gate of several blocks. Activations and the state update follow while the
// sums are in a near cache.
#pragma once

#include "kernel/lstm.h"
#include "kernel/pack.h"

namespace glasscell::GLASSCELL_TARGET {

// The operands of a tile's raw gates. The sums start from start[r], or from the bias where `start` is null. Then come
// the I inputs and the H recurrent terms, unless `x` or `h` is null. z[r] and start[r] are (blocks, 4, lanes). In a
// tile of a single gate all pointers start at that gate.
template <class T> struct GatesTile {
    const T* const* start;
    const T *const *x, *const *h;
    int64_t I, H;
    const T* packed;  // the weights of the first block
    Layout layout;
    T* const* z;
    const T* next;    // (I + H, lanes), prefetched by a tile of one block: a part of the next block's weights
};

template <class T, int R, int Gates, int Blocks> void gates_tile(const GatesTile<T>& tile) {
    constexpr int L = kLanes<T>;
    const int64_t row = tile.layout.row, block = tile.layout.block;
    const T* const kernel = tile.packed + row, *const recurrent = kernel + tile.I * row;
    V<T> sum[R][Blocks * Gates];
    GLASSCELL_UNROLL
    for (int r = 0; r < R; ++r) {
        const T* const from = tile.start ? tile.start[r] : tile.packed;
        const int64_t stride = tile.start ? 4 * L : block;
        GLASSCELL_UNROLL
        for (int n = 0; n < Blocks * Gates; ++n) sum[r][n] = load<T>(from + n / Gates * stride + n % Gates * L);
    }
    if (tile.x) accumulate<T, R, Gates, Blocks>(sum, tile.x, kernel, tile.I, tile.next, block);
    if (tile.h) accumulate<T, R, Gates, Blocks>(sum, tile.h, recurrent, tile.H, tile.next + tile.I * L, block);
    GLASSCELL_UNROLL
    for (int r = 0; r < R; ++r) {
        GLASSCELL_UNROLL
        for (int n = 0; n < Blocks * Gates; ++n) store<T>(tile.z[r] + n / Gates * 4 * L + n % Gates * L, sum[r][n]);
    }
}

template <class T, int Gates, int Blocks> void gates_tile_of(int64_t rows, const GatesTile<T>& tile) {
    with_rows(rows, [&](auto r) { gates_tile<T, r.value, Gates, Blocks>(tile); });
}

// Sums one gate of `blocks` blocks.
template <class T> void gate_tile_of(int64_t rows, int64_t blocks, const GatesTile<T>& tile) {
    with_vectors(blocks, [&](auto n) { gates_tile_of<T, 1, n.value>(rows, tile); });
}

// The states that a tile's rows read and write, and the index of each row's step in the arrays of the time block.
template <class T> struct TileRows {
    const T* const* c;
    T* const *h_out, *const *c_out;
    const int64_t* at;
    bool streams;  // whether the gates are written past the caches
};

// Whether the tape is so large that it would only push other data out of the nearer caches: the backward pass reads it
// much later. Measured, writing past the caches takes a third less time for a tape of 50 MB, and a tenth less for one
// of 4 MB.
template <class T> bool streams_tape(const ForwardCall<T>& call) {
    constexpr int64_t kLarge = 2 << 20;  // bytes
    const int64_t gate = call.H * int64_t(sizeof(T));
    return kStreamsStores && call.gates && call.B * call.time_block.steps * 4 * gate >= kLarge &&
           gate % kVectorBytes == 0 && reinterpret_cast<uintptr_t>(call.gates) % kVectorBytes == 0 &&
           reinterpret_cast<uintptr_t>(call.z) % kVectorBytes == 0;
}

// Prefetches the places in the tape that a tile will write. They are far away, and arrive while the tile sums.
template <class T>
GLASSCELL_INLINE void prefetch_tape(const ForwardCall<T>& call, const TileRows<T>& rows, int64_t count, int64_t unit) {
    for (int64_t r = 0; r < count; ++r) {
        for (int64_t gate = 0; !rows.streams && gate < 4; ++gate)
            __builtin_prefetch(call.gates + (rows.at[r] * 4 + gate) * call.H + unit, 1, 3);
        __builtin_prefetch(rows.c_out[r] + unit, 1, 3);
        __builtin_prefetch(rows.h_out[r] + unit, 1, 3);
    }
}

// Writes `width` units of the four gates to the tape, which has H units a gate.
template <class T>
GLASSCELL_INLINE void store_gates(const Gates<T>& gates, T* to, int64_t H, int64_t width, bool streams) {
    const V<T> all[] = {gates.i, gates.f, gates.g, gates.o};
    for (const V<T>& gate : all) {
        if (streams)
            stream_store<T>(to, gate);
        else
            store_n<T>(to, gate, width);
        to += H;
    }
}

// Activates the gates and updates the states of `count` rows and the units first..last-1, which fill `blocks` blocks.
// z: the raw gates, (rows, blocks, 4, lanes). All cell states are computed first and all outputs after them. Each is a
// long chain of operations, independent of the others, and the processor runs these chains side by side.
template <class T, bool Default>
void finish_tiles(const ForwardCall<T>& call, T* z, const TileRows<T>& rows, int64_t count, int64_t blocks,
                  int64_t first, int64_t last) {
    const Activation a = Default ? Activation::tanh : call.options.activation;
    const Activation s = Default ? Activation::sigmoid : call.options.recurrent_activation;
    constexpr int L = kLanes<T>;
    T* at = z;
    for (int64_t r = 0; r < count; ++r) {
        for (int64_t unit = first; unit < last; unit += L, at += 4 * L) {
            const int64_t width = minimum(L, last - unit), kept = rows.at[r] * 4 * call.H + unit;
            const Gates<T> raw = {load<T>(at), load<T>(at + L), load<T>(at + 2 * L), load<T>(at + 3 * L)};
            const Gates<T> gates = activate_gates<T>(raw, a, s);
            const V<T> c = cell_state<T>(gates, load_n<T>(rows.c[r] + unit, width));
            store_n<T>(rows.c_out[r] + unit, c, width);
            if (call.gates) store_gates<T>(gates, call.gates + kept, call.H, width, rows.streams);
            if (call.z) store_gates<T>(raw, call.z + kept, call.H, width, rows.streams);
            store<T>(at, gates.o);
            store<T>(at + L, c);
        }
    }
    for (int64_t n = 0; n < count * blocks; ++n) {
        const int64_t unit = first + n % blocks * L;
        const V<T> h = hidden_state<T>(load<T>(z + n * 4 * L), load<T>(z + n * 4 * L + L), a);
        store_n<T>(rows.h_out[n / blocks] + unit, h, minimum(L, last - unit));
    }
}

}  // namespace glasscell::GLASSCELL_TARGET
