// A small thread pool. Idle workers sleep; nested calls run on one thread; it works in a forked child.
#pragma once

#include "engine/team.h"
#include "interface/cancellation.h"

namespace glasscell {

// The number of threads that a call may use. By default GLASSCELL_NUM_THREADS, or else the available processors. Throws
// std::invalid_argument where the variable is not a positive integer.
int num_threads();
void set_num_threads(int threads);  // 1 to 4096, or throws std::invalid_argument

// The functions of an OpenMP runtime that is loaded in the process. Its idle threads spin for some milliseconds, and
// share the processors with other threads meanwhile.
struct OpenMpRuntime {
    void (*parallel)(void (*body)(void*), void* argument, unsigned threads, unsigned flags);  // GOMP_parallel
    int (*team_size)();    // omp_get_num_threads
    int (*max_threads)();  // omp_get_max_threads
};

// Runs later calls on the threads of the runtime where it has enough. Otherwise, and in forked children, calls run on
// the pool's own workers. A runtime without functions ends the use of the one before.
void use_openmp_threads(OpenMpRuntime openmp);
bool uses_openmp_threads();

// Makes a task of a function object: its address is the context.
template <class Function> void call_function(void* function, int index) { (*static_cast<Function*>(function))(index); }

// Runs task(context, index) for each index 0..count-1 once, on the caller and up to count - 1 workers. Returns when all
// tasks have ended. The caller runs task 0, and polls `cancellation` while it waits for workers; tasks that see the
// cancellation end early. The caller runs all tasks while another call is inside the pool, while it is better alone
// (sharing.h), or where the system grants no threads; the bits are the same. Tasks run in the floating-point state of
// float_state.h. The first exception of a task is rethrown when all tasks have ended; other tasks may not have run
// then.
void run_tasks(int count, void (*task)(void* context, int index), void* context,
               CancellationToken* cancellation = nullptr);

// Runs tasks as run_tasks does, but the first `together` tasks at the same time, each on a thread of its own, so that
// they may wait for each other. These tasks must not throw: the others would wait forever. Returns false, and has run
// no task, where they cannot run at the same time: another call is inside the pool, the threads do not come in time,
// the caller is better alone now (sharing.h), the system grants too few threads, or the caller's affinity leaves fewer
// processors.
bool run_together(int count, const TeamRun& team, void (*task)(void* context, int index), void* context,
                  CancellationToken* cancellation = nullptr);

}  // namespace glasscell

// threadpoolctl finds these two functions by name (glasscell/threads.py).
extern "C" __attribute__((visibility("default"))) int glasscell_get_num_threads();
extern "C" __attribute__((visibility("default"))) void glasscell_set_num_threads(int threads);
