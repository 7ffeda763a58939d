// A small thread pool. Idle workers sleep; nothing ever runs nested; safe after fork.
#pragma once

#include "interface/cancellation.h"

namespace glasscell {

// The threads a call may use: GLASSCELL_NUM_THREADS if set, else the processors this process may run on, or as many as its
// container grants the time of.
// Throws std::invalid_argument where the variable is not a positive integer.
int num_threads();
void set_num_threads(int threads);  // 1 to 4096, or throws std::invalid_argument

// The threads of an OpenMP runtime that is in the process already, by the addresses of its functions. They spin for some
// milliseconds when they have nothing to do, so whoever else wants to compute meanwhile shares its processors with them.
struct OpenMpRuntime {
    void (*parallel)(void (*body)(void*), void* argument, unsigned threads, unsigned flags);  // GOMP_parallel
    int (*team_size)();     // omp_get_num_threads
    int (*most_threads)();  // omp_get_max_threads
};

// From now on calls run on them where they are enough, and on the pool's own workers elsewhere, and in forked children.
// A openmp without functions ends it.
void use_openmp_threads(OpenMpRuntime openmp);
bool uses_openmp_threads();

// Runs task(context, 0..count-1), each once, on the caller and up to count - 1 workers; returns when all are done. The
// caller runs task 0. While another call is inside the pool the caller runs all of them, and the results are the same
// bits; so too where the system grants no threads. While the caller waits for workers it polls `cancellation`, if there is one;
// tasks that see it stopped end early. Tasks run in the floating-point state of float_state.h, whatever their thread's own
// is. What one throws comes out here, the first of them when all tasks have ended; others may not have run then.
void run_tasks(int count, void (*task)(void* context, int index), void* context, CancellationToken* cancellation = nullptr);

// The same with the first `together` tasks at once, each on a thread of its own, so that they may wait for one another; those
// must not throw, for the others would wait forever: what they need is allocated before.
// False, and nothing has run, where that cannot be promised: another call is inside the pool, the system grants too few
// threads, or the caller's affinity leaves fewer processors.
bool run_together(int count, int together, void (*task)(void* context, int index), void* context,
                  CancellationToken* cancellation = nullptr);

}  // namespace glasscell

// For threadpoolctl, which finds them by name (glasscell/threads.py).
extern "C" __attribute__((visibility("default"))) int glasscell_get_num_threads();
extern "C" __attribute__((visibility("default"))) void glasscell_set_num_threads(int threads);
