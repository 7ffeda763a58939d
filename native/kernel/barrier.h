// The barrier at which the threads of a group wait for each other, and prefetches of data that the other threads wrote.
// The code uses compiler builtins, not the standard library: code of one instruction set must not be merged with
// another's.
#pragma once

#if defined(__linux__)
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#include <sched.h>
#include <time.h>

#include "interface/cpu_pause.h"
#include "interface/kernel_table.h"
#include "simd/vector.h"

namespace glasscell::GLASSCELL_TARGET {

// Sleeps while slot->count is `seen`, some milliseconds at most. The thread that changes the count wakes the sleepers.
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

GLASSCELL_INLINE int64_t nanoseconds_now() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t(now.tv_sec) * 1000000000 + now.tv_nsec;
}

// Waits until a member has arrived `count` times, or the call is cancelled. Returns the nanoseconds of the wait,
// without the spins that come first. A thread spins, then yields, and then sleeps: on a busy machine another thread may
// need its processor.
inline int64_t await_member(BarrierSlot* slot, unsigned count, const CancellationToken* cancellation) {
    constexpr int kSpins = 1000, kYields = 100;  // some 50 microseconds, and as many again
    int64_t start = 0;
    unsigned seen;
    for (int rounds = 0; int((seen = __atomic_load_n(&slot->count, __ATOMIC_ACQUIRE)) - count) < 0; ++rounds) {
        if (cancelled(cancellation)) break;
        if (rounds == kSpins) start = nanoseconds_now();
        if (rounds < kSpins)
            cpu_pause();
        else if (rounds < kSpins + kYields)
            sched_yield();
        else
            sleep_while(slot, seen);
    }
    return start ? nanoseconds_now() - start : 0;
}

// Waits until all members of the item's group have arrived. All that they wrote before is then visible. Returns whether
// the group goes on. Each member writes one cache line and reads those of the others, so a line crosses between the
// cores once; a shared counter would cross twice. A cancelled call does not wait: some of its members may have left.
GLASSCELL_INLINE bool barrier_wait(const WorkItem& item, const CancellationToken* cancellation) {
    ThreadGroup& group = *item.group;
    const unsigned mine = group.members[item.member].count + 1;
    if (item.member == 0 && group.waited > group.patience) __atomic_store_n(&group.last, mine, __ATOMIC_RELAXED);
    __atomic_store_n(&group.members[item.member].count, mine, __ATOMIC_SEQ_CST);
    wake(&group.members[item.member]);
    int64_t waited = 0;
    for (int n = 0; n < group.size; ++n) waited += await_member(&group.members[n], mine, cancellation);
    if (waited && item.member == 0) group.waited += waited;  // a rare write: the others read this cache line
    return int(mine - __atomic_load_n(&group.last, __ATOMIC_RELAXED)) < 0;
}

// Extends the item of member 0, which has the first units, to all units of the group.
GLASSCELL_INLINE void take_over(WorkItem& item, int64_t units) { item.last = units, item.group = nullptr; }

// Prefetches memory that will soon be written or read: data in another core's cache takes long to arrive. Always
// inlined: GCC drops the call of a function that only prefetches.
template <class T, bool Write> GLASSCELL_INLINE void prefetch(const T* from, int64_t count) {
    for (int64_t k = 0; k < count; k += 64 / int64_t(sizeof(T))) __builtin_prefetch(from + k, Write, 3);
}

}  // namespace glasscell::GLASSCELL_TARGET
