// Dropout masks of x and h.
#pragma once

#include "simd/vector.h"

namespace glasscell::GLASSCELL_TARGET {

// Multiplies a row of n elements by the masks of its gates. The masks are `mask_gate` elements apart, the masked rows
// `out_gate`.
template <class T>
void apply_masks(const T* row, const T* mask, int64_t gates, int64_t mask_gate, int64_t n, T* out, int64_t out_gate) {
    for (int64_t gate = 0; gate < gates; ++gate)
        for (int64_t k = 0; k < n; ++k) out[gate * out_gate + k] = row[k] * mask[gate * mask_gate + k];
}

// The distance from one gate's row to the next gate's: 0 where all gates share a row, and where there is no mask.
GLASSCELL_INLINE int64_t gate_stride(int64_t gates, int64_t n) { return gates == 4 ? n : 0; }

}  // namespace glasscell::GLASSCELL_TARGET
