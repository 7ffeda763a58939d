#include "pool.h"

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace glasscell {
namespace {

int processors() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    const unsigned n = std::thread::hardware_concurrency();
    return n ? int(n) : 1;
}

int default_threads() {
    const char* const text = std::getenv("GLASSCELL_NUM_THREADS");
    if (!text || !*text) return processors();
    char* end = nullptr;
    const long n = std::strtol(text, &end, 10);
    if (*end || n < 1 || n > 4096)
        throw std::invalid_argument(std::string("GLASSCELL_NUM_THREADS: expected a positive integer, got '") + text +
                                    "'");
    return int(n);
}

std::atomic<int> threads_wanted{0};  // 0: not yet asked

class Pool {
  public:
    void run(int count, void (*task)(void*, int), void* context) {
        {
            std::lock_guard<std::mutex> lock(state_);
            while (int(workers_.size()) < count - 1) workers_.emplace_back([this] { work(); });
            task_ = task, context_ = context, count_ = count;
            next_.store(0);
            open_ = count;
            ++round_;
        }
        wake_.notify_all();
        drain(task, context, count);
        std::unique_lock<std::mutex> lock(state_);
        done_.wait(lock, [this] { return open_ == 0 && inside_ == 0; });
    }

    std::mutex entry;  // held by the call that uses the pool

  private:
    // Takes tasks until none is left; says how many it finished.
    void drain(void (*task)(void*, int), void* context, int count) {
        int finished = 0;
        for (int index; (index = next_.fetch_add(1)) < count; ++finished) task(context, index);
        if (!finished) return;
        std::lock_guard<std::mutex> lock(state_);
        if ((open_ -= finished) == 0) done_.notify_one();
    }

    void work() {
        std::unique_lock<std::mutex> lock(state_);
        for (long seen = 0;;) {
            wake_.wait(lock, [&] { return round_ != seen; });
            seen = round_;
            if (open_ == 0) continue;
            ++inside_;
            const auto task = task_;
            void* const context = context_;
            const int count = count_;
            lock.unlock();
            drain(task, context, count);
            lock.lock();
            if (--inside_ == 0 && open_ == 0) done_.notify_one();
        }
    }

    std::mutex state_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    void (*task_)(void*, int) = nullptr;
    void* context_ = nullptr;
    int count_ = 0, open_ = 0, inside_ = 0;
    long round_ = 0;
    std::atomic<int> next_{0};
};

// Never destroyed: workers sleep in it until the process ends, and a forked child, which has none of them, starts anew.
std::atomic<Pool*> pool{nullptr};

Pool& the_pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        pool.store(new Pool);
        pthread_atfork(nullptr, nullptr, [] { pool.store(new Pool); });
    });
    return *pool.load();
}

}  // namespace

int num_threads() {
    int n = threads_wanted.load();
    if (n == 0) threads_wanted.store(n = default_threads());
    return n;
}

void set_num_threads(int threads) {
    if (threads < 1) throw std::invalid_argument("threads: expected 1 or more, got " + std::to_string(threads));
    threads_wanted.store(threads);
}

void run_tasks(int count, void (*task)(void*, int), void* context) {
    if (count > 1) {
        Pool& shared = the_pool();
        std::unique_lock<std::mutex> entry(shared.entry, std::try_to_lock);
        if (entry.owns_lock()) return shared.run(count, task, context);
    }
    for (int index = 0; index < count; ++index) task(context, index);
}

}  // namespace glasscell
