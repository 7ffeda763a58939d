// A small thread pool. Idle workers sleep; nothing ever runs nested; safe after fork.
#pragma once

namespace glasscell {

// The threads a call may use: GLASSCELL_NUM_THREADS if set, else the processors this process may run on.
// Throws std::invalid_argument where the variable is not a positive integer.
int num_threads();
void set_num_threads(int threads);  // 1 or more

// Runs task(context, 0..count-1), each once, on the caller and up to count - 1 workers; returns when all are done.
// Called while another thread is inside, it runs all tasks on the caller: the results are the same bits.
void run_tasks(int count, void (*task)(void* context, int index), void* context);

}  // namespace glasscell
