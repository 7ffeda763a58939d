// Waits in which a thread stays awake, and the clocks that measure them.
#pragma once

#include <time.h>

#include <cstdint>
#include <thread>

#include "interface/cpu_pause.h"

namespace glasscell {

inline int64_t nanoseconds(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

inline int64_t steady_now() { return nanoseconds(CLOCK_MONOTONIC); }

// Waking a sleeping thread costs some 10 us, and milliseconds on a virtual processor that is given away meanwhile. So
// the caller and the workers first spin, and then yield in each round. Threads that only spin take the processors from
// the other threads of the process; those of an OpenMP runtime slow down a thousandfold. The caller sleeps sooner than
// a worker: its processor can then run a thread that waits for another processor, perhaps the thread that the caller
// waits for.
constexpr int64_t kSpin = 30'000, kAwakeForTask = 1'000'000, kAwakeForEnd = 200'000;  // nanoseconds

// Returns whether ready() came true within `most` nanoseconds.
template <class Ready> bool wait_awake(int64_t most, Ready ready) {
    const int64_t start = steady_now();
    for (int64_t waited = 0; waited < most; waited = steady_now() - start) {
        if (waited > kSpin) std::this_thread::yield();
        for (int n = 0; n < 16; ++n, cpu_pause())
            if (ready()) return true;
    }
    return false;
}

}  // namespace glasscell
