// Transposes matrices, square by square in registers. Element by element, each element would touch a cache line of its
// own.
#pragma once

#include "simd/tile.h"

namespace glasscell::GLASSCELL_TARGET {

// Transposes a square of lanes x lanes elements: interleaves the first half of the rows with the second, log2(lanes)
// times.
template <class T> GLASSCELL_INLINE void transpose_square(V<T> (&rows)[kLanes<T>]) {
    constexpr int L = kLanes<T>;
    GLASSCELL_UNROLL
    for (int stage = 1; stage < L; stage *= 2) {
        V<T> next[L];
        GLASSCELL_UNROLL
        for (int k = 0; k < L / 2; ++k) {
            next[2 * k] = interleave<T, 0>(rows[k], rows[k + L / 2]);
            next[2 * k + 1] = interleave<T, L / 2>(rows[k], rows[k + L / 2]);
        }
        GLASSCELL_UNROLL
        for (int k = 0; k < L; ++k) rows[k] = next[k];
    }
}

// Transposes one square: `height` rows of `width` columns become `width` vectors, whose lanes from `height` on are
// zero.
template <class T>
GLASSCELL_INLINE void transpose_to_vectors(const T* from, int64_t from_stride, int64_t height, int64_t width, T* to,
                                           int64_t to_stride) {
    V<T> rows[kLanes<T>];
    GLASSCELL_UNROLL
    for (int r = 0; r < kLanes<T>; ++r) rows[r] = r < height ? load_n<T>(from + r * from_stride, width) : V<T>{};
    transpose_square<T>(rows);
    GLASSCELL_UNROLL
    for (int c = 0; c < kLanes<T>; ++c)
        if (c < width) store<T>(to + c * to_stride, rows[c]);
}

// Transposes rows begin..end-1 of from: (rows, columns) into to: (columns, rows).
template <class T> void transpose(const T* from, int64_t rows, int64_t columns, int64_t begin, int64_t end, T* to) {
    constexpr int64_t L = kLanes<T>;
    for (int64_t row = begin; row < end; row += L) {
        for (int64_t column = 0; column < columns; column += L) {
            const int64_t height = minimum(L, end - row), width = minimum(L, columns - column);
            alignas(64) T square[L * L];
            transpose_to_vectors<T>(from + row * columns + column, columns, height, width, square, L);
            for (int64_t c = 0; c < width; ++c)
                store_n<T>(to + (column + c) * rows + row, load<T>(square + c * L), height);
        }
    }
}

}  // namespace glasscell::GLASSCELL_TARGET
