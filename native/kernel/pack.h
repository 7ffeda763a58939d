// Packs the weights in the order in which the kernels read them.
#pragma once

#include "interface/call.h"
#include "simd/transpose.h"

namespace glasscell::GLASSCELL_TARGET {

// The distances, in elements, between rows, gates and unit blocks of packed forward weights. A block of kLanes units is
// (1 + I + H, 4, lanes), or (4, 1 + I + H, lanes) with per-gate masks. Its 1 + I + H rows are the bias, the kernel and
// the recurrent kernel. The weights of units beyond H are zero.
struct Layout {
    int64_t row, gate, block;
};
template <class T> Layout layout_of(const Call<T>& call) {
    constexpr int L = kLanes<T>;
    const int64_t rows = 1 + call.I + call.H, block = rows * 4 * L;
    return per_gate_masks(call) ? Layout{L, rows * L, block} : Layout{4 * L, L, block};
}

template <class T> size_t pack_forward_size(int64_t I, int64_t H) {
    return size_t(vector_count<T>(H) * (1 + I + H) * 4 * kLanes<T>);
}

// Packs rows begin..end-1 of a matrix (n, 4H) that is stored as (4H, n). `to`: the place of row 0.
template <class T>
void pack_transposed(const T* matrix, int64_t n, int64_t H, int64_t begin, int64_t end, T* to, Layout layout) {
    constexpr int64_t L = kLanes<T>;
    for (int64_t unit = 0; unit < H; unit += L, to += layout.block)
        for (int64_t gate = 0; gate < 4; ++gate)
            for (int64_t k = begin; k < end; k += L)
                transpose_to_vectors<T>(matrix + (gate * H + unit) * n + k, n, minimum(L, H - unit),
                                        minimum(L, end - k), to + k * layout.row + gate * layout.gate, layout.row);
}

// Packs one row (4H) of a matrix, or zeros where `row` is null.
template <class T> void pack_row(const T* row, int64_t H, T* to, Layout layout) {
    constexpr int64_t L = kLanes<T>;
    for (int64_t unit = 0; unit < H; unit += L, to += layout.block)
        for (int gate = 0; gate < 4; ++gate)
            store<T>(to + gate * layout.gate, row ? load_n<T>(row + gate * H + unit, minimum(L, H - unit)) : V<T>{});
}

template <class T> void pack_forward(const Call<T>& call, int64_t begin, int64_t end, T* packed) {
    const int64_t I = call.I, H = call.H;
    const Layout layout = layout_of(call);
    if (call.transposed_weights) {
        const auto within = [](int64_t k, int64_t n) { return k < 0 ? 0 : minimum(k, n); };
        pack_transposed(call.kernel, I, H, within(begin - 1, I), within(end - 1, I), packed + layout.row, layout);
        pack_transposed(call.recurrent_kernel, H, H, within(begin - 1 - I, H), within(end - 1 - I, H),
                        packed + (1 + I) * layout.row, layout);
        end = minimum(end, 1);
    }
    for (int64_t k = begin; k < end; ++k) {
        const T* const row = k == 0   ? call.bias
                             : k <= I ? call.kernel + (k - 1) * 4 * H
                                      : call.recurrent_kernel + (k - 1 - I) * 4 * H;
        pack_row(row, H, packed + k * layout.row, layout);
    }
}

// Packed backward weights hold a matrix M: (outputs, 4H), for the products dz M^T, in panels of `vectors` vectors of
// outputs. A panel is (4H, vectors, lanes), and zero beyond the outputs. Only the last panel may have fewer vectors.
template <class T> size_t pack_backward_size(int64_t outputs, int64_t H) {
    return size_t(vector_count<T>(outputs) * kLanes<T> * 4 * H);
}

template <class T>
void pack_backward(const T* matrix, bool transposed, int64_t outputs, int64_t H, int64_t vectors, int64_t panel,
                   T* packed) {
    constexpr int64_t L = kLanes<T>;
    const int64_t first = panel * vectors * L, n = minimum(vectors, vector_count<T>(outputs - first));
    packed += first * 4 * H;
    for (int64_t k = first; k < first + n * L; k += L, packed += L) {
        const int64_t rows = minimum(L, outputs - k);
        if (transposed) {
            for (int64_t column = 0; column < 4 * H; ++column)
                store<T>(packed + column * n * L, load_n<T>(matrix + column * outputs + k, rows));
        } else {
            for (int64_t column = 0; column < 4 * H; column += L)
                transpose_to_vectors<T>(matrix + k * 4 * H + column, 4 * H, rows, minimum(L, 4 * H - column),
                                        packed + column * n * L, n * L);
        }
    }
}

}  // namespace glasscell::GLASSCELL_TARGET
