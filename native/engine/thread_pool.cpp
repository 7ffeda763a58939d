#include "engine/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "engine/cpu_count.h"
#include "engine/float_state.h"
#include "interface/cpu_pause.h"

namespace glasscell {
namespace {

constexpr int kMostThreads = 4096;

int default_threads() {
    const char* const text = std::getenv("GLASSCELL_NUM_THREADS");
    if (!text || !*text) return std::min(available_cpus(), kMostThreads);
    char* end = nullptr;
    const long n = std::strtol(text, &end, 10);
    if (*end || n < 1 || n > kMostThreads)
        throw std::invalid_argument(std::string("GLASSCELL_NUM_THREADS: expected a positive integer, got '") + text +
                                    "'");
    return int(n);
}

std::atomic<int> threads_wanted{0};  // 0: not yet asked

using Task = void (*)(void* context, int index);

// Tasks as threads of any kind may run them: in the known floating-point state, the first error kept for the caller.
struct Guarded {
    Task task;
    void* context;
    std::atomic<bool> failed{false};
    std::exception_ptr error{};

    static void run(void* self, int index) noexcept {
        Guarded& tasks = *static_cast<Guarded*>(self);
        try {
            const KnownFloats known;
            tasks.task(tasks.context, index);
        } catch (...) {
            if (!tasks.failed.exchange(true)) tasks.error = std::current_exception();
        }
    }

    void rethrow() const {
        if (error) std::rethrow_exception(error);
    }
};

using std::chrono::microseconds;

// Waking a sleeper costs some 10 us, and milliseconds where its processor is a virtual one that others are given meanwhile.
// So both sides first look for what they wait for: in a tight loop, then, for longer, letting any other thread go first
// each time. A processor that only spins is missing to the other threads of the process (those of an OpenMP runtime slow
// down a thousandfold). The caller looks for longer, for a call is going on; a worker may have had its last task.
constexpr microseconds kSpin(30), kForTask(1000), kForEnd(10000);

template <class Ready> bool wait_awake(microseconds most, Ready ready) {
    const auto start = std::chrono::steady_clock::now();
    for (auto waited = start - start; waited < most; waited = std::chrono::steady_clock::now() - start) {
        if (waited > kSpin) std::this_thread::yield();
        for (int n = 0; n < 16; ++n, cpu_pause())
            if (ready()) return true;
    }
    return false;
}

// One call at a time. The caller runs task 0; the others are counted down by whoever claims them, the caller included.
class Pool {
  public:
    // False, and nothing has run, if another call is inside or fewer than `needed` workers can be had.
    bool run(int count, Task task, void* context, CancellationToken* cancellation, int needed) {
        if (busy_.exchange(true, std::memory_order_acquire)) return false;
        const OpenMpRuntime* const openmp = openmp_.load(std::memory_order_acquire);
        const bool lent = openmp && openmp->most_threads() >= count;
        const bool enough = lent ? run_on_openmp(*openmp, count, task, context, cancellation, needed)
                                   : start_workers(count - 1) >= needed;
        if (enough && !lent) {
            post(count, task, context);
            wake_workers(count - 1);
            run_caller(cancellation);
        }
        busy_.store(false, std::memory_order_release);
        return enough;
    }

    void use_openmp(const OpenMpRuntime* openmp) { openmp_.store(openmp, std::memory_order_release); }
    bool uses_openmp() const { return openmp_.load(std::memory_order_acquire); }

  private:
    void post(int count, Task task, void* context) {
        task_ = task, context_ = context;
        unfinished_.store(count - 1);
        unclaimed_.store(count - 1);
    }

    void run_caller(CancellationToken* cancellation) {
        task_(context_, 0);
        while (run_one()) {}
        await_end(cancellation);
    }

    // On an OpenMP runtime's threads. False, and nothing has run, where fewer come than it promised.
    bool run_on_openmp(const OpenMpRuntime& openmp, int count, Task task, void* context, CancellationToken* cancellation, int needed) {
        bool enough = false;
        std::atomic<bool> posted{false};
        const pthread_t caller = pthread_self();
        const auto body = [&] {
            if (openmp.team_size() - 1 < needed) return;  // all of them see the same
            if (pthread_equal(caller, pthread_self())) {
                enough = true;
                post(count, task, context);
                posted.store(true);
                run_caller(cancellation);
            } else {
                while (!posted.load()) cpu_pause();
                while (run_one()) {}
            }
        };
        using Body = decltype(body);
        openmp.parallel([](void* argument) { (*static_cast<const Body*>(argument))(); },
                        const_cast<void*>(static_cast<const void*>(&body)), 0, 0);  // 0: as many as usual
        return enough;
    }

    // At least `count` workers, or as many as the system grants.
    int start_workers(int count) {
        try {
            for (; workers_ < count; ++workers_) std::thread([this] { work(); }).detach();
        } catch (const std::exception&) {  // no more threads, or no memory for one
        }
        return workers_;
    }

    // A worker says that it sleeps before it looks at the tasks for the last time, and the caller sets the tasks before
    // it looks for sleepers: one of the two sees the other. So too, the other way round, in await_end.
    void wake_workers(int count) {
        const int sleeping = sleeping_.load(), missing = count - (workers_ - sleeping);
        if (missing <= 0) return;
        { std::lock_guard<std::mutex> lock(state_); }  // whoever said that it sleeps does
        if (missing >= sleeping) return wake_.notify_all();
        for (int n = 0; n < missing; ++n) wake_.notify_one();
    }

    bool run_one() {
        int index = unclaimed_.load();
        while (index > 0 && !unclaimed_.compare_exchange_weak(index, index - 1)) {}
        if (index <= 0) return false;
        task_(context_, index);
        if (unfinished_.fetch_sub(1) == 1 && waiting_.load()) {
            { std::lock_guard<std::mutex> lock(state_); }
            done_.notify_one();
        }
        return true;
    }

    void await_end(CancellationToken* cancellation) {
        const auto ended = [this] { return unfinished_.load() == 0; };
        if (wait_awake(kForEnd, ended)) return;
        std::unique_lock<std::mutex> lock(state_);
        waiting_.store(true);
        while (!done_.wait_for(lock, std::chrono::milliseconds(50), ended)) {
            if (!cancellation) continue;
            lock.unlock();
            cancellation->poll(cancellation);
            lock.lock();
        }
        waiting_.store(false);
    }

    void work() {
#if defined(__linux__)
        pthread_setname_np(pthread_self(), "glasscell");
#endif
        const auto called = [this] { return unclaimed_.load() > 0; };
        for (;;) {
            while (run_one()) {}
            if (wait_awake(kForTask, called)) continue;
            std::unique_lock<std::mutex> lock(state_);
            ++sleeping_;
            wake_.wait(lock, called);
            --sleeping_;
        }
    }

    // The two counts that are spun on keep to their own cache lines.
    alignas(64) std::atomic<int> unclaimed_{0};
    alignas(64) std::atomic<int> unfinished_{0};
    alignas(64) Task task_ = nullptr;
    void* context_ = nullptr;
    int workers_ = 0;
    std::atomic<const OpenMpRuntime*> openmp_{nullptr};
    std::atomic<bool> busy_{false}, waiting_{false};
    std::atomic<int> sleeping_{0};
    std::mutex state_;
    std::condition_variable wake_, done_;
};

// Never destroyed: workers sleep in it until the process ends, and a forked child, which has none of them, starts anew. Null
// in a child that has no memory for one: it computes on one thread.
std::atomic<Pool*> pool{new Pool};
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { pool.store(new (std::nothrow) Pool); });

// As Pool::run.
bool run_in_pool(int count, Guarded& tasks, CancellationToken* cancellation, int needed) {
    Pool* const here = pool.load();
    return here && here->run(count, Guarded::run, &tasks, cancellation, needed);
}

}  // namespace

int num_threads() {
    int n = threads_wanted.load();
    if (n == 0) threads_wanted.store(n = default_threads());
    return n;
}

void set_num_threads(int threads) {
    if (threads < 1 || threads > kMostThreads)
        throw std::invalid_argument("threads: expected 1 to " + std::to_string(kMostThreads) + ", got " +
                                    std::to_string(threads));
    threads_wanted.store(threads);
}

void use_openmp_threads(OpenMpRuntime openmp) {
    const OpenMpRuntime* const kept = openmp.parallel ? new OpenMpRuntime(openmp) : nullptr;  // never freed: a call may be looking at it
    if (Pool* const here = pool.load()) here->use_openmp(kept);
}

bool uses_openmp_threads() {
    const Pool* const here = pool.load();
    return here && here->uses_openmp();
}

void run_tasks(int count, void (*task)(void*, int), void* context, CancellationToken* cancellation) {
    Guarded tasks{task, context};
    if (count <= 1 || !run_in_pool(count, tasks, cancellation, 0))
        for (int index = 0; index < count && !tasks.failed; ++index) Guarded::run(&tasks, index);
    tasks.rethrow();
}

bool run_together(int count, int together, void (*task)(void*, int), void* context, CancellationToken* cancellation) {
    if (together <= 1) {
        run_tasks(count, task, context, cancellation);
        return true;
    }
    Guarded tasks{task, context};
    if (together > affinity_cpus() || !run_in_pool(count, tasks, cancellation, together - 1)) return false;
    tasks.rethrow();
    return true;
}

}  // namespace glasscell

int glasscell_get_num_threads() {
    try {
        return glasscell::num_threads();
    } catch (const std::invalid_argument&) {
        return 1;
    }
}

void glasscell_set_num_threads(int threads) {
    try {
        glasscell::set_num_threads(threads);
    } catch (const std::invalid_argument&) {  // as other libraries do with such a number
    }
}
