// How a long call is told to end early: by Ctrl-C, for one. Plain data only: kernels of every instruction set read it.
#pragma once

#include <pthread.h>

namespace glasscell {

// The outputs of a call that was stopped are undefined.
struct Interrupt {
    // Asks whether to go on, and sets `stopped` if not. For the thread that made the call, and it may be slow.
    void (*ask)(Interrupt* self);
    pthread_t caller;
    bool stopped;  // set once; threads read and write it by these two
};

static inline bool stopped(const Interrupt* interrupt) {
    return interrupt && __atomic_load_n(&interrupt->stopped, __ATOMIC_RELAXED);
}

static inline void stop(Interrupt* interrupt) { __atomic_store_n(&interrupt->stopped, true, __ATOMIC_RELAXED); }

}  // namespace glasscell
