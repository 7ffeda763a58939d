// The weight gradients: dW = sum of x^T dz, dR = sum of h^T dz, db = sum of dz, over all kept steps in one order.
// Output tiles stay, steps stream: the kept steps come in chunks whose factors are packed next to each other. Each chunk
// is summed from zero and the chunks' sums are added in order: one long chain would lose digits in thousands of steps.
#pragma once

#include "scratch.h"
#include "tile.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// Steps; part of the order of the sums. A panel of dz (32 KB for AVX-512) fills most of the nearest cache.
constexpr int64_t kChunk = 128;

template <class T> struct WeightsScratch {
    T* left;   // (tiles of rows, chunk, kTileRows): x or h, masked
    T* panel;  // (chunk, 4 vectors): dz

    WeightsScratch(const BackwardCall<T>& call, Scratch& scratch) {
        const int64_t widest = call.I > call.H ? call.I : call.H;
        left = scratch.take<T>((widest + kTileRows - 1) / kTileRows * kTileRows * kChunk);
        panel = scratch.take<T>(kChunk * kTileVectors * kLanes<T>);
    }
};

template <class T> size_t weights_scratch(const BackwardCall<T>& call) {
    Scratch counter{nullptr};
    WeightsScratch<T>(call, counter);
    return counter.used;
}

// With a mask of its own for each gate a panel must not reach over two gates; else the 4H columns are one segment.
template <class T> struct Panels {
    int64_t segments, width, in_segment;

    explicit Panels(const BackwardCall<T>& call) {
        segments = call.input_gates == 4 || call.recurrent_gates == 4 ? 4 : 1;
        width = 4 * call.H / segments;
        in_segment = (width + kTileVectors * kLanes<T> - 1) / (kTileVectors * kLanes<T>);
    }
};

template <class T> int64_t panels(const BackwardCall<T>& call) {
    const Panels<T> all(call);
    return all.segments * all.in_segment;
}

// out[k][j] += the sum, from zero, over `count` steps of left[step][k] * panel[step][j], for `rows` of R rows k and N vectors of j.
template <class T, int R, int N>
void outer_tile(const T* left, const T* panel, int64_t count, T* out, int64_t stride, int64_t rows, int64_t width) {
    V<T> sum[R][N] = {};
    for (int64_t step = 0; step < count; ++step, left += R, panel += N * kLanes<T>) {
        V<T> column[N];
        GLASSCELL_UNROLL
        for (int n = 0; n < N; ++n) column[n] = load<T>(panel + n * kLanes<T>);
        GLASSCELL_UNROLL
        for (int r = 0; r < R; ++r) {
            const V<T> value = broadcast<T>(left[r]);
            GLASSCELL_UNROLL
            for (int n = 0; n < N; ++n) sum[r][n] = fma(value, column[n], sum[r][n]);
        }
    }
    for (int r = 0; r < R && r < rows; ++r) {
        for (int n = 0; n < N; ++n) {
            T* const to = out + r * stride + n * kLanes<T>;
            const int64_t left = width - n * kLanes<T>;
            store_n<T>(to, load_n<T>(to, left) + sum[r][n], left);
        }
    }
}

// One factor (x or h) of a chunk into `left`. `mask`: of the first row b, or null; rows of b are `n` apart.
template <class T>
void pack_left(const KeptStep<T>* kept, int64_t count, bool recurrent, const T* mask, int64_t n, T* left) {
    for (int64_t k = 0; k < n; k += kTileRows, left += count * kTileRows) {
        const int64_t rows = minimum(kTileRows, n - k);
        for (int64_t step = 0; step < count; ++step) {
            const T* const row = (recurrent ? kept[step].h : kept[step].x) + k;
            const T* const factor = mask ? mask + kept[step].b * n + k : nullptr;
            for (int64_t r = 0; r < kTileRows; ++r)
                left[step * kTileRows + r] = r >= rows ? T(0) : factor ? row[r] * factor[r] : row[r];
        }
    }
}

// Columns of dz of a chunk into `panel`, (count, vectors, lanes); columns beyond `width` are zero.
template <class T>
void pack_panel(const KeptStep<T>* kept, int64_t count, int64_t column, int64_t width, int64_t vectors, T* panel) {
    for (int64_t step = 0; step < count; ++step)
        for (int64_t n = 0; n < vectors; ++n, panel += kLanes<T>)
            store<T>(panel, load_n<T>(kept[step].dz + column + n * kLanes<T>, width - n * kLanes<T>));
}

template <class T>
void outer_panel(const T* left, const T* panel, int64_t count, int64_t n, T* out, int64_t stride, int64_t width) {
    constexpr int R = kTileRows;
    const int64_t vectors = (width + kLanes<T> - 1) / kLanes<T>;
    for (int64_t k = 0; k < n; k += R, left += count * R, out += R * stride) {
        const int64_t rows = minimum(R, n - k);
        switch (vectors) {
            case 1: outer_tile<T, R, 1>(left, panel, count, out, stride, rows, width); break;
            case 2: outer_tile<T, R, 2>(left, panel, count, out, stride, rows, width); break;
            case 3: outer_tile<T, R, 3>(left, panel, count, out, stride, rows, width); break;
            default: outer_tile<T, R, 4>(left, panel, count, out, stride, rows, width);
        }
    }
}

template <class T> void add_bias(const T* panel, int64_t count, int64_t vectors, T* out, int64_t width) {
    for (int64_t n = 0; n < vectors; ++n) {
        const int64_t left = width - n * kLanes<T>;
        V<T> sum = {};
        for (int64_t step = 0; step < count; ++step) sum = sum + load<T>(panel + (step * vectors + n) * kLanes<T>);
        store_n<T>(out + n * kLanes<T>, load_n<T>(out + n * kLanes<T>, left) + sum, left);
    }
}

template <class T>
void weights(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t count, int64_t begin, int64_t end,
             void* memory) {
    constexpr int64_t kWidth = kTileVectors * kLanes<T>;
    const Panels<T> all(call);
    Scratch scratch{static_cast<char*>(memory)};
    const WeightsScratch<T> packed(call, scratch);
    const int64_t stride = 4 * call.H;
    const auto columns = [&](int64_t p, int64_t& column, int64_t& width) {
        const int64_t within = p % all.in_segment * kWidth;
        column = p / all.in_segment * all.width + within;
        width = minimum(kWidth, all.width - within);
    };
    for (int64_t p = begin; p < end; ++p) {
        int64_t column, width;
        columns(p, column, width);
        for (int64_t k = 0; k < call.I; ++k) memset(call.d_kernel + k * stride + column, 0, size_t(width) * sizeof(T));
        for (int64_t k = 0; k < call.H; ++k)
            memset(call.d_recurrent + k * stride + column, 0, size_t(width) * sizeof(T));
        if (call.d_bias) memset(call.d_bias + column, 0, size_t(width) * sizeof(T));
    }
    for (int64_t first = 0; first < count; first += kChunk, kept += kChunk) {
        const int64_t steps = minimum(kChunk, count - first);
        for (int recurrent = 0; recurrent < 2; ++recurrent) {
            const int64_t n = recurrent ? call.H : call.I;
            const int64_t gates = recurrent ? call.recurrent_gates : call.input_gates;
            const T* const mask = recurrent ? call.recurrent_mask : call.input_mask;
            T* const out = recurrent ? call.d_recurrent : call.d_kernel;
            int64_t packed_gate = -1;
            for (int64_t p = begin; p < end; ++p) {
                int64_t column, width;
                columns(p, column, width);
                const int64_t gate = gates == 4 ? p / all.in_segment : 0;
                if (gate != packed_gate) {
                    pack_left(kept, steps, recurrent != 0, gates ? mask + gate * call.B * n : nullptr, n, packed.left);
                    packed_gate = gate;
                }
                const int64_t vectors = (width + kLanes<T> - 1) / kLanes<T>;
                pack_panel(kept, steps, column, width, vectors, packed.panel);
                outer_panel(packed.left, packed.panel, steps, n, out + column, stride, width);
                if (recurrent && call.d_bias) add_bias(packed.panel, steps, vectors, call.d_bias + column, width);
            }
        }
    }
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
