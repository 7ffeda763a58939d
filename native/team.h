// Where the threads of a team meet. Written with builtins: code of one instruction set must not be merged with another's.
#pragma once

#include <sched.h>

#include "kernels.h"
#include "simd.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

GLASSCELL_INLINE void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Returns when all of the team have come; what they wrote before is then visible to each. No team: at once.
GLASSCELL_INLINE void meet(Team* team) {
    if (!team) return;
    constexpr int kSpins = 4000;  // some 100 microseconds; then the processor may be needed by the one we wait for
    const int round = __atomic_load_n(&team->round, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&team->waiting, 1, __ATOMIC_ACQ_REL) == team->size) {
        __atomic_store_n(&team->waiting, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->round, round + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&team->round, __ATOMIC_ACQUIRE) == round; ++spins) {
        if (spins < kSpins)
            relax();
        else
            sched_yield();
    }
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
