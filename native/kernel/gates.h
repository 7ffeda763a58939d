// The gates of a tile: some rows and the units of one block, or of several blocks where there is but one row. One tile sums
// the four gates of the same units, or one gate of several blocks where each gate reads rows of its own; activations and
// the state update follow while the sums are in a near cache.
#pragma once

#include "kernel/lstm.h"
#include "simd/transpose.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// packed: for each block of lanes units (1 + I + H, 4, lanes): bias, inputs, recurrent; or by gate, (4, 1 + I + H, lanes).
// Units beyond H are zero. These are the elements from one row to the next and from one gate to the next.
struct Layout {
    int64_t row, gate;
};
template <class T> Layout layout_of(const Call<T>& call) {
    constexpr int L = kLanes<T>;
    return per_gate_masks(call) ? Layout{L, (1 + call.I + call.H) * L} : Layout{4 * L, L};
}

template <class T> size_t pack_forward_size(int64_t I, int64_t H) {
    return size_t((H + kLanes<T> - 1) / kLanes<T> * (1 + I + H) * 4 * kLanes<T>);
}

// Rows begin..end-1 of matrix: (n, 4H), which stands as (4H, n). `to`: the place of the first of its rows.
template <class T>
void pack_turned(const T* matrix, int64_t n, int64_t H, int64_t begin, int64_t end, T* to, int64_t block, Layout layout) {
    constexpr int L = kLanes<T>;
    for (int64_t unit = 0; unit < H; unit += L, to += block)
        for (int64_t gate = 0; gate < 4; ++gate)
            for (int64_t k = begin; k < end; k += L)
                transpose_to_vectors<T>(matrix + (gate * H + unit) * n + k, n, minimum(L, H - unit), minimum(L, end - k),
                                   to + k * layout.row + gate * layout.gate, layout.row);
}

// Rows begin..end-1 of the 1 + I + H.
template <class T> void pack_forward(const Call<T>& call, int64_t begin, int64_t end, T* packed) {
    constexpr int L = kLanes<T>;
    const int64_t I = call.I, H = call.H, block = (1 + I + H) * 4 * L;
    const Layout layout = layout_of(call);
    const auto within = [&](int64_t k, int64_t n) { return k < 0 ? 0 : minimum(k, n); };
    if (call.transposed_weights) {
        pack_turned(call.kernel, I, H, within(begin - 1, I), within(end - 1, I), packed + layout.row, block, layout);
        pack_turned(call.recurrent_kernel, H, H, within(begin - 1 - I, H), within(end - 1 - I, H),
                    packed + (1 + I) * layout.row, block, layout);
        end = minimum(end, 1);
    }
    for (int64_t k = begin; k < end; ++k) {
        const T* row = k == 0   ? call.bias
                       : k <= I ? call.kernel + (k - 1) * 4 * H
                                : call.recurrent_kernel + (k - 1 - I) * 4 * H;
        T* to = packed + k * layout.row;
        for (int64_t unit = 0; unit < H; unit += L, to += block) {
            const int64_t width = minimum(L, H - unit);
            for (int gate = 0; gate < 4; ++gate)
                store<T>(to + gate * layout.gate, row ? load_n<T>(row + gate * H + unit, width) : V<T>{});
        }
    }
}

// Raw gates of some rows and the units of some blocks, into z[r]: (blocks, 4, lanes). All four gates, or one by itself, where
// all pointers then start. The sums start from start[r], laid out as z, or from the bias where `start` is null; then come the
// I inputs and the H recurrent terms: those whose rows are not null.
template <class T> struct GatesTile {
    const T* const* start;
    const T *const *x, *const *h;
    int64_t I, H;
    const T* packed;  // of the first block
    Layout layout;
    int64_t block;    // from one block's packed weights to the next one's
    T* const* z;
    const T* next;    // (I + H, lanes) to fetch meanwhile, where there is but one block: a part of the next one's weights
};

template <class T, int R, int Gates, int Blocks> void gates_tile(const GatesTile<T>& tile) {
    constexpr int L = kLanes<T>;
    const T* const kernel = tile.packed + tile.layout.row, *const recurrent = kernel + tile.I * tile.layout.row;
    V<T> sum[R][Blocks * Gates];
    GLASSCELL_UNROLL
    for (int r = 0; r < R; ++r) {
        const T* const from = tile.start ? tile.start[r] : tile.packed;
        const int64_t block = tile.start ? 4 * L : tile.block;
        GLASSCELL_UNROLL
        for (int n = 0; n < Blocks * Gates; ++n) sum[r][n] = load<T>(from + n / Gates * block + n % Gates * L);
    }
    if (tile.x) accumulate<T, R, Gates, Blocks>(sum, tile.x, kernel, tile.I, tile.next, tile.block);
    if (tile.h) accumulate<T, R, Gates, Blocks>(sum, tile.h, recurrent, tile.H, tile.next + tile.I * L, tile.block);
    GLASSCELL_UNROLL
    for (int r = 0; r < R; ++r) {
        GLASSCELL_UNROLL
        for (int n = 0; n < Blocks * Gates; ++n) store<T>(tile.z[r] + n / Gates * 4 * L + n % Gates * L, sum[r][n]);
    }
}

template <class T, int Gates, int Blocks> void gates_tile_of(int64_t rows, const GatesTile<T>& tile) {
    with_rows(rows, [&](auto r) { gates_tile<T, r.value, Gates, Blocks>(tile); });
}

// One gate of some blocks.
template <class T> void gate_tile_of(int64_t rows, int64_t blocks, const GatesTile<T>& tile) {
    with_vectors(blocks, [&](auto n) { gates_tile_of<T, 1, n.value>(rows, tile); });
}

// What a tile's rows read and write beside their sums. `at`: the places of the rows in the arrays of steps.
template <class T> struct TileRows {
    const T* const* c;
    T* const *h_out, *const *c_out;
    const int64_t* at;
    bool streams;  // the gates go past the caches
};

// Whether the gates that a call keeps are so many that they would only push other things out of the nearer caches: the
// backward pass comes to them much later. Measured: a third less time for a tape of 50 MB, a tenth for one of 4 MB.
template <class T> bool streams_tape(const ForwardCall<T>& call) {
    constexpr int64_t kLarge = 2 << 20;  // bytes
    const int64_t gate = call.H * int64_t(sizeof(T));
    return kStreamsStores && call.gates && call.B * call.time_block.steps * 4 * gate >= kLarge && gate % kVectorBytes == 0 &&
           reinterpret_cast<uintptr_t>(call.gates) % kVectorBytes == 0 &&
           reinterpret_cast<uintptr_t>(call.z) % kVectorBytes == 0;
}

// Asks for the places in the tape that the tile will write: they are far away, and come while the tile sums.
template <class T>
void prefetch_tape(const ForwardCall<T>& call, const TileRows<T>& rows, int64_t count, int64_t unit) {
    for (int64_t r = 0; r < count; ++r) {
        for (int64_t gate = 0; !rows.streams && gate < 4; ++gate)
            __builtin_prefetch(call.gates + (rows.at[r] * 4 + gate) * call.H + unit, 1, 3);
        __builtin_prefetch(rows.c_out[r] + unit, 1, 3);
        __builtin_prefetch(rows.h_out[r] + unit, 1, 3);
    }
}

// Finishes the step of `count` rows and the units unit..last-1, which are `blocks` blocks, from their raw gates z: (rows,
// blocks, 4, lanes). The chains are long and independent, so all cell states come first and all outputs after them: the
// processor runs them side by side.
template <class T, bool Standard>
void finish_tiles(const ForwardCall<T>& call, T* z, const TileRows<T>& rows, int64_t count, int64_t blocks, int64_t unit,
                  int64_t last) {
    const Activation a = Standard ? Activation::tanh : call.options.activation;
    const Activation s = Standard ? Activation::sigmoid : call.options.recurrent_activation;
    constexpr int L = kLanes<T>;
    T* raw = z;
    for (int64_t r = 0; r < count; ++r) {
        for (int64_t u = unit; u < last; u += L, raw += 4 * L) {
            const int64_t width = minimum(L, last - u);
            const Gates<T> before = {load<T>(raw), load<T>(raw + L), load<T>(raw + 2 * L), load<T>(raw + 3 * L)};
            const Gates<T> gates = activate_gates<T>(before, a, s);
            const V<T> c = cell_state<T>(gates, load_n<T>(rows.c[r] + u, width));
            store_n<T>(rows.c_out[r] + u, c, width);
            T* const kept[] = {call.gates, call.z};
            const Gates<T> values[] = {gates, before};
            for (int which = 0; which < 2; ++which) {
                if (!kept[which]) continue;
                T* out = kept[which] + rows.at[r] * 4 * call.H + u;
                for (const V<T>& gate : {values[which].i, values[which].f, values[which].g, values[which].o}) {
                    if (rows.streams)
                        stream_store<T>(out, gate);
                    else
                        store_n<T>(out, gate, width);
                    out += call.H;
                }
            }
            store<T>(raw, gates.o);
            store<T>(raw + L, c);
        }
    }
    for (int64_t n = 0; n < count * blocks; ++n) {
        const T* const kept = z + n * 4 * L;
        const int64_t u = unit + n % blocks * L;
        store_n<T>(rows.h_out[n / blocks] + u, hidden_state<T>(load<T>(kept), load<T>(kept + L), a), minimum(L, last - u));
    }
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
