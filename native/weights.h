// What does not feed back through time, for the kept steps of a span: dx = dz W^T, dW = sum of x^T dz, dR = sum of h^T dz,
// db = sum of dz. The sums over steps go on in one order: output tiles stay, steps stream past them in chunks, each summed
// from zero and added. One long chain would lose digits in thousands of steps.
#pragma once

#include "backward.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// Steps; part of the order of the sums. A panel of dz (32 KB for AVX-512) fills most of the nearest cache.
constexpr int64_t kChunk = 128;

// x and h as the products read them: for each a matrix (gates, tiles of columns, count, kTileRows), masked; the gates share
// one where they share a mask.
template <class T> struct Factors {
    T *x, *h;
    int64_t x_gate, h_gate;  // from one gate's to the next one's

    Factors(const BackwardCall<T>& call, int64_t count, T* memory) {
        const int64_t x_size = padded(call.I) * count, h_size = padded(call.H) * count;
        x_gate = call.input_gates == 4 ? x_size : 0, h_gate = call.recurrent_gates == 4 ? h_size : 0;
        x = memory, h = memory ? memory + (x_gate ? 4 : 1) * x_size : nullptr;
    }

    static int64_t padded(int64_t n) { return (n + kTileRows - 1) / kTileRows * kTileRows; }
};

template <class T> size_t factors_size(const BackwardCall<T>& call, int64_t count) {
    return size_t(((call.input_gates == 4 ? 4 : 1) * Factors<T>::padded(call.I) +
                   (call.recurrent_gates == 4 ? 4 : 1) * Factors<T>::padded(call.H)) * count);
}

// The first n <= kTileRows elements, zeros after them.
template <class T> GLASSCELL_INLINE void copy_tile(T* to, const T* from, const T* mask, int64_t n) {
    if constexpr (kTileRows <= kLanes<T>) {
        V<T> v = load_n<T>(from, n);
        if (mask) v = v * load_n<T>(mask, n);
        store_n<T>(to, v, kTileRows);
    } else {
        for (int64_t r = 0; r < kTileRows; ++r) to[r] = r >= n ? T(0) : mask ? from[r] * mask[r] : from[r];
    }
}

// The x or h of steps begin..end-1 into their places among the factors of one gate. Tile by tile: the
// places of one row are far from each other.
template <class T>
void copy_factors(const KeptStep<T>* kept, int64_t begin, int64_t end, const T* KeptStep<T>::*from, const T* mask,
                  int64_t n, int64_t count, T* to) {
    for (int64_t k = 0; k < n; k += kTileRows, to += count * kTileRows)
        for (int64_t step = begin; step < end; ++step)
            copy_tile<T>(to + step * kTileRows, kept[step].*from + k, mask ? mask + kept[step].b * n + k : nullptr,
                         minimum(kTileRows, n - k));
}

template <class T>
void factors(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t count, int64_t begin, int64_t end, T* memory) {
    const int64_t I = call.I, H = call.H;
    const Factors<T> to(call, count, memory);
    constexpr int64_t kCopied = 16;
    for (int64_t first = begin; first < end; first += kCopied) {
        const int64_t last = minimum(first + kCopied, end);
        for (int64_t gate = 0; gate < (call.input_gates == 4 ? 4 : 1); ++gate)
            copy_factors(kept, first, last, &KeptStep<T>::x, call.input_gates ? call.input_mask + gate * call.B * I : nullptr,
                         I, count, to.x + gate * to.x_gate);
        for (int64_t gate = 0; gate < (call.recurrent_gates == 4 ? 4 : 1); ++gate)
            copy_factors(kept, first, last, &KeptStep<T>::h,
                         call.recurrent_gates ? call.recurrent_mask + gate * call.B * H : nullptr, H, count,
                         to.h + gate * to.h_gate);
    }
}

template <class T> void inputs(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t begin, int64_t end) {
    const int64_t I = call.I, H = call.H;
    constexpr int64_t kRows = 8 * kTileRows;  // share a panel of W while it is near
    for (int64_t first = begin; first < end; first += kRows) {
        const T *dz[kRows], *mask[kRows];
        T* dx[kRows];
        const int64_t rows = minimum(kRows, end - first);
        for (int64_t r = 0; r < rows; ++r) {
            const KeptStep<T>& step = kept[first + r];
            dz[r] = step.dz, dx[r] = call.dx + (step.x - call.x);
            mask[r] = call.input_gates ? call.input_mask + step.b * I : nullptr;
        }
        project<T>(dz, rows, H, call.packed_kernel, kTileVectors, 0, I, call.input_gates ? mask : nullptr,
                   call.input_gates == 4 ? call.B * I : 0, dx);
    }
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
    for (int r = 0; r < R && r < rows; ++r)
        for (int n = 0; n < N; ++n) __builtin_prefetch(out + r * stride + n * kLanes<T>, 1, 3);
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

// N vectors of columns of dz of a chunk into `panel`, (count, N, lanes); columns beyond `width` are zero.
template <class T, int N>
void pack_panel(const KeptStep<T>* kept, int64_t count, int64_t column, int64_t width, T* panel) {
    constexpr int64_t kAhead = 16;  // another thread may have written it, a while ago
    for (int64_t step = 0; step < count; ++step) {
        if (step + kAhead < count) {
            GLASSCELL_UNROLL
            for (int n = 0; n < N; ++n) __builtin_prefetch(kept[step + kAhead].dz + column + n * kLanes<T>);
        }
        for (int n = 0; n < N; ++n, panel += kLanes<T>)
            store<T>(panel, load_n<T>(kept[step].dz + column + n * kLanes<T>, width - n * kLanes<T>));
    }
}

// All rows of one matrix's panel. `left`: (tiles, `left_tile` elements apart, of (count, kTileRows)).
template <class T, int N>
void outer_panel(const T* left, int64_t left_tile, const T* panel, int64_t count, int64_t n, T* out, int64_t stride,
                 int64_t width) {
    constexpr int R = kTileRows;
    for (int64_t k = 0; k < n; k += R, left += left_tile, out += R * stride)
        outer_tile<T, R, N>(left, panel, count, out, stride, minimum(R, n - k), width);
}

template <class T, int N> void add_bias(const T* panel, int64_t count, T* out, int64_t width) {
    V<T> sum[N] = {};
    for (int64_t step = 0; step < count; ++step) {
        GLASSCELL_UNROLL
        for (int n = 0; n < N; ++n) sum[n] = sum[n] + load<T>(panel + (step * N + n) * kLanes<T>);
    }
    for (int n = 0; n < N; ++n) {
        const int64_t left = width - n * kLanes<T>;
        store_n<T>(out + n * kLanes<T>, load_n<T>(out + n * kLanes<T>, left) + sum[n], left);
    }
}

// One panel of N vectors: the columns column..column + width - 1, all of one gate.
template <class T, int N>
void weights_panel(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t count, const Factors<T>& factors,
                   int64_t gate, int64_t column, int64_t width) {
    const int64_t stride = 4 * call.H, tile = count * kTileRows;
    alignas(64) T panel[kChunk * N * kLanes<T>];
    for (int64_t first = 0; first < count; first += kChunk) {
        const int64_t steps = minimum(kChunk, count - first);
        pack_panel<T, N>(kept + first, steps, column, width, panel);
        outer_panel<T, N>(factors.x + gate * factors.x_gate + first * kTileRows, tile, panel, steps, call.I,
                          call.d_kernel + column, stride, width);
        outer_panel<T, N>(factors.h + gate * factors.h_gate + first * kTileRows, tile, panel, steps, call.H,
                          call.d_recurrent + column, stride, width);
        if (call.d_bias) add_bias<T, N>(panel, steps, call.d_bias + column, width);
    }
}

template <class T>
void weights(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t count, int64_t p, const T* memory) {
    constexpr int64_t kWidth = kTileVectors * kLanes<T>;
    const Panels<T> all(call);
    const Factors<T> factors(call, count, const_cast<T*>(memory));
    const int64_t gate = p / all.in_segment, within = p % all.in_segment * kWidth;
    const int64_t column = gate * all.width + within, width = minimum(kWidth, all.width - within);
    switch ((width + kLanes<T> - 1) / kLanes<T>) {
        case 1: return weights_panel<T, 1>(call, kept, count, factors, gate, column, width);
        case 2: return weights_panel<T, 2>(call, kept, count, factors, gate, column, width);
        case 3: return weights_panel<T, 3>(call, kept, count, factors, gate, column, width);
        default: return weights_panel<T, 4>(call, kept, count, factors, gate, column, width);
    }
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
