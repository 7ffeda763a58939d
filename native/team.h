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

// Returns when all of the part's team have come; what they wrote before is then visible to each. No team: at once.
// Each member writes one cache line and reads the others': one way between the cores, where a shared counter needs two.
// A call that is stopped does not wait: some of its members may have left.
GLASSCELL_INLINE void meet(const Part& part, const Interrupt* interrupt) {
    if (!part.team) return;
    constexpr int kSpins = 4000;  // some 100 microseconds; then the processor may be needed by the one we wait for
    Arrivals* const members = part.team->members;
    const unsigned mine = members[part.member].count + 1;
    __atomic_store_n(&members[part.member].count, mine, __ATOMIC_RELEASE);
    for (int n = 0; n < part.team->size; ++n) {
        for (int spins = 0; int(__atomic_load_n(&members[n].count, __ATOMIC_ACQUIRE) - mine) < 0; ++spins) {
            if (stopped(interrupt)) return;
            if (spins < kSpins)
                relax();
            else
                sched_yield();
        }
    }
}

// Asks for memory that will be written, or read, in a moment: what another core has takes long to come.
template <class T, bool Write> void fetch(const T* from, int64_t count) {
    for (int64_t k = 0; k < count; k += 64 / int64_t(sizeof(T))) __builtin_prefetch(from + k, Write, 3);
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
