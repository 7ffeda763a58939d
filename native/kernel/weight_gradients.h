// The gradients that do not feed back through time, for the kept steps of a time block: dx = dz W^T, dW = sum of x^T
// dz, dR = sum of h^T dz, db = sum of dz. The sums over steps have one order: an output tile stays in registers while a
// chunk of steps is summed from zero, and the chunk's sum is added to the output. One long chain over thousands of
// steps would lose digits.
#pragma once

#include "interface/kernel_table.h"
#include "kernel/masks.h"
#include "kernel/projection.h"

namespace glasscell::GLASSCELL_TARGET {

// The steps of a chunk, which the order of the sums depends on. A panel of dz (32 KB for AVX-512) fills most of the
// nearest cache.
constexpr int64_t kChunk = 128;

// The layout of the masked operands of `count` steps: x (gates, count, x_row), then h (gates, count, h_row). Rows are
// kLanes elements longer than needed: rows a power of two apart would share their places in the cache. An operand
// without a mask has 0 gates here, and is read from the call.
struct MaskedLayout {
    int64_t x_row, h_row;    // from one step to the next
    int64_t x_gate, h_gate;  // from one gate to the next; 0 where all gates share a mask
    int64_t h, size;         // where h starts; how many elements there are in all
};
template <class T> MaskedLayout masked_layout(const BackwardCall<T>& call, int64_t count) {
    const int64_t x_gates = call.dropout_gates, x_row = call.I + kLanes<T>, h = x_gates * count * x_row;
    const int64_t h_gates = call.recurrent_dropout_gates, h_row = call.H + kLanes<T>;
    return {x_row, h_row, gate_stride(x_gates, count * x_row), gate_stride(h_gates, count * h_row),
            h, h + h_gates * count * h_row};
}

template <class T> size_t masked_operands_size(const BackwardCall<T>& call, int64_t count) {
    return size_t(masked_layout(call, count).size);
}

template <class T>
void masked_operands(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t count, int64_t begin, int64_t end,
                     T* masked) {
    const int64_t B = call.B, I = call.I, H = call.H;
    const MaskedLayout layout = masked_layout(call, count);
    for (int64_t n = begin; n < end; ++n) {
        const KeptStep<T>& step = kept[n];
        if (call.dropout_gates)
            apply_masks(step.x, call.dropout_mask, call.dropout_gates, B, step.b, I, masked + n * layout.x_row,
                        layout.x_gate);
        if (call.recurrent_dropout_gates)
            apply_masks(step.h, call.recurrent_dropout_mask, call.recurrent_dropout_gates, B, step.b, H,
                        masked + layout.h + n * layout.h_row, layout.h_gate);
    }
}

template <class T>
void input_gradients(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t begin, int64_t end) {
    const int64_t I = call.I, gates = call.dropout_gates;
    CancelPoll poll(call.cancellation);
    constexpr int64_t kRows = 8 * kTileRows;  // rows that share a panel of W while it is in a near cache
    for (int64_t first = begin; first < end; first += kRows) {
        const T *dz[kRows], *mask[kRows];
        T* dx[kRows];
        const int64_t rows = minimum(kRows, end - first);
        for (int64_t r = 0; r < rows; ++r) {
            const KeptStep<T>& step = kept[first + r];
            dz[r] = step.dz, dx[r] = call.dx + (step.x - call.x);
            mask[r] = gates ? call.dropout_mask + step.b * I : nullptr;
        }
        const ProjectionMask<T> masks = {gates ? mask : nullptr, gate_stride(gates, call.B * I)};
        project<T>(dz, rows, call.H, call.packed_kernel, kTileVectors, 0, I, masks, dx, poll);
    }
}

// The column panels of the weight gradients. `width`: the columns of a segment; `in_segment`: its panels. No panel
// reaches over two segments. With per-gate masks each gate is a segment; otherwise the 4H columns are one segment.
struct WeightPanels {
    int64_t segments, width, in_segment;
};
template <class T> WeightPanels weight_panels_of(const BackwardCall<T>& call) {
    const int64_t segments = per_gate_masks(call) ? 4 : 1, width = 4 * call.H / segments;
    return {segments, width, (vector_count<T>(width) + kTileVectors - 1) / kTileVectors};
}

template <class T> int64_t weight_panels(const BackwardCall<T>& call) {
    const WeightPanels panels = weight_panels_of(call);
    return panels.segments * panels.in_segment;
}

// Packs the columns of dz from `column` on, N vectors of them, for the `count` steps of a chunk. panel: (count, N,
// lanes), and zero beyond `width` columns.
template <class T, int N>
void pack_panel(const KeptStep<T>* kept, int64_t count, int64_t column, int64_t width, T* panel) {
    constexpr int64_t kAhead = 16;  // steps: another thread may have written their dz, a while ago
    for (int64_t step = 0; step < count; ++step) {
        if (step + kAhead < count) {
            GLASSCELL_UNROLL
            for (int n = 0; n < N; ++n) __builtin_prefetch(kept[step + kAhead].dz + column + n * kLanes<T>);
        }
        for (int n = 0; n < N; ++n, panel += kLanes<T>)
            store<T>(panel, load_n<T>(kept[step].dz + column + n * kLanes<T>, width - n * kLanes<T>));
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

// Adds the sums over `count` kept steps to one panel of N vectors: the columns column..column + width - 1, in segment
// `gate`.
template <class T, int N>
void add_panel(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t count, const T* masked, int64_t gate,
               int64_t column, int64_t width) {
    const int64_t stride = 4 * call.H;
    const MaskedLayout layout = masked_layout(call, count);
    const T *const masked_x = masked + gate * layout.x_gate, *const masked_h = masked + layout.h + gate * layout.h_gate;
    const T *x[kChunk], *h[kChunk];
    alignas(64) T panel[kChunk * N * kLanes<T>];
    CancelPoll poll(call.cancellation);
    for (int64_t first = 0; first < count; first += kChunk) {
        const int64_t steps = minimum(kChunk, count - first);
        for (int64_t step = 0; step < steps; ++step) {
            const int64_t n = first + step;
            x[step] = call.dropout_gates ? masked_x + n * layout.x_row : kept[n].x;
            h[step] = call.recurrent_dropout_gates ? masked_h + n * layout.h_row : kept[n].h;
        }
        if (poll.cancelled(steps * width * (call.I + call.H))) return;
        pack_panel<T, N>(kept + first, steps, column, width, panel);
        outer_panel<T, N>(x, panel, steps, call.I, call.d_kernel + column, stride, width);
        outer_panel<T, N>(h, panel, steps, call.H, call.d_recurrent + column, stride, width);
        if (call.d_bias) add_bias<T, N>(panel, steps, call.d_bias + column, width);
    }
}

template <class T>
void weight_gradients(const BackwardCall<T>& call, const KeptStep<T>* kept, int64_t count, int64_t panel,
                      const T* masked) {
    constexpr int64_t kWidth = kTileVectors * kLanes<T>;
    const WeightPanels panels = weight_panels_of(call);
    const int64_t gate = panel / panels.in_segment, within = panel % panels.in_segment * kWidth;
    const int64_t column = gate * panels.width + within, width = minimum(kWidth, panels.width - within);
    with_vectors(vector_count<T>(width),
                 [&](auto n) { add_panel<T, n.value>(call, kept, count, masked, gate, column, width); });
}

}  // namespace glasscell::GLASSCELL_TARGET
