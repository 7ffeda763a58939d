// Products of tiles that stay in registers: R rows times N vectors of columns, accumulated by fused multiply-adds.
#pragma once

#include "simd/math.h"

namespace glasscell::GLASSCELL_TARGET {

constexpr int kTileVectors = 4;

// The row count, or that of the target's largest tile if it is smaller: with_rows makes no code for larger tiles.
constexpr int at_most_tile(int rows) { return rows < kTileRows ? rows : kTileRows; }

// A count that is known at compile time.
template <int N> struct Constant {
    static constexpr int value = N;
};

// Calls work(Constant<R>) for a tile of R rows, 1..kTileRows.
template <class Work> GLASSCELL_INLINE void with_rows(int64_t rows, Work work) {
    static_assert(kTileRows <= 6, "one case for each row count");
    switch (rows) {
        case 1: return work(Constant<1>());
        case 2: return work(Constant<at_most_tile(2)>());
        case 3: return work(Constant<at_most_tile(3)>());
        case 4: return work(Constant<at_most_tile(4)>());
        case 5: return work(Constant<at_most_tile(5)>());
        default: return work(Constant<at_most_tile(6)>());
    }
}

// Calls work(Constant<N>) for a tile of N vectors, 1..kTileVectors.
template <class Work> GLASSCELL_INLINE void with_vectors(int64_t vectors, Work work) {
    static_assert(kTileVectors == 4, "one case for each number of vectors");
    switch (vectors) {
        case 1: return work(Constant<1>());
        case 2: return work(Constant<2>());
        case 3: return work(Constant<3>());
        default: return work(Constant<4>());
    }
}

// Adds a[r][k] * b[k][n] to sum[r][n] for k = 0..count-1, in this order. a: R rows. b: (count, N, lanes) for each of
// Blocks blocks, which are `block` elements apart and fill sum[r][0..N-1], sum[r][N..2N-1], ... With a single block, a
// line of `next`, (count, lanes), is prefetched with each k: it will be read soon and may be far away.
template <class T, int R, int N, int Blocks = 1>
GLASSCELL_INLINE void accumulate(V<T> (&sum)[R][Blocks * N], const T* const* a, const T* b, int64_t count,
                                 const T* next, int64_t block = 0) {
    // With more rows GCC holds the columns by itself.
    constexpr bool kHolds = (R == 2 || R == 3) && (R + 1) * Blocks * N < kRegisters;
    const T* row[R];
    GLASSCELL_UNROLL
    for (int r = 0; r < R; ++r) row[r] = a[r];
    for (int64_t k = 0; k < count; ++k, b += N * kLanes<T>) {
        if (Blocks == 1) __builtin_prefetch(next + k * kLanes<T>, 0, 2);
        V<T> column[Blocks * N];
        GLASSCELL_UNROLL
        for (int n = 0; n < Blocks * N; ++n) {
            column[n] = load<T>(b + n / N * block + n % N * kLanes<T>);
            if (kHolds) hold(column[n]);
        }
        GLASSCELL_UNROLL
        for (int r = 0; r < R; ++r) {
            const V<T> value = broadcast<T>(row[r][k]);
            GLASSCELL_UNROLL
            for (int n = 0; n < Blocks * N; ++n) sum[r][n] = fma(value, column[n], sum[r][n]);
        }
    }
}

// Splits `rows` into the fewest tiles of at most kTileRows rows, as evenly as possible.
GLASSCELL_INLINE int64_t tile_count(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
GLASSCELL_INLINE int64_t tile_start(int64_t rows, int64_t tiles, int64_t tile) { return rows * tile / tiles; }

GLASSCELL_INLINE int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

// Sums left[step][k] * panel[step][j] over `count` steps, starting from zero, and adds the sum to out[k][j], for R rows
// k and N vectors of columns j. panel: (count, N, lanes). `stride`: the distance between rows of `out`; `width`: how
// many columns the panel has.
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

// Runs outer_tile for all n rows of `out`, tile by tile.
template <class T, int N>
void outer_panel(const T* const* left, const T* panel, int64_t count, int64_t n, T* out, int64_t stride,
                 int64_t width) {
    const int64_t tiles = tile_count(n);
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t k = tile_start(n, tiles, tile), rows = tile_start(n, tiles, tile + 1) - k;
        T* const to = out + k * stride;
        with_rows(rows, [&](auto r) { outer_tile<T, r.value, N>(left, k, panel, count, to, stride, width); });
    }
}

}  // namespace glasscell::GLASSCELL_TARGET
