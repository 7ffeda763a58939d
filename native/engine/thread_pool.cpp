#include "engine/thread_pool.h"

#include <pthread.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "engine/cpu_count.h"
#include "engine/sharing.h"
#include "engine/tasks.h"
#include "engine/wait_awake.h"
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

std::atomic<int> current_threads{0};  // 0: not yet read from the environment

// Runs one call at a time. The caller runs task 0; workers and the caller claim the other tasks by counting down.
class Pool {
  public:
    // Runs the tasks. Returns false, and has run no task, if another call is inside, the caller is better alone now
    // (sharing.h), or there are too few workers for a team. `team` is null where tasks do not wait for each other.
    bool run(int count, GuardedTasks& tasks, CancellationToken* cancellation, const Gathering* team) {
        if (busy_.exchange(true, std::memory_order_acquire)) return false;
        const OpenMpRuntime* const openmp = openmp_.load(std::memory_order_acquire);
        const bool uses_openmp = openmp && openmp->max_threads() >= count;
        const int needed = team ? team->team.together - 1 : 0;
        const bool enough = may_share() && (uses_openmp
                                                ? run_on_openmp(*openmp, count, tasks, cancellation, needed)
                                                : start_workers(count - 1) >= needed);
        if (enough && !uses_openmp) {
            post(count, tasks);
            wake_workers(count - 1);
            run_caller(cancellation);
        }
        if (enough) record(team ? team->waited + *team->team.waited : 0);
        busy_.store(false, std::memory_order_release);
        return enough && (!team || team->all_here());
    }

    // Runs all tasks on the caller.
    void run_alone(int count, GuardedTasks& tasks) {
        static thread_local bool inside = false;  // a task may itself run tasks
        if (inside || sharing_.allowed()) return tasks.run_all(count);
        inside = true;
        const int64_t start = steady_now();
        tasks.run_all(count);
        sharing_.record_alone(steady_now() - start);
        inside = false;
    }

    void use_openmp(const OpenMpRuntime* openmp) { openmp_.store(openmp, std::memory_order_release); }
    bool uses_openmp() const { return openmp_.load(std::memory_order_acquire); }

  private:
    bool may_share() const {
        return teams() == Teams::measured ? sharing_.allowed() : teams() == Teams::always || draw() % 4;
    }

    // waited: how long the caller's tasks have waited for other threads, before the caller was done with its tasks.
    void record(int64_t waited) {
        constexpr int64_t kLong = 100'000;
        const int64_t end = steady_now(), helped = helped_.load(std::memory_order_relaxed);
        sharing_.record(waited + end - done_, helped);
        long_ = helped > kLong || end - done_ > kLong;
    }

    void post(int count, GuardedTasks& tasks) {
        tasks_ = &tasks, count_ = count;
        helped_.store(0, std::memory_order_relaxed);
        unfinished_.store(count - 1);
        unclaimed_.store(count - 1);
    }

    void run_caller(CancellationToken* cancellation) {
        GuardedTasks::run(tasks_, 0);
        while (run_one()) {}
        done_ = steady_now();
        await_end(cancellation);
    }

    // Runs tasks on the threads of an OpenMP runtime. Returns false, and has run no task, where the runtime gives fewer
    // threads than promised.
    bool run_on_openmp(const OpenMpRuntime& openmp, int count, GuardedTasks& tasks, CancellationToken* cancellation,
                       int needed) {
        bool enough = false;
        std::atomic<bool> posted{false};
        const pthread_t caller = pthread_self();
        const auto body = [&] {
            if (openmp.team_size() - 1 < needed) return;  // all threads find the same
            if (pthread_equal(caller, pthread_self())) {
                enough = true;
                post(count, tasks);
                posted.store(true);
                run_caller(cancellation);
            } else {
                while (!posted.load()) cpu_pause();
                while (help()) {}
            }
        };
        using Body = decltype(body);
        openmp.parallel([](void* argument) { (*static_cast<const Body*>(argument))(); },
                        const_cast<void*>(static_cast<const void*>(&body)), 0, 0);  // 0: as many as usual
        return enough;
    }

    // Starts workers until there are `count`, or as many as the system grants. Returns how many there are.
    int start_workers(int count) {
        try {
            for (; workers_ < count; ++workers_) std::thread([this] { work(); }).detach();
        } catch (const std::exception&) {  // no more threads, or no memory for one
        }
        return workers_;
    }

    // A worker counts itself as a sleeper before it reads the tasks for the last time, and the caller posts the tasks
    // before it reads the number of sleepers. So the worker sees the tasks, or the caller sees the sleeper. await_end
    // and finish do the same with the roles exchanged.
    void wake_workers(int count) {
        const int sleeping = sleeping_.load(), missing = count - (workers_ - sleeping);
        if (missing <= 0) return;
        { std::lock_guard<std::mutex> lock(state_); }  // now all counted sleepers sleep
        if (missing >= sleeping) return wake_.notify_all();
        for (int n = 0; n < missing; ++n) wake_.notify_one();
    }

    // Runs a task for another thread's call, and counts the processor time that it takes. After a short run it counts
    // the time that passes, because the system takes a while to tell the processor time.
    bool help() {
        const int index = claim();
        if (!index) return false;
        const clockid_t clock = long_ ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
        const int64_t start = nanoseconds(clock);
        GuardedTasks::run(tasks_, index);
        helped_.fetch_add(nanoseconds(clock) - start, std::memory_order_relaxed);
        finish();
        return true;
    }

    bool run_one() {
        const int index = claim();
        if (!index) return false;
        GuardedTasks::run(tasks_, index);
        finish();
        return true;
    }

    // Claims the next task. Returns its index, from 1 on, or 0 where no task is left.
    int claim() {
        int left = unclaimed_.load();
        while (left > 0 && !unclaimed_.compare_exchange_weak(left, left - 1)) {}
        return left > 0 ? count_ - left : 0;
    }

    void finish() {
        if (unfinished_.fetch_sub(1) == 1 && waiting_.load()) {
            { std::lock_guard<std::mutex> lock(state_); }
            ended_.notify_one();
        }
    }

    void await_end(CancellationToken* cancellation) {
        const auto ended = [this] { return unfinished_.load() == 0; };
        if (wait_awake(kAwakeForEnd, ended)) return;
        std::unique_lock<std::mutex> lock(state_);
        waiting_.store(true);
        while (!ended_.wait_for(lock, std::chrono::milliseconds(50), ended)) {
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
            while (help()) {}
            if (wait_awake(kAwakeForTask, called)) continue;
            std::unique_lock<std::mutex> lock(state_);
            ++sleeping_;
            wake_.wait(lock, called);
            --sleeping_;
        }
    }

    // The two counts on which threads spin have cache lines of their own.
    alignas(64) std::atomic<int> unclaimed_{0};
    alignas(64) std::atomic<int> unfinished_{0};
    alignas(64) GuardedTasks* tasks_ = nullptr;
    int count_ = 0;
    int64_t done_ = 0;   // when the caller had no task left
    bool long_ = true;  // whether the run before kept its threads for long
    std::atomic<int64_t> helped_{0};
    Sharing sharing_;
    int workers_ = 0;
    std::atomic<const OpenMpRuntime*> openmp_{nullptr};
    std::atomic<bool> busy_{false}, waiting_{false};
    std::atomic<int> sleeping_{0};
    std::mutex state_;
    std::condition_variable wake_, ended_;
};

// The pool is never destroyed: workers sleep in it until the process ends. A forked child has none of them and gets a
// new pool, or null where it has no memory for one: it then computes on one thread.
std::atomic<Pool*> pool{new Pool};
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { pool.store(new (std::nothrow) Pool); });

}  // namespace

int num_threads() {
    int n = current_threads.load();
    if (n == 0) current_threads.store(n = default_threads());
    return n;
}

void set_num_threads(int threads) {
    if (threads < 1 || threads > kMostThreads)
        throw std::invalid_argument("threads: expected 1 to " + std::to_string(kMostThreads) + ", got " +
                                    std::to_string(threads));
    current_threads.store(threads);
}

void use_openmp_threads(OpenMpRuntime openmp) {
    // Never freed: a call may be reading it.
    const OpenMpRuntime* const kept = openmp.parallel ? new OpenMpRuntime(openmp) : nullptr;
    if (Pool* const here = pool.load()) here->use_openmp(kept);
}

bool uses_openmp_threads() {
    const Pool* const here = pool.load();
    return here && here->uses_openmp();
}

void run_tasks(int count, void (*task)(void*, int), void* context, CancellationToken* cancellation) {
    GuardedTasks tasks{task, context};
    Pool* const here = pool.load();
    if (!here)
        tasks.run_all(count);
    else if (count <= 1 || !here->run(count, tasks, cancellation, nullptr))
        here->run_alone(count, tasks);
    tasks.rethrow();
}

bool run_together(int count, const TeamRun& team, void (*task)(void*, int), void* context,
                  CancellationToken* cancellation) {
    if (team.together > affinity_cpus()) return false;
    Gathering gathering{task, context, team};
    GuardedTasks tasks{Gathering::run, &gathering};
    Pool* const here = pool.load();
    if (!here || !here->run(count, tasks, cancellation, &gathering)) return false;
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
    } catch (const std::invalid_argument&) {  // ignored, as by other libraries
    }
}
