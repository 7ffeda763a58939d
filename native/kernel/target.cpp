// The table of the kernels of one instruction set. This file is compiled once for each; GLASSCELL_TARGET is the
// namespace.
#include "kernel/backward.h"
#include "kernel/forward.h"
#include "kernel/weight_gradients.h"

#define GLASSCELL_STRING(name) GLASSCELL_QUOTE(name)
#define GLASSCELL_QUOTE(name) #name

namespace glasscell::GLASSCELL_TARGET {

template <class T> constexpr Kernels<T> kernels() {
    return {kLanes<T>, kTileRows, kTileVectors,
            pack_forward_size<T>, pack_forward<T>, forward_workspace<T>, forward<T>,
            pack_backward_size<T>, pack_backward<T>, backward_scratch<T>, backward<T>,
            masked_operands_size<T>, masked_operands<T>, input_gradients<T>, weight_panels<T>, weight_gradients<T>,
            transpose<T>};
}

// Runs the multiply-adds of the largest tile, but no loads: the highest speed of arithmetic, for measure_peak.
float peak(int64_t rounds) {
    V<float> sum[kTileRows][kTileVectors];
    for (int r = 0; r < kTileRows; ++r)
        for (int n = 0; n < kTileVectors; ++n) sum[r][n] = constant<float>(r * kTileVectors + n);  // all different
    const V<float> factor = constant<float>(0.999), term = constant<float>(1e-3);
    for (int64_t round = 0; round < rounds; ++round) {
        GLASSCELL_UNROLL
        for (int r = 0; r < kTileRows; ++r) {
            GLASSCELL_UNROLL
            for (int n = 0; n < kTileVectors; ++n) sum[r][n] = fma(sum[r][n], factor, term);
        }
    }
    V<float> total = {};
    for (int r = 0; r < kTileRows; ++r)
        for (int n = 0; n < kTileVectors; ++n) total = total + sum[r][n];
    return total[0];
}

// Sums `count` floats, the least arithmetic that keeps the loads: the highest speed of reading, for
// measure_l2_bandwidth.
float read(const float* from, int64_t count) {
    constexpr int kSums = 8;
    V<float> sum[kSums] = {};
    for (int64_t k = 0; k < count; k += kSums * kLanes<float>) {
        GLASSCELL_UNROLL
        for (int n = 0; n < kSums; ++n) sum[n] = sum[n] + load<float>(from + k + n * kLanes<float>);
    }
    V<float> total = {};
    for (int n = 0; n < kSums; ++n) total = total + sum[n];
    return total[0];
}

extern const Target target;
const Target target = {GLASSCELL_STRING(GLASSCELL_TARGET), peak, 2 * kTileRows * kTileVectors * kLanes<float>,
                       read, kernels<float>(), kernels<double>()};

}  // namespace glasscell::GLASSCELL_TARGET
