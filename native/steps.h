// Time as the kernels walk it, and what a step is to do.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// The place in x of step s in processing order.
GLASSCELL_INLINE int64_t time_of(const Options& options, int64_t time, int64_t s) {
    return options.go_backwards ? time - 1 - s : s;
}

// The bits of the step at place t.
template <class T> GLASSCELL_INLINE uint8_t bits_of(const Call<T>& call, int64_t b, int64_t t) {
    return call.steps ? call.steps[b * call.time + t] : uint8_t(kKeep);
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
