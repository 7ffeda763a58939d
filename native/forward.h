// The forward pass over time for a range of rows. One tile emits the four gates of the same units; activations and the
// state update follow while its sums are in the nearest cache. Rows that skip a step cost nothing but the carry.
#pragma once

#include "cell.h"
#include "scratch.h"
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
                for (int64_t l = 0; l < L; ++l) packed[l] = row && l < width ? row[gate * H + unit + l] : T(0);
        }
    }
}

template <class T> struct ForwardScratch {
    const T **h, **c;         // [rows] where the state of each row stands
    int64_t* active;          // [rows] the rows that run this step
    const T **x_in, **h_in;   // [rows] what the gates of an active row read
    T **h_out, **c_out;       // [rows] where its next state goes
    T *h_pair, *c_own;        // [rows][2][H], [rows][H]: the states when no sequence is kept
    T *x_masked, *h_masked;   // [rows][gates][I], [rows][gates][H]
    T* zeros;                 // [H]

    ForwardScratch(const ForwardCall<T>& call, int64_t rows, Scratch& scratch) {
        h = scratch.take<const T*>(rows), c = scratch.take<const T*>(rows);
        active = scratch.take<int64_t>(rows);
        x_in = scratch.take<const T*>(rows), h_in = scratch.take<const T*>(rows);
        h_out = scratch.take<T*>(rows), c_out = scratch.take<T*>(rows);
        h_pair = call.h ? nullptr : scratch.take<T>(rows * 2 * call.H);
        c_own = call.c ? nullptr : scratch.take<T>(rows * call.H);
        x_masked = scratch.take<T>(rows * call.input_gates * call.I);
        h_masked = scratch.take<T>(rows * call.recurrent_gates * call.H);
        zeros = scratch.take<T>(call.H);
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

// Raw gates of R rows and the units of one block, into z: (R, 4, lanes).
template <class T, int R, bool EachGate>
void gates_tile(const T* const* x, int64_t x_gate, int64_t I, const T* const* h, int64_t h_gate, int64_t H,
                const T* packed, T* z) {
    V<T> sum[R][4];
    GLASSCELL_UNROLL
    for (int r = 0; r < R; ++r) {
        GLASSCELL_UNROLL
        for (int n = 0; n < 4; ++n) sum[r][n] = load<T>(packed + n * kLanes<T>);
    }
    packed += 4 * kLanes<T>;
    if (EachGate) {
        accumulate_each<T, R>(sum, x, x_gate, packed, I);
        accumulate_each<T, R>(sum, h, h_gate, packed + I * 4 * kLanes<T>, H);
    } else {
        accumulate<T, R, 4>(sum, x, packed, I);
        accumulate<T, R, 4>(sum, h, packed + I * 4 * kLanes<T>, H);
    }
    GLASSCELL_UNROLL
    for (int r = 0; r < R; ++r) {
        GLASSCELL_UNROLL
        for (int n = 0; n < 4; ++n) store<T>(z + (r * 4 + n) * kLanes<T>, sum[r][n]);
    }
}

template <class T, bool EachGate>
void gates_tile_of(int64_t rows, const T* const* x, int64_t x_gate, int64_t I, const T* const* h, int64_t h_gate,
                   int64_t H, const T* packed, T* z) {
    static_assert(kTileRows <= 6, "one case for each row count");
    switch (rows) {
        case 1: return gates_tile<T, 1, EachGate>(x, x_gate, I, h, h_gate, H, packed, z);
        case 2: return gates_tile<T, at_most_tile(2), EachGate>(x, x_gate, I, h, h_gate, H, packed, z);
        case 3: return gates_tile<T, at_most_tile(3), EachGate>(x, x_gate, I, h, h_gate, H, packed, z);
        case 4: return gates_tile<T, at_most_tile(4), EachGate>(x, x_gate, I, h, h_gate, H, packed, z);
        case 5: return gates_tile<T, at_most_tile(5), EachGate>(x, x_gate, I, h, h_gate, H, packed, z);
        default: return gates_tile<T, at_most_tile(6), EachGate>(x, x_gate, I, h, h_gate, H, packed, z);
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

// One step of the `count` active rows, all units.
template <class T, bool EachGate, bool Standard>
void run_step(const ForwardCall<T>& call, const ForwardScratch<T>& rows, int64_t begin, int64_t count, int64_t s) {
    constexpr int L = kLanes<T>;
    alignas(64) T z[kTileRows * 4 * L];
    const int64_t tiles = tile_count(count), I = call.I, H = call.H;
    const int64_t x_gate = call.input_gates == 4 ? I : 0, h_gate = call.recurrent_gates == 4 ? H : 0;
    const T* packed = call.packed;
    for (int64_t unit = 0; unit < H; unit += L, packed += (1 + I + H) * 4 * L) {
        const int64_t width = minimum(L, H - unit);
        for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t first = tile_start(count, tiles, tile), n = tile_start(count, tiles, tile + 1) - first;
            gates_tile_of<T, EachGate>(n, rows.x_in + first, x_gate, I, rows.h_in + first, h_gate, H, packed, z);
            for (int64_t r = 0; r < n; ++r) {
                const int64_t row = rows.active[first + r];
                finish_row<T, Standard>(call, z + r * 4 * L, rows.c[row], rows.h_out[row], rows.c_out[row],
                                        (begin + row) * call.time + s, unit, width);
            }
        }
    }
}

template <class T> void forward(const ForwardCall<T>& call, int64_t begin, int64_t end, void* memory) {
    const int64_t I = call.I, H = call.H, time = call.time, rows = end - begin;
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
    for (int64_t s = 0; s < time; ++s) {
        const int64_t t = call.options.go_backwards ? time - 1 - s : s;
        int64_t count = 0;
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t b = begin + row, at = (b * time + s) * H;
            const uint8_t bits = call.steps ? call.steps[b * time + t] : uint8_t(kKeep);
            if (bits & kReset) state.h[row] = state.c[row] = state.zeros;
            if (!(bits & kKeep)) {  // the state carries over
                if (call.h) state.h[row] = static_cast<T*>(memcpy(call.h + at, state.h[row], size_t(H) * sizeof(T)));
                if (call.c) state.c[row] = static_cast<T*>(memcpy(call.c + at, state.c[row], size_t(H) * sizeof(T)));
                continue;
            }
            const T* x = call.x + (b * time + t) * I;
            if (call.input_gates) {
                T* const masked = state.x_masked + row * call.input_gates * I;
                apply_masks(x, call.input_mask + b * I, call.input_gates, call.B * I, I, masked);
                x = masked;
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
            state.x_in[count] = x, state.h_in[count] = h, state.active[count] = row;
            ++count;
        }
        run(call, state, begin, count, s);
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
