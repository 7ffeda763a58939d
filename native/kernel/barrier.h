// The barrier at which the threads of a group wait for each other, and prefetches of what the others wrote. Written
// with builtins: code of one instruction set must not be merged with another's.
#pragma once

#if defined(__linux__)
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif
#include <sched.h>

#include "interface/cpu_pause.h"
#include "interface/kernel_table.h"
#include "simd/vector.h"

namespace glasscell::GLASSCELL_TARGET {

// Sleeps while slot->count is `seen`, some milliseconds at most. The thread that changes it wakes the sleepers.
GLASSCELL_INLINE void sleep_while(BarrierSlot* slot, unsigned seen) {
#if defined(__linux__)
    const struct timespec most = {0, 10 * 1000 * 1000};
    __atomic_add_fetch(&slot->sleepers, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &slot->count, FUTEX_WAIT_PRIVATE, seen, &most, nullptr, 0);
    __atomic_sub_fetch(&slot->sleepers, 1, __ATOMIC_SEQ_CST);
#else
    (void)slot, (void)seen;
    sched_yield();
#endif
}

GLASSCELL_INLINE void wake(BarrierSlot* slot) {
#if defined(__linux__)
    if (__atomic_load_n(&slot->sleepers, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &slot->count, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
#else
    (void)slot;
#endif
}

// Returns when all members of the item's group have arrived; what they wrote before is then visible. Without a group it
// returns at once. Each member writes one cache line and reads the others': one way between the cores, where a shared
// counter needs two. A member that waits longer yields, and then sleeps: on a busy machine another may need its
// processor. A cancelled call does not wait: some of its members may have left.
GLASSCELL_INLINE void barrier_wait(const WorkItem& item, const CancellationToken* cancellation) {
    if (!item.group) return;
    constexpr int kSpins = 1000, kYields = 3000;  // some 50 microseconds, some milliseconds
    BarrierSlot* const members = item.group->members;
    const unsigned mine = members[item.member].count + 1;
    __atomic_store_n(&members[item.member].count, mine, __ATOMIC_SEQ_CST);
    wake(&members[item.member]);
    for (int n = 0; n < item.group->size; ++n) {
        unsigned seen;
        for (int spins = 0; int((seen = __atomic_load_n(&members[n].count, __ATOMIC_ACQUIRE)) - mine) < 0; ++spins) {
            if (cancelled(cancellation)) return;
            if (spins < kSpins)
                cpu_pause();
            else if (spins < kSpins + kYields)
                sched_yield();
            else
                sleep_while(&members[n], seen);
        }
    }
}

// Prefetches memory that will soon be written, or read: data in another core's cache comes late. Always inlined: GCC
// drops the call of a function that does nothing else.
template <class T, bool Write> GLASSCELL_INLINE void prefetch(const T* from, int64_t count) {
    for (int64_t k = 0; k < count; k += 64 / int64_t(sizeof(T))) __builtin_prefetch(from + k, Write, 3);
}

}  // namespace glasscell::GLASSCELL_TARGET
