// The backward pass over a span of time for some rows, and some or all of their units: the gradients of the raw gates and
// of the state. What does not feed back, the gradients of x and of the weights, comes after it as large products
// (weights.h).
#pragma once

#include <initializer_list>

#include "kernel/lstm.h"
#include "kernel/arena.h"
#include "kernel/masks.h"
#include "kernel/barrier.h"
#include "simd/transpose.h"
#include "kernel/cancel_poll.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// A matrix (outputs, 4H) for products dz M^T: panels of up to `vectors` vectors of outputs, each (4H, vectors, lanes);
// outputs beyond the matrix are zero. All panels but the last are full.
template <class T> size_t pack_backward_size(int64_t outputs, int64_t H) {
    return size_t((outputs + kLanes<T> - 1) / kLanes<T> * kLanes<T> * 4 * H);
}

// Panel `panel`. transposed_weights: the matrix stands as (4H, outputs).
template <class T>
void pack_backward(const T* matrix, bool transposed_weights, int64_t outputs, int64_t H, int64_t vectors, int64_t panel, T* packed) {
    constexpr int64_t L = kLanes<T>;
    const int64_t first = panel * vectors * L, n = minimum(vectors, (outputs - first + L - 1) / L);
    packed += first * 4 * H;
    for (int64_t k = first; k < first + n * L; k += L, packed += L) {
        const int64_t rows = minimum(L, outputs - k);
        if (transposed_weights) {
            for (int64_t column = 0; column < 4 * H; ++column)
                store<T>(packed + column * n * L, load_n<T>(matrix + column * outputs + k, rows));
        } else {
            for (int64_t column = 0; column < 4 * H; column += L)
                transpose_to_vectors<T>(matrix + k * 4 * H + column, 4 * H, rows, minimum(L, 4 * H - column),
                                   packed + column * n * L, n * L);
        }
    }
}

// out[r][n] = sum over gates of mask * (dz[r][gate] . panel), for R rows and N vectors of outputs.
// dz: R rows of (4, H); mask: R rows, or null; masks of successive gates are `mask_gate` elements apart.
template <class T, int R, int N>
void project_tile(const T* const* dz, int64_t H, const T* packed, const T* const* mask, int64_t mask_gate,
                  T* const* out, int64_t k, int64_t width) {
    V<T> total[R][N] = {};
    for (int gate = 0; gate < 4; ++gate, packed += H * N * kLanes<T>) {
        const T* rows[R];
        GLASSCELL_UNROLL
        for (int r = 0; r < R; ++r) rows[r] = dz[r] + gate * H;
        V<T> sum[R][N] = {};
        accumulate<T, R, N>(sum, rows, packed, H, packed + H * N * kLanes<T>);
        GLASSCELL_UNROLL
        for (int r = 0; r < R; ++r) {
            GLASSCELL_UNROLL
            for (int n = 0; n < N; ++n) {
                V<T> part = sum[r][n];
                if (mask) {
                    const int64_t left = width - n * kLanes<T>;
                    part = part * load_n<T>(mask[r] + gate * mask_gate + k + n * kLanes<T>, left);
                }
                total[r][n] = total[r][n] + part;
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n)
            store_n<T>(out[r] + k + n * kLanes<T>, total[r][n], width - n * kLanes<T>);
}

// The same for one row: the gates' sums side by side, for each alone would wait for itself.
template <class T, int N>
void project_row(const T* dz, int64_t H, const T* packed, const T* mask, int64_t mask_gate, T* out, int64_t k,
                 int64_t width) {
    V<T> sum[4][N] = {};
    for (int64_t u = 0; u < H; ++u) {
        GLASSCELL_UNROLL
        for (int gate = 0; gate < 4; ++gate) {
            const V<T> value = broadcast<T>(dz[gate * H + u]);
            GLASSCELL_UNROLL
            for (int n = 0; n < N; ++n)
                sum[gate][n] = fma(value, load<T>(packed + ((gate * H + u) * N + n) * kLanes<T>), sum[gate][n]);
        }
    }
    for (int n = 0; n < N; ++n) {
        const int64_t left = width - n * kLanes<T>;
        V<T> total = {};
        for (int gate = 0; gate < 4; ++gate) {
            V<T> part = sum[gate][n];
            if (mask) part = part * load_n<T>(mask + gate * mask_gate + k + n * kLanes<T>, left);
            total = total + part;
        }
        store_n<T>(out + k + n * kLanes<T>, total, left);
    }
}

template <class T, int N>
void project_tile_of(int64_t rows, const T* const* dz, int64_t H, const T* packed, const T* const* mask,
                     int64_t mask_gate, T* const* out, int64_t k, int64_t width) {
    if (rows == 1) return project_row<T, N>(dz[0], H, packed, mask ? mask[0] : nullptr, mask_gate, out[0], k, width);
    with_rows(rows, [&](auto r) { project_tile<T, r.value, N>(dz, H, packed, mask, mask_gate, out, k, width); });
}

// The products of `count` rows with the outputs first..last-1 of a packed matrix; `first` starts a panel of `panel` vectors.
// Where it is told to stop, what it gives is undefined.
template <class T>
void project(const T* const* dz, int64_t count, int64_t H, const T* packed, int64_t panel, int64_t first, int64_t last,
             const T* const* mask, int64_t mask_gate, T* const* out, CancelPoll& poll) {
    constexpr int64_t L = kLanes<T>;
    const int64_t tiles = tile_count(count);
    packed += first * 4 * H;
    for (int64_t k = first; k < last; k += panel * L) {
        const int64_t width = minimum(panel * L, last - k), vectors = (width + L - 1) / L;
        for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t row = tile_start(count, tiles, tile), n = tile_start(count, tiles, tile + 1) - row;
            const T* const* const masks = mask ? mask + row : nullptr;
            if (poll.cancelled(n * vectors * L * 4 * H)) return;
            with_vectors(vectors, [&](auto v) {
                project_tile_of<T, v.value>(n, dz + row, H, packed, masks, mask_gate, out + row, k, width);
            });
        }
        packed += vectors * L * 4 * H;
    }
}

template <class T> struct BackwardWorkspace {
    const T** dz;      // [rows] of the active rows
    const T** mask;    // [rows] their recurrent masks
    T** dh_out;        // [rows] where their products go
    T* zeros;          // [H]

    BackwardWorkspace(const BackwardCall<T>& call, int64_t rows, Arena& scratch) {
        dz = scratch.allocate<const T*>(rows);
        mask = scratch.allocate<const T*>(rows);
        dh_out = scratch.allocate<T*>(rows);
        zeros = scratch.allocate<T>(call.H);
    }
};

template <class T> size_t backward_scratch(const BackwardCall<T>& call, int64_t rows) {
    Arena counter{nullptr};
    BackwardWorkspace<T>(call, rows, counter);
    return counter.used;
}

// The gradients of one row's raw gates at one step, for the part's units; dc becomes the gradient of the cell state
// before the step. `at`: the place of the step in the tape.
template <class T, bool Standard>
void row_gradient(const BackwardCall<T>& call, const WorkItem& item, int64_t at, const T* c, const T* dh, T* dc, T* dz) {
    const Activation a = Standard ? Activation::tanh : call.options.activation;
    const Activation s = Standard ? Activation::sigmoid : call.options.recurrent_activation;
    const int64_t H = call.H, start = at * 4 * H;
    for (int64_t unit = item.first; unit < item.last; unit += kLanes<T>) {
        const int64_t n = minimum(kLanes<T>, item.last - unit), i = start + unit, f = i + H, g = f + H, o = g + H;
        const Gates<T> gates = {load_n<T>(call.gates + i, n), load_n<T>(call.gates + f, n),
                                load_n<T>(call.gates + g, n), load_n<T>(call.gates + o, n)};
        for (int64_t from : {i, f, g, o}) __builtin_prefetch(call.gates + from - 4 * H);  // of the step before
        Gates<T> z = gates;
        if (!Standard && call.z)
            z = {load_n<T>(call.z + i, n), load_n<T>(call.z + f, n), load_n<T>(call.z + g, n),
                 load_n<T>(call.z + o, n)};
        const StepGradient<T> d =
            step_gradient<T>(z, gates, load_n<T>(c + unit, n), load_n<T>(call.c + at * H + unit, n),
                             load_n<T>(dh + unit, n), load_n<T>(dc + unit, n), a, s);
        store_n<T>(dz + unit, d.dz.i, n);
        store_n<T>(dz + H + unit, d.dz.f, n);
        store_n<T>(dz + 2 * H + unit, d.dz.g, n);
        store_n<T>(dz + 3 * H + unit, d.dz.o, n);
        store_n<T>(dc + unit, d.dc, n);
    }
}

// What row_gradient does for each unit, in multiply-adds, about.
constexpr int64_t kGradientWork = 64;

template <class T> void backward(const BackwardCall<T>& call, const WorkItem& item, void* memory) {
    const int64_t H = call.H, time = call.time;
    const size_t bytes = size_t(item.last - item.first) * sizeof(T);
    Arena scratch{static_cast<char*>(memory)};
    const BackwardWorkspace<T> state(call, item.count, scratch);
    memset(state.zeros, 0, size_t(H) * sizeof(T));
    const bool standard = call.options.activation == Activation::tanh &&
                          call.options.recurrent_activation == Activation::sigmoid;
    const auto gradient = standard ? row_gradient<T, true> : row_gradient<T, false>;
    CancelPoll poll(call.cancellation);
    for (int64_t s = call.time_block.first + call.time_block.steps - 1; s >= call.time_block.first; --s) {
        const int64_t t = time_of(call, s);
        int64_t count = 0;
        for (int64_t row = 0; row < item.count; ++row) {
            if (poll.cancelled(kGradientWork * (item.last - item.first))) return;
            const int64_t b = item.rows[row], at = offset_in(call.tape, b, s);
            const uint8_t bits = flags_of(call, b, t);
            T* const dh = call.dh + b * H;
            if (call.dh_all) {
                const T* const outer = call.dh_all + (b * time + s) * H;
                for (int64_t u = item.first; u < item.last; ++u) dh[u] += outer[u];
            }
            if (!(bits & kKeep)) continue;
            const T* const c = bits & kReset            ? state.zeros
                               : s > call.tape.first ? call.c + (at - 1) * H
                                                     : call.c_before + b * H;
            T* const dz = call.dz + offset_in(call.time_block, b, s) * 4 * H;
            gradient(call, item, at, c, dh, call.dc + b * H, dz);
            state.dz[count] = dz, state.dh_out[count] = dh;
            if (call.recurrent_gates) state.mask[count] = call.recurrent_dropout_mask + b * H;
            ++count;
        }
        barrier_wait(item, call.cancellation);
        if (item.group)
            for (int64_t n = 0; n < count; ++n) prefetch<T, false>(state.dz[n], 4 * H);
        project<T>(state.dz, count, H, call.packed_recurrent, call.panel_vectors, item.first, item.last,
                   call.recurrent_gates ? state.mask : nullptr, call.recurrent_gates == 4 ? call.B * H : 0, state.dh_out,
                   poll);
        for (int64_t row = 0; call.step_flags && row < item.count; ++row) {
            const int64_t b = item.rows[row];
            if (!(flags_of(call, b, t) & kReset)) continue;
            memset(call.dh + b * H + item.first, 0, bytes);
            memset(call.dc + b * H + item.first, 0, bytes);
        }
    }
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
