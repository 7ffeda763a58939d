// Dropout masks of x and h.
#pragma once

#include "simd/vector.h"

namespace glasscell::GLASSCELL_TARGET {

// Multiplies a row, (n), of batch index b by the mask of each gate. masks: (gates, B, n). The masked rows are
// `out_gate` elements apart.
template <class T>
void apply_masks(const T* row, const T* masks, int64_t gates, int64_t B, int64_t b, int64_t n, T* out,
                 int64_t out_gate) {
    for (int64_t gate = 0; gate < gates; ++gate)
        for (int64_t k = 0; k < n; ++k) out[gate * out_gate + k] = row[k] * masks[(gate * B + b) * n + k];
}

// The distance from one gate's row to the next gate's: 0 where all gates share a row, and where there is no mask.
GLASSCELL_INLINE int64_t gate_stride(int64_t gates, int64_t n) { return gates == 4 ? n : 0; }

}  // namespace glasscell::GLASSCELL_TARGET
