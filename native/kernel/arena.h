// Carves a piece of memory into aligned arrays. With null memory it only counts their bytes, so size and layout agree.
#pragma once

#include "simd/vector.h"

namespace glasscell::GLASSCELL_TARGET {

struct Arena {
    char* memory;
    size_t used = 0;

    template <class U> U* allocate(int64_t count) {
        U* const at = memory ? reinterpret_cast<U*>(memory + used) : nullptr;
        used += (size_t(count) * sizeof(U) + 63) / 64 * 64;
        return at;
    }
};

}  // namespace glasscell::GLASSCELL_TARGET
