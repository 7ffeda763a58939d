// Products of the gradients of the raw gates with transposed weights: dz M^T, summed gate by gate.
#pragma once

#include "kernel/cancel_poll.h"
#include "simd/tile.h"

namespace glasscell::GLASSCELL_TARGET {

// The dropout masks of the products of some rows. rows[r] is the mask of row r, and each next gate's mask lies `gate`
// elements further. `rows` is null without a mask.
template <class T> struct ProjectionMask {
    const T* const* rows;
    int64_t gate;

    // Multiplies the sum of row r and gate `of_gate` by its mask, for the outputs from k on, of which `left` remain.
    GLASSCELL_INLINE V<T> apply(V<T> sum, int64_t r, int64_t of_gate, int64_t k, int64_t left) const {
        return rows ? sum * load_n<T>(rows[r] + of_gate * gate + k, left) : sum;
    }
};

// Computes out[r][n] = sum over gates of mask * (dz[r][gate] . panel), for R rows of dz, each (4, H), and N vectors of
// outputs from k on.
template <class T, int R, int N>
void project_tile(const T* const* dz, int64_t H, const T* packed, ProjectionMask<T> mask, T* const* out, int64_t k,
                  int64_t width) {
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
                const int64_t at = n * kLanes<T>;
                total[r][n] = total[r][n] + mask.apply(sum[r][n], r, gate, k + at, width - at);
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n)
            store_n<T>(out[r] + k + n * kLanes<T>, total[r][n], width - n * kLanes<T>);
}

// Computes the tile of a single row, with the sums of the four gates side by side. The sum of one gate alone would wait
// at each fma for the one before.
template <class T, int N>
void project_row(const T* dz, int64_t H, const T* packed, ProjectionMask<T> mask, T* out, int64_t k, int64_t width) {
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
        const int64_t at = k + n * kLanes<T>, left = width - n * kLanes<T>;
        V<T> total = {};
        for (int gate = 0; gate < 4; ++gate) total = total + mask.apply(sum[gate][n], 0, gate, at, left);
        store_n<T>(out + at, total, left);
    }
}

// Computes the outputs first..last-1 of the products of `count` rows with a packed matrix. `first` starts a panel of
// `panel` vectors. The outputs of a cancelled product are undefined.
template <class T>
void project(const T* const* dz, int64_t count, int64_t H, const T* packed, int64_t panel, int64_t first, int64_t last,
             ProjectionMask<T> mask, T* const* out, CancelPoll& poll) {
    constexpr int64_t L = kLanes<T>;
    const int64_t tiles = tile_count(count);
    packed += first * 4 * H;
    for (int64_t k = first; k < last; k += panel * L) {
        const int64_t width = minimum(panel * L, last - k), vectors = vector_count<T>(width);
        for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t row = tile_start(count, tiles, tile), n = tile_start(count, tiles, tile + 1) - row;
            const ProjectionMask<T> masks = {mask.rows ? mask.rows + row : nullptr, mask.gate};
            if (poll.cancelled(n * vectors * L * 4 * H)) return;
            with_vectors(vectors, [&](auto v) {
                if (n == 1) return project_row<T, v.value>(dz[row], H, packed, masks, out[row], k, width);
                with_rows(n, [&](auto r) {
                    project_tile<T, r.value, v.value>(dz + row, H, packed, masks, out + row, k, width);
                });
            });
        }
        packed += vectors * L * 4 * H;
    }
}

}  // namespace glasscell::GLASSCELL_TARGET
