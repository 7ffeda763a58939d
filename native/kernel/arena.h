// Carves one block of memory into aligned arrays. With a null block it only counts, so size and layout agree.
#pragma once

#include "simd/vector.h"

namespace glasscell::GLASSCELL_TARGET {

struct Arena {
    char* block;
    size_t used = 0;

    template <class U> U* allocate(int64_t count) {
        U* const at = block ? reinterpret_cast<U*>(block + used) : nullptr;
        used += (size_t(count) * sizeof(U) + 63) / 64 * 64;
        return at;
    }
};

}  // namespace glasscell::GLASSCELL_TARGET
