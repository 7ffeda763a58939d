// The tasks of one run of the thread pool.
#pragma once

#include <atomic>
#include <exception>

#include "engine/float_state.h"

namespace glasscell {

using Task = void (*)(void* context, int index);

// Runs tasks on threads of any kind, in the default floating-point state. Keeps the first error for the caller.
struct GuardedTasks {
    Task task;
    void* context;
    std::atomic<bool> failed{false};
    std::exception_ptr error{};

    static void run(void* self, int index) noexcept {
        GuardedTasks& tasks = *static_cast<GuardedTasks*>(self);
        try {
            const KnownFloats known;
            tasks.task(tasks.context, index);
        } catch (...) {
            if (!tasks.failed.exchange(true)) tasks.error = std::current_exception();
        }
    }

    void run_all(int count) {
        for (int index = 0; index < count && !failed; ++index) run(this, index);
    }

    void rethrow() const {
        if (error) std::rethrow_exception(error);
    }
};

}  // namespace glasscell
