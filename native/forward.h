// The forward pass over time for a range of rows. One tile emits the four gates of the same units; activations and the
// state update follow while its sums are in the nearest cache. Rows that skip a step cost nothing but the carry.
#pragma once

#include "cell.h"
#include "scratch.h"
#include "steps.h"
#include "tile.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// packed: (blocks of lanes units, 1 + I + H, 4, lanes): bias, inputs, recurrent; units beyond H are zero.
template <class T> size_t pack_forward_size(int64_t I, int64_t H) {
    return size_t((H + kLanes<T> - 1) / kLanes<T> * (1 + I + H) * 4 * kLanes<T>);
}

template <class T> void pack_forward(const Call<T>& call, T* packed) {
    constexpr int L = kLanes<T>;
    const int64_t I = call.I, H = call.H;
    for (int64_t unit = 0; unit < H; unit += L) {
        const int64_t width = minimum(L, H - unit);
        for (int64_t k = 0; k < 1 + I + H; ++k) {
            const T* row = k == 0   ? call.bias
                           : k <= I ? call.kernel + (k - 1) * 4 * H
                                    : call.recurrent_kernel + (k - 1 - I) * 4 * H;
            for (int gate = 0; gate < 4; ++gate, packed += L)
                store<T>(packed, row ? load_n<T>(row + gate * H + unit, width) : V<T>{});
        }
    }
}

template <class T> struct ForwardScratch {
    const T **h, **c;         // [rows] where the state of each row stands
    int64_t* active;          // [rows] the rows that run this step
    const T** start;          // [rows] where the sums of its raw gates start, if summed ahead
    const T **x_in, **h_in;   // [rows * chunk], [rows] what the gates of an active row read
    T **h_out, **c_out;       // [rows] where its next state goes
    T *h_pair, *c_own;        // [rows][2][H], [rows][H]: the states when no sequence is kept
    T *x_masked, *h_masked;   // [rows * chunk][gates][I], [rows][gates][H]
    T* zeros;                 // [H]
    int64_t chunk;            // steps whose input part is summed ahead; 1: each with its step
    T** ahead;                // [rows * chunk] where those sums stand, each (blocks, 4, lanes)
    T* sums;                  // the same, in the order of row and step

    ForwardScratch(const ForwardCall<T>& call, int64_t rows, Scratch& scratch) {
        chunk = chunk_of(call, rows);
        h = scratch.take<const T*>(rows), c = scratch.take<const T*>(rows);
        active = scratch.take<int64_t>(rows);
        start = scratch.take<const T*>(rows);
        x_in = scratch.take<const T*>(rows * chunk), h_in = scratch.take<const T*>(rows);
        h_out = scratch.take<T*>(rows), c_out = scratch.take<T*>(rows);
        h_pair = call.h ? nullptr : scratch.take<T>(rows * 2 * call.H);
        c_own = call.c ? nullptr : scratch.take<T>(rows * call.H);
        x_masked = scratch.take<T>(rows * chunk * call.input_gates * call.I);
        h_masked = scratch.take<T>(rows * call.recurrent_gates * call.H);
        zeros = scratch.take<T>(call.H);
        ahead = scratch.take<T*>(rows * chunk);
        sums = chunk > 1 ? scratch.take<T>(rows * chunk * sums_size(call)) : nullptr;
    }

    static int64_t sums_size(const ForwardCall<T>& call) {
        return (call.H + kLanes<T> - 1) / kLanes<T> * 4 * kLanes<T>;
    }

    // A tile of few rows waits for its own sums. Where one step has too few rows for a tile, the input part of several
    // steps is summed together: it needs no state, and reads the kernel once for all of them. The bits are the same.
    static int64_t chunk_of(const ForwardCall<T>& call, int64_t rows) {
        return rows * 2 > kTileRows || rows == 0 ? 1 : minimum(call.time, 4 * kTileRows / rows);
    }
};

template <class T> size_t forward_scratch(const ForwardCall<T>& call, int64_t rows) {
    Scratch counter{nullptr};
    ForwardScratch<T>(call, rows, counter);
    return counter.used;
}

// Multiplies a row of width `n` by the masks of its gates; (gates, n) results stand in `out`.
template <class T>
void apply_masks(const T* row, const T* mask, int64_t gates, int64_t gate_stride, int64_t n, T* out) {
    for (int64_t g = 0; g < gates; ++g)
        for (int64_t k = 0; k < n; ++k) out[g * n + k] = row[k] * mask[g * gate_stride + k];
}

// Raw gates of R rows and the units of one block, into z[r]: (4, lanes). The sums start from start[r], or from the bias
// where `start` is null; then come I inputs and H recurrent terms, whose weights are at `kernel` and `recurrent`.
template <class T> struct GatesTile {
    const T* const* start;
    const T* const* x;
    int64_t x_gate, I;
    const T* kernel;
    const T* const* h;
    int64_t h_gate, H;
    const T* recurrent;
    const T* bias;
    T* const* z;
    const T* next;  // (I + H, lanes) to fetch meanwhile: a part of the next block's weights
};

template <class T, int R, bool EachGate> void gates_tile(const GatesTile<T>& tile) {
    V<T> sum[R][4];
    GLASSCELL_UNROLL
    for (int r = 0; r < R; ++r) {
        const T* const from = tile.start ? tile.start[r] : tile.bias;
        GLASSCELL_UNROLL
        for (int n = 0; n < 4; ++n) sum[r][n] = load<T>(from + n * kLanes<T>);
    }
    if (EachGate) {
        accumulate_each<T, R>(sum, tile.x, tile.x_gate, tile.kernel, tile.I);
        accumulate_each<T, R>(sum, tile.h, tile.h_gate, tile.recurrent, tile.H);
    } else {
        accumulate<T, R, 4>(sum, tile.x, tile.kernel, tile.I, tile.next);
        accumulate<T, R, 4>(sum, tile.h, tile.recurrent, tile.H, tile.next + tile.I * kLanes<T>);
    }
    GLASSCELL_UNROLL
    for (int r = 0; r < R; ++r) {
        GLASSCELL_UNROLL
        for (int n = 0; n < 4; ++n) store<T>(tile.z[r] + n * kLanes<T>, sum[r][n]);
    }
}

template <class T, bool EachGate> void gates_tile_of(int64_t rows, const GatesTile<T>& tile) {
    static_assert(kTileRows <= 6, "one case for each row count");
    switch (rows) {
        case 1: return gates_tile<T, 1, EachGate>(tile);
        case 2: return gates_tile<T, at_most_tile(2), EachGate>(tile);
        case 3: return gates_tile<T, at_most_tile(3), EachGate>(tile);
        case 4: return gates_tile<T, at_most_tile(4), EachGate>(tile);
        case 5: return gates_tile<T, at_most_tile(5), EachGate>(tile);
        default: return gates_tile<T, at_most_tile(6), EachGate>(tile);
    }
}

// The step of one row's block of units, from its raw gates z: (4, lanes). `at` is the row's place in the tape.
template <class T, bool Standard>
GLASSCELL_INLINE void finish_row(const ForwardCall<T>& call, const T* z, const T* c, T* h_out, T* c_out, int64_t at,
                                 int64_t unit, int64_t width) {
    const Activation a = Standard ? Activation::tanh : call.options.activation;
    const Activation s = Standard ? Activation::sigmoid : call.options.recurrent_activation;
    const Gates<T> raw = {load<T>(z), load<T>(z + kLanes<T>), load<T>(z + 2 * kLanes<T>), load<T>(z + 3 * kLanes<T>)};
    const Step<T> next = step<T>(raw, load_n<T>(c + unit, width), a, s);
    store_n<T>(h_out + unit, next.h, width);
    store_n<T>(c_out + unit, next.c, width);
    T* const kept[] = {call.gates, call.z};
    const Gates<T> values[] = {next.gates, raw};
    for (int which = 0; which < 2; ++which) {
        if (!kept[which]) continue;
        T* const out = kept[which] + at * 4 * call.H + unit;
        store_n<T>(out, values[which].i, width);
        store_n<T>(out + call.H, values[which].f, width);
        store_n<T>(out + 2 * call.H, values[which].g, width);
        store_n<T>(out + 3 * call.H, values[which].o, width);
    }
}

// One step of the `count` active rows, all units. `ahead`: their input parts are summed already.
template <class T, bool EachGate, bool Standard>
void run_step(const ForwardCall<T>& call, const ForwardScratch<T>& rows, int64_t begin, int64_t count, int64_t s,
              bool ahead) {
    constexpr int L = kLanes<T>;
    alignas(64) T z[kTileRows * 4 * L];
    T* places[kTileRows];
    const T* start[kTileRows];
    for (int r = 0; r < kTileRows; ++r) places[r] = z + r * 4 * L;
    const int64_t tiles = tile_count(count), I = call.I, H = call.H;
    const int64_t x_gate = call.input_gates == 4 ? I : 0, h_gate = call.recurrent_gates == 4 ? H : 0;
    const T* packed = call.packed;
    for (int64_t unit = 0; unit < H; unit += L, packed += (1 + I + H) * 4 * L) {
        const int64_t width = minimum(L, H - unit);
        const T* const next = unit + L < H ? packed + (1 + I + H) * 4 * L : call.packed;
        for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t first = tile_start(count, tiles, tile), n = tile_start(count, tiles, tile + 1) - first;
            for (int64_t r = 0; ahead && r < n; ++r) start[r] = rows.start[first + r] + unit * 4;
            gates_tile_of<T, EachGate>(
                n, {ahead ? start : nullptr, rows.x_in + first, x_gate, ahead ? 0 : I, packed + 4 * L,
                    rows.h_in + first, h_gate, H, packed + (1 + I) * 4 * L, packed, places,
                    next + minimum(tile, 3) * (I + H) * L});
            for (int64_t r = 0; r < n; ++r) {
                const int64_t row = rows.active[first + r];
                finish_row<T, Standard>(call, z + r * 4 * L, rows.c[row], rows.h_out[row], rows.c_out[row],
                                        (begin + row) * call.time + s, unit, width);
            }
        }
    }
}

// What the gates read of x at one step: the row itself, or its masked copies at `slot`.
template <class T>
const T* input_of(const ForwardCall<T>& call, const ForwardScratch<T>& state, int64_t b, int64_t t, int64_t slot) {
    const T* const x = call.x + (b * call.time + t) * call.I;
    if (!call.input_gates) return x;
    T* const masked = state.x_masked + slot * call.input_gates * call.I;
    apply_masks(x, call.input_mask + b * call.I, call.input_gates, call.B * call.I, call.I, masked);
    return masked;
}

// Sums bias and inputs of the kept steps first..first + chunk - 1 of all rows, a tile of steps at a time.
template <class T>
void sum_ahead(const ForwardCall<T>& call, const ForwardScratch<T>& state, int64_t begin, int64_t rows, int64_t first) {
    constexpr int L = kLanes<T>;
    const int64_t steps = minimum(state.chunk, call.time - first), size = ForwardScratch<T>::sums_size(call);
    int64_t count = 0;
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t step = 0; step < steps; ++step) {
            const int64_t b = begin + row, t = time_of(call.options, call.time, first + step);
            if (!(bits_of(call, b, t) & kKeep)) continue;
            state.x_in[count] = input_of(call, state, b, t, count);
            state.ahead[count++] = state.sums + (row * state.chunk + step) * size;
        }
    }
    const int64_t tiles = tile_count(count), x_gate = call.input_gates == 4 ? call.I : 0;
    const auto run = x_gate ? gates_tile_of<T, true> : gates_tile_of<T, false>;
    const T* packed = call.packed;
    for (int64_t unit = 0; unit < call.H; unit += L, packed += (1 + call.I + call.H) * 4 * L) {
        for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t at = tile_start(count, tiles, tile), n = tile_start(count, tiles, tile + 1) - at;
            T* places[kTileRows];
            for (int64_t r = 0; r < n; ++r) places[r] = state.ahead[at + r] + unit * 4;
            run(n, {nullptr, state.x_in + at, x_gate, call.I, packed + 4 * L, state.x_in + at, 0, 0, packed, packed, places,
                    packed});
        }
    }
}

template <class T> void forward(const ForwardCall<T>& call, int64_t begin, int64_t end, void* memory) {
    const int64_t H = call.H, time = call.time, rows = end - begin;
    Scratch scratch{static_cast<char*>(memory)};
    const ForwardScratch<T> state(call, rows, scratch);
    memset(state.zeros, 0, size_t(H) * sizeof(T));
    for (int64_t row = 0; row < rows; ++row) {
        state.h[row] = call.h0 + (begin + row) * H;
        state.c[row] = call.c0 + (begin + row) * H;
    }
    const bool each = call.input_gates == 4 || call.recurrent_gates == 4;
    const bool standard = call.options.activation == Activation::tanh &&
                          call.options.recurrent_activation == Activation::sigmoid;
    const auto run = each ? (standard ? run_step<T, true, true> : run_step<T, true, false>)
                          : (standard ? run_step<T, false, true> : run_step<T, false, false>);
    const bool ahead = state.chunk > 1;
    for (int64_t s = 0; s < time; ++s) {
        const int64_t t = time_of(call.options, time, s);
        if (ahead && s % state.chunk == 0) sum_ahead(call, state, begin, rows, s);
        int64_t count = 0;
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t b = begin + row, at = (b * time + s) * H;
            const uint8_t bits = bits_of(call, b, t);
            if (bits & kReset) state.h[row] = state.c[row] = state.zeros;
            if (!(bits & kKeep)) {  // the state carries over
                if (call.h) state.h[row] = static_cast<T*>(memcpy(call.h + at, state.h[row], size_t(H) * sizeof(T)));
                if (call.c) state.c[row] = static_cast<T*>(memcpy(call.c + at, state.c[row], size_t(H) * sizeof(T)));
                continue;
            }
            const T* h = state.h[row];
            if (call.recurrent_gates) {
                T* const masked = state.h_masked + row * call.recurrent_gates * H;
                apply_masks(h, call.recurrent_mask + b * H, call.recurrent_gates, call.B * H, H, masked);
                h = masked;
            }
            if (call.h) {
                state.h_out[row] = call.h + at;
            } else {  // all units read the old h, so the new one goes to the other place
                T* const pair = state.h_pair + row * 2 * H;
                state.h_out[row] = state.h[row] == pair ? pair + H : pair;
            }
            state.c_out[row] = call.c ? call.c + at : state.c_own + row * H;
            if (ahead)
                state.start[count] = state.sums + (row * state.chunk + s % state.chunk) * state.sums_size(call);
            else
                state.x_in[count] = input_of(call, state, b, t, row);
            state.h_in[count] = h, state.active[count] = row;
            ++count;
        }
        run(call, state, begin, count, s, ahead);
        for (int64_t n = 0; n < count; ++n) {
            const int64_t row = state.active[n];
            state.h[row] = state.h_out[row], state.c[row] = state.c_out[row];
        }
    }
    for (int64_t row = 0; row < rows; ++row) {
        memcpy(call.hT + (begin + row) * H, state.h[row], size_t(H) * sizeof(T));
        memcpy(call.cT + (begin + row) * H, state.c[row], size_t(H) * sizeof(T));
    }
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
