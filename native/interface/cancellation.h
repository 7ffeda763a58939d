// How a long call is told to end early: by Ctrl-C, for one. Plain data only: kernels of every instruction set read it.
#pragma once

#include <pthread.h>

namespace glasscell {

// The outputs of a call that was stopped are undefined.
struct CancellationToken {
    // Asks whether to go on, and sets `stopped` if not. For the thread that made the call, and it may be slow.
    void (*poll)(CancellationToken* self);
    pthread_t caller;
    bool cancelled;  // set once; threads read and write it by these two
};

static inline bool cancelled(const CancellationToken* cancellation) {
    return cancellation && __atomic_load_n(&cancellation->cancelled, __ATOMIC_RELAXED);
}

static inline void cancel(CancellationToken* cancellation) { __atomic_store_n(&cancellation->cancelled, true, __ATOMIC_RELAXED); }

}  // namespace glasscell
