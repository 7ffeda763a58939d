// Time as the kernels walk it, and what a step is to do.
#pragma once

#include "interface/kernels.h"
#include "simd/vector.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// The place in x of step s in processing order.
GLASSCELL_INLINE int64_t time_of(const Options& options, int64_t time, int64_t s) {
    return options.go_backwards ? time - 1 - s : s;
}

// The bits of the step at place t.
template <class T> GLASSCELL_INLINE uint8_t flags_of(const Call<T>& call, int64_t b, int64_t t) {
    return call.step_flags ? call.step_flags[b * call.time + t] : uint8_t(kKeep);
}

// A row of width n times the masks of its gates, which are `mask_gate` elements apart, into rows that are `out_gate` apart.
template <class T>
void apply_masks(const T* row, const T* mask, int64_t gates, int64_t mask_gate, int64_t n, T* out, int64_t out_gate) {
    for (int64_t gate = 0; gate < gates; ++gate)
        for (int64_t k = 0; k < n; ++k) out[gate * out_gate + k] = row[k] * mask[gate * mask_gate + k];
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
