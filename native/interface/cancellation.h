// Ends a long call early, for example on Ctrl-C. Plain data, which the kernels of every instruction set read.
#pragma once

#include <pthread.h>

namespace glasscell {

// The token through which a call is cancelled. The outputs of a cancelled call are undefined.
struct alignas(64) CancellationToken {
    // Sets `cancelled` if the call is to end. Only the caller's thread calls it; it may be slow.
    void (*poll)(CancellationToken* self);
    pthread_t caller;
    bool cancelled;  // set once; threads read and write it through the two functions below
};

static inline bool cancelled(const CancellationToken* cancellation) {
    return cancellation && __atomic_load_n(&cancellation->cancelled, __ATOMIC_RELAXED);
}

static inline void cancel(CancellationToken* cancellation) {
    __atomic_store_n(&cancellation->cancelled, true, __ATOMIC_RELAXED);
}

}  // namespace glasscell
