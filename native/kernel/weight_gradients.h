// What does not feed back through time, for the kept steps of a span: dx = dz W^T, dW = sum of x^T dz, dR = sum of h^T dz,
// db = sum of dz. The sums over steps go on in one order: output tiles stay, steps stream past them in chunks, each summed
// from zero and added. One long chain would lose digits in thousands of steps.
#pragma once

#include "kernel/backward.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// Steps; part of the order of the sums. A panel of dz (32 KB for AVX-512) fills most of the nearest cache.
constexpr int64_t kChunk = 128;

// x and h times their masks, for each gate where each has its own: (gates, count, n), the rows some lanes further apart, for
// a power of two would put them in the same places of the cache. What has no mask is read where it stands.
template <class T> struct MaskedOperands {
    T *x, *h;
    int64_t x_row, h_row;    // from one step's to the next one's
    int64_t x_gate, h_gate;  // from one gate's to the next one's

    MaskedOperands(const BackwardCall<T>& call, int64_t count, T* memory) {
        x_row = call.I + kLanes<T>, h_row = call.H + kLanes<T>;
        x_gate = call.input_gates == 4 ? count * x_row : 0, h_gate = call.recurrent_gates == 4 ? count * h_row : 0;
        x = memory, h = memory ? memory + call.input_gates * count * x_row : nullptr;
    }
};

template <class T> size_t masked_operands_size(const BackwardCall<T>& call, int64_t count) {
    const MaskedOperands<T> all(call, count, nullptr);
    return size_t((call.input_gates * all.x_row + call.recurrent_gates * all.h_row) * count);
}

template <class T>
void masked_operands(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t count, int64_t begin, int64_t end, T* memory) {
    const int64_t I = call.I, H = call.H;
    const MaskedOperands<T> to(call, count, memory);
    for (int64_t n = begin; n < end; ++n) {
        const KeptStep<T>& step = kept[n];
        if (call.input_gates)
            apply_masks(step.x, call.dropout_mask + step.b * I, call.input_gates, call.B * I, I, to.x + n * to.x_row, to.x_gate);
        if (call.recurrent_gates)
            apply_masks(step.h, call.recurrent_dropout_mask + step.b * H, call.recurrent_gates, call.B * H, H, to.h + n * to.h_row,
                        to.h_gate);
    }
}

template <class T> void input_gradients(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t begin, int64_t end) {
    const int64_t I = call.I, H = call.H;
    CancelPoll poll(call.cancellation);
    constexpr int64_t kRows = 8 * kTileRows;  // share a panel of W while it is near
    for (int64_t first = begin; first < end; first += kRows) {
        const T *dz[kRows], *mask[kRows];
        T* dx[kRows];
        const int64_t rows = minimum(kRows, end - first);
        for (int64_t r = 0; r < rows; ++r) {
            const KeptStep<T>& step = kept[first + r];
            dz[r] = step.dz, dx[r] = call.dx + (step.x - call.x);
            mask[r] = call.input_gates ? call.dropout_mask + step.b * I : nullptr;
        }
        project<T>(dz, rows, H, call.packed_kernel, kTileVectors, 0, I, call.input_gates ? mask : nullptr,
                   call.input_gates == 4 ? call.B * I : 0, dx, poll);
    }
}

// With a mask of its own for each gate a panel must not reach over two gates; else the 4H columns are one segment.
template <class T> struct Panels {
    int64_t segments, width, in_segment;

    explicit Panels(const BackwardCall<T>& call) {
        segments = per_gate_masks(call) ? 4 : 1;
        width = 4 * call.H / segments;
        in_segment = (width + kTileVectors * kLanes<T> - 1) / (kTileVectors * kLanes<T>);
    }
};

template <class T> int64_t weight_panels(const BackwardCall<T>& call) {
    const Panels<T> all(call);
    return all.segments * all.in_segment;
}

// out[k][j] += the sum, from zero, over `count` steps of left[step][k] * panel[step][j], for R rows k and N vectors of j.
template <class T, int R, int N>
void outer_tile(const T* const* left, int64_t k, const T* panel, int64_t count, T* out, int64_t stride, int64_t width) {
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) __builtin_prefetch(out + r * stride + n * kLanes<T>, 1, 3);
    V<T> sum[R][N] = {};
    for (int64_t step = 0; step < count; ++step, panel += N * kLanes<T>) {
        const T* const row = left[step] + k;
        V<T> column[N];
        GLASSCELL_UNROLL
        for (int n = 0; n < N; ++n) column[n] = load<T>(panel + n * kLanes<T>);
        GLASSCELL_UNROLL
        for (int r = 0; r < R; ++r) {
            const V<T> value = broadcast<T>(row[r]);
            GLASSCELL_UNROLL
            for (int n = 0; n < N; ++n) sum[r][n] = fma(value, column[n], sum[r][n]);
        }
    }
    GLASSCELL_UNROLL
    for (int r = 0; r < R; ++r) {
        GLASSCELL_UNROLL
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

// All n rows of one matrix's panel.
template <class T, int N>
void outer_panel(const T* const* left, const T* panel, int64_t count, int64_t n, T* out, int64_t stride, int64_t width) {
    const int64_t tiles = tile_count(n);
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t k = tile_start(n, tiles, tile), rows = tile_start(n, tiles, tile + 1) - k;
        with_rows(rows, [&](auto r) {
            outer_tile<T, r.value, N>(left, k, panel, count, out + k * stride, stride, width);
        });
    }
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
void weight_gradients_panel(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t count, const MaskedOperands<T>& factors,
                   int64_t gate, int64_t column, int64_t width) {
    const int64_t stride = 4 * call.H;
    const T *x[kChunk], *h[kChunk];
    alignas(64) T panel[kChunk * N * kLanes<T>];
    CancelPoll poll(call.cancellation);
    for (int64_t first = 0; first < count; first += kChunk) {
        const int64_t steps = minimum(kChunk, count - first);
        for (int64_t step = 0; step < steps; ++step) {
            const int64_t n = first + step;
            x[step] = call.input_gates ? factors.x + gate * factors.x_gate + n * factors.x_row : kept[n].x;
            h[step] = call.recurrent_gates ? factors.h + gate * factors.h_gate + n * factors.h_row : kept[n].h;
        }
        if (poll.cancelled(steps * width * (call.I + call.H))) return;
        pack_panel<T, N>(kept + first, steps, column, width, panel);
        outer_panel<T, N>(x, panel, steps, call.I, call.d_kernel + column, stride, width);
        outer_panel<T, N>(h, panel, steps, call.H, call.d_recurrent + column, stride, width);
        if (call.d_bias) add_bias<T, N>(panel, steps, call.d_bias + column, width);
    }
}

template <class T>
void weight_gradients(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t count, int64_t p, const T* memory) {
    constexpr int64_t kWidth = kTileVectors * kLanes<T>;
    const Panels<T> all(call);
    const MaskedOperands<T> factors(call, count, const_cast<T*>(memory));
    const int64_t gate = p / all.in_segment, within = p % all.in_segment * kWidth;
    const int64_t column = gate * all.width + within, width = minimum(kWidth, all.width - within);
    with_vectors((width + kLanes<T> - 1) / kLanes<T>,
                 [&](auto n) { weight_gradients_panel<T, n.value>(call, kept, count, factors, gate, column, width); });
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
