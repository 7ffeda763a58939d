// The backward pass over time for a range of rows: the gradients of the raw gates, of x, and of the states. The weight
// gradients are products over all steps and come after it (weights.h).
#pragma once

#include "cell.h"
#include "scratch.h"
#include "steps.h"
#include "tile.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// A matrix (outputs, 4H) for products dz M^T: panels of up to 4 vectors of outputs, each (4H, vectors, lanes); outputs
// beyond the matrix are zero. All panels but the last are full.
template <class T> size_t pack_backward_size(int64_t outputs, int64_t H) {
    return size_t((outputs + kLanes<T> - 1) / kLanes<T> * kLanes<T> * 4 * H);
}

template <class T> void pack_backward(const T* matrix, int64_t outputs, int64_t H, T* packed) {
    constexpr int64_t L = kLanes<T>, kBlock = 16;
    for (int64_t k = 0; k < outputs; k += kTileVectors * L) {
        const int64_t width = (minimum(kTileVectors * L, outputs - k) + L - 1) / L * L;
        for (int64_t column = 0; column < 4 * H; column += kBlock)  // blocks keep both sides of the transpose near
            for (int64_t l = 0; l < width; ++l)
                for (int64_t j = column; j < minimum(column + kBlock, 4 * H); ++j)
                    packed[j * width + l] = k + l < outputs ? matrix[(k + l) * 4 * H + j] : T(0);
        packed += width * 4 * H;
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
        for (int r = 0; r < R; ++r) rows[r] = dz[r] + gate * H;
        V<T> sum[R][N] = {};
        accumulate<T, R, N>(sum, rows, packed, H, packed + H * N * kLanes<T>);
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

template <class T, int N>
void project_tile_of(int64_t rows, const T* const* dz, int64_t H, const T* packed, const T* const* mask,
                     int64_t mask_gate, T* const* out, int64_t k, int64_t width) {
    switch (rows) {
        case 1: return project_tile<T, 1, N>(dz, H, packed, mask, mask_gate, out, k, width);
        case 2: return project_tile<T, at_most_tile(2), N>(dz, H, packed, mask, mask_gate, out, k, width);
        case 3: return project_tile<T, at_most_tile(3), N>(dz, H, packed, mask, mask_gate, out, k, width);
        case 4: return project_tile<T, at_most_tile(4), N>(dz, H, packed, mask, mask_gate, out, k, width);
        case 5: return project_tile<T, at_most_tile(5), N>(dz, H, packed, mask, mask_gate, out, k, width);
        default: return project_tile<T, at_most_tile(6), N>(dz, H, packed, mask, mask_gate, out, k, width);
    }
}

// The products of `count` rows with a whole packed matrix of `outputs` rows.
template <class T>
void project(const T* const* dz, int64_t count, int64_t H, const T* packed, int64_t outputs, const T* const* mask,
             int64_t mask_gate, T* const* out) {
    constexpr int64_t L = kLanes<T>;
    const int64_t tiles = tile_count(count);
    for (int64_t k = 0; k < outputs; k += kTileVectors * L) {
        const int64_t width = minimum(kTileVectors * L, outputs - k), vectors = (width + L - 1) / L;
        for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t first = tile_start(count, tiles, tile), n = tile_start(count, tiles, tile + 1) - first;
            const T* const* const masks = mask ? mask + first : nullptr;
            switch (vectors) {
                case 1: project_tile_of<T, 1>(n, dz + first, H, packed, masks, mask_gate, out + first, k, width); break;
                case 2: project_tile_of<T, 2>(n, dz + first, H, packed, masks, mask_gate, out + first, k, width); break;
                case 3: project_tile_of<T, 3>(n, dz + first, H, packed, masks, mask_gate, out + first, k, width); break;
                default: project_tile_of<T, 4>(n, dz + first, H, packed, masks, mask_gate, out + first, k, width);
            }
        }
        packed += vectors * L * 4 * H;
    }
}

template <class T> struct BackwardScratch {
    T *dh, *dc;            // [rows][H] gradients of the state after the step, then before it
    int64_t* active;       // [rows]
    const T** dz;          // [rows] of the active rows
    const T **x_mask, **h_mask;
    T **dx, **dh_out;      // [rows] where an active row's products go
    T* zeros;              // [H]

    BackwardScratch(const BackwardCall<T>& call, int64_t rows, Scratch& scratch) {
        dh = scratch.take<T>(rows * call.H), dc = scratch.take<T>(rows * call.H);
        active = scratch.take<int64_t>(rows);
        dz = scratch.take<const T*>(rows);
        x_mask = scratch.take<const T*>(rows), h_mask = scratch.take<const T*>(rows);
        dx = scratch.take<T*>(rows), dh_out = scratch.take<T*>(rows);
        zeros = scratch.take<T>(call.H);
    }
};

template <class T> size_t backward_scratch(const BackwardCall<T>& call, int64_t rows) {
    Scratch counter{nullptr};
    BackwardScratch<T>(call, rows, counter);
    return counter.used;
}

// The gradients of one row's raw gates at one step; dc becomes the gradient of the cell state before the step.
template <class T, bool Standard>
void row_gradient(const BackwardCall<T>& call, int64_t at, const T* c, const T* dh, T* dc) {
    const Activation a = Standard ? Activation::tanh : call.options.activation;
    const Activation s = Standard ? Activation::sigmoid : call.options.recurrent_activation;
    const int64_t H = call.H, start = at * 4 * H;
    for (int64_t unit = 0; unit < H; unit += kLanes<T>) {
        const int64_t n = minimum(kLanes<T>, H - unit), i = start + unit, f = i + H, g = f + H, o = g + H;
        const Gates<T> gates = {load_n<T>(call.gates + i, n), load_n<T>(call.gates + f, n),
                                load_n<T>(call.gates + g, n), load_n<T>(call.gates + o, n)};
        Gates<T> z = gates;
        if (!Standard && call.z)
            z = {load_n<T>(call.z + i, n), load_n<T>(call.z + f, n), load_n<T>(call.z + g, n),
                 load_n<T>(call.z + o, n)};
        const StepGradient<T> d =
            step_gradient<T>(z, gates, load_n<T>(c + unit, n), load_n<T>(call.c + at * H + unit, n),
                             load_n<T>(dh + unit, n), load_n<T>(dc + unit, n), a, s);
        store_n<T>(call.dz + i, d.dz.i, n);
        store_n<T>(call.dz + f, d.dz.f, n);
        store_n<T>(call.dz + g, d.dz.g, n);
        store_n<T>(call.dz + o, d.dz.o, n);
        store_n<T>(dc + unit, d.dc, n);
    }
}

template <class T> void backward(const BackwardCall<T>& call, int64_t begin, int64_t end, void* memory) {
    const int64_t I = call.I, H = call.H, time = call.time, rows = end - begin;
    Scratch scratch{static_cast<char*>(memory)};
    const BackwardScratch<T> state(call, rows, scratch);
    memset(state.zeros, 0, size_t(H) * sizeof(T));
    memcpy(state.dh, call.dhT + begin * H, size_t(rows * H) * sizeof(T));
    memcpy(state.dc, call.dcT + begin * H, size_t(rows * H) * sizeof(T));
    const bool standard = call.options.activation == Activation::tanh &&
                          call.options.recurrent_activation == Activation::sigmoid;
    const auto gradient = standard ? row_gradient<T, true> : row_gradient<T, false>;
    for (int64_t s = time - 1; s >= 0; --s) {
        const int64_t t = time_of(call.options, time, s);
        int64_t count = 0;
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t b = begin + row, at = b * time + s;
            const uint8_t bits = bits_of(call, b, t);
            T* const dh = state.dh + row * H;
            T* const dc = state.dc + row * H;
            T* const dx = call.dx + (b * time + t) * I;
            if (call.dh_all)
                for (int64_t u = 0; u < H; ++u) dh[u] += call.dh_all[at * H + u];
            if (!(bits & kKeep)) {
                memset(dx, 0, size_t(I) * sizeof(T));
                continue;
            }
            const T* const c = bits & kReset ? state.zeros : s ? call.c + (at - 1) * H : call.c0 + b * H;
            gradient(call, at, c, dh, dc);
            state.active[count] = row, state.dz[count] = call.dz + at * 4 * H;
            state.dx[count] = dx, state.dh_out[count] = dh;
            if (call.input_gates) state.x_mask[count] = call.input_mask + b * I;
            if (call.recurrent_gates) state.h_mask[count] = call.recurrent_mask + b * H;
            ++count;
        }
        project<T>(state.dz, count, H, call.packed_recurrent, H, call.recurrent_gates ? state.h_mask : nullptr,
                   call.recurrent_gates == 4 ? call.B * H : 0, state.dh_out);
        project<T>(state.dz, count, H, call.packed_kernel, I, call.input_gates ? state.x_mask : nullptr,
                   call.input_gates == 4 ? call.B * I : 0, state.dx);
        for (int64_t row = 0; call.steps && row < rows; ++row) {
            if (!(call.steps[(begin + row) * time + t] & kReset)) continue;
            memset(state.dh + row * H, 0, size_t(H) * sizeof(T));
            memset(state.dc + row * H, 0, size_t(H) * sizeof(T));
        }
    }
    memcpy(call.dh0 + begin * H, state.dh, size_t(rows * H) * sizeof(T));
    memcpy(call.dc0 + begin * H, state.dc, size_t(rows * H) * sizeof(T));
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
