// Checks the thread pool from C++. Run by test_process.py with the name of a check; prints only failures.
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <thread>
#include <vector>

#include "engine/sharing.h"
#include "engine/thread_pool.h"

using namespace glasscell;

#define CHECK(condition) \
    if (!(condition)) return std::printf("line %d: expected %s\n", __LINE__, #condition), 1

constexpr int64_t kSecond = 1'000'000'000;
static int64_t waited = 0;

// Runs `count` tasks, the first `size` at the same time, if their threads come within `patience`.
static bool run_team(int count, int size, void (*task)(void*, int), void* context, int64_t patience = 10 * kSecond) {
    return run_together(count, {size, patience, &waited}, task, context);
}

struct Meeting {
    int count;
    std::atomic<int> arrived{0}, others{0};
    std::thread::id ids[4]{};
};

// Makes each of the first `count` tasks wait for all of them. Without a thread for each task this never ends.
static void meet(void* context, int index) {
    Meeting& meeting = *static_cast<Meeting*>(context);
    if (index >= meeting.count) return void(++meeting.others);
    meeting.ids[index] = std::this_thread::get_id();
    for (++meeting.arrived; meeting.arrived < meeting.count;) std::this_thread::yield();
}

static bool all_meet(int count, int others = 0) {
    Meeting meeting{count};
    if (!run_team(count + others, count, meet, &meeting) || meeting.others != others) return false;
    return meeting.ids[0] == std::this_thread::get_id() &&
           std::set<std::thread::id>(meeting.ids, meeting.ids + count).size() == size_t(count);
}

static void count_task(void* context, int index) { ++static_cast<std::atomic<int>*>(context)[index]; }

static bool each_once(int count) {
    std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
    run_tasks(count, count_task, runs.data());
    return std::all_of(runs.begin(), runs.end(), [](const std::atomic<int>& n) { return n == 1; });
}

static int tasks() {
    for (int round = 0; round < 20000; ++round) {
        CHECK(each_once(round % 5));
        if (round % 1000 == 0) usleep(200);  // the workers go to sleep
    }
    CHECK(each_once(100));
    return 0;
}

// Checks tasks that run at the same time, where there are two processors.
static int together() {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2) return 0;
    for (int round = 0; round < 20000; ++round) {
        CHECK(all_meet(1 + round % 2));
        if (round % 1000 == 0) usleep(200);
    }
    CHECK(each_once(3));  // more workers than the next call needs
    for (int round = 0; round < 2000; ++round) CHECK(all_meet(2));
    const auto never = [](void*, int) { std::abort(); };
    CHECK(!run_team(CPU_COUNT(&set) + 1, CPU_COUNT(&set) + 1, never, nullptr));
    for (int round = 0; round < 2000; ++round) CHECK(all_meet(2, round % 4));  // more tasks than threads
    struct Inside {
        bool refused = false;
        std::atomic<int> runs[3]{};
    } inside;
    run_tasks(2, [](void* context, int index) {
        Inside& inside = *static_cast<Inside*>(context);
        if (index) return;
        inside.refused = !run_team(2, 2, [](void*, int) { std::abort(); }, nullptr);
        run_tasks(3, count_task, inside.runs);
    }, &inside);
    CHECK(inside.refused);
    for (const auto& n : inside.runs) CHECK(n == 1);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0) CHECK(!run_team(2, 2, never, nullptr));
    return 0;
}

// Checks calls without memory for the stack of a thread, and calls after that.
static int no_threads() {
    rlimit before;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    const rlimit limit = {1 << 20, before.rlim_max};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    CHECK(each_once(4));
    CHECK(!run_team(2, 2, [](void*, int) { std::abort(); }, nullptr));
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    if (std::thread::hardware_concurrency() > 1) CHECK(all_meet(2));
    return 0;
}

// Whether an error of a task comes out after all tasks have ended.
static bool throws(int count, int from, int to) {
    struct Some {
        int from, to;
        std::atomic<int> inside{0};
    } some{from, to};
    try {
        run_tasks(count, [](void* context, int index) {
            Some& some = *static_cast<Some*>(context);
            struct Inside {
                std::atomic<int>& count;
                explicit Inside(std::atomic<int>& count) : count(count) { ++count; }
                ~Inside() { --count; }
            } inside(some.inside);
            usleep(20);
            if (index >= some.from && index < some.to) throw std::bad_alloc();
        }, &some);
    } catch (const std::bad_alloc&) {
        return some.inside == 0;
    }
    return false;
}

static int errors() {
    const bool two = std::thread::hardware_concurrency() > 1;
    for (int round = 0; round < 300; ++round) {
        for (int count = 1; count < 4; ++count)
            for (int from = 0; from < count; ++from)
                for (int to = from + 1; to <= count; ++to) CHECK(throws(count, from, to));
        CHECK(each_once(3));
        if (two) CHECK(all_meet(2));
        struct Nested {
            static void run(void*, int) { run_tasks(2, [](void*, int) { throw std::bad_alloc(); }, nullptr); }
        };
        bool thrown = false;
        try {
            run_tasks(2, Nested::run, nullptr);
        } catch (const std::bad_alloc&) {
            thrown = true;
        }
        CHECK(thrown);
    }
    return 0;
}

// An OpenMP runtime that gives `team` threads, and says that it has `most`.
static int team = 2, most = 2;

static void parallel(void (*body)(void*), void* argument, unsigned, unsigned) {
    std::vector<std::thread> threads;
    for (int n = 1; n < team; ++n) threads.emplace_back(body, argument);
    body(argument);
    for (std::thread& thread : threads) thread.join();
}

static int openmp() {
    use_openmp_threads({parallel, [] { return team; }, [] { return most; }});
    CHECK(uses_openmp_threads());
    const bool two = std::thread::hardware_concurrency() > 1;
    for (int round = 0; round < 50; ++round) {
        team = 2;
        CHECK(each_once(2));
        if (two) CHECK(all_meet(2));
        for (int from = 0; from < 2; ++from) CHECK(throws(2, from, 2));
        if (two) CHECK(all_meet(2));
        team = 1;  // fewer than promised
        CHECK(each_once(2));
        CHECK(!run_team(2, 2, [](void*, int) { std::abort(); }, nullptr));
        CHECK(throws(2, 1, 2));
    }
    use_openmp_threads({});
    CHECK(!uses_openmp_threads());
    if (two) CHECK(all_meet(2));
    return 0;
}

// Checks that a caller whose threads come late gives them up, and that they then run nothing.
static int late() {
    set_teams(Teams::measured);
    use_openmp_threads({[](void (*body)(void*), void* argument, unsigned, unsigned) {
                            std::thread other([=] { usleep(100'000), body(argument); });
                            body(argument);
                            other.join();
                        },
                        [] { return 2; }, [] { return 2; }});
    CHECK(!run_team(3, 2, [](void*, int) { std::abort(); }, nullptr, 1000));
    CHECK(each_once(3));  // alone: the caller has lost a tenth of a second
    set_teams(Teams::always);
    CHECK(all_meet(2));
    return 0;
}

// Checks when runs share their work, and when they stay on one thread.
static int sharing() {
    constexpr int64_t kLost = 1'000'000;
    Sharing sharing;
    const auto alone_for = [&](int64_t time) {  // whether runs stay alone for exactly `time`
        sharing.record_alone(time - 1);
        const bool alone = !sharing.allowed();
        sharing.record_alone(1);
        return alone && sharing.allowed();
    };
    CHECK(sharing.allowed());
    sharing.record(10 * kLost, 10 * kLost);  // others worked as long as the caller waited: nothing lost
    CHECK(sharing.allowed());
    for (const int64_t times : {8, 16, 32}) {
        sharing.record(3 * kLost, 2 * kLost);
        CHECK(alone_for(times * kLost));
    }
    sharing.record(0, kLost);  // a gain
    CHECK(sharing.allowed());
    sharing.record(kLost, 0);
    CHECK(alone_for(32 * kLost));
    for (int n = 0; n < 9; ++n) sharing.record(kLost, 0);
    CHECK(alone_for(64 * 8 * kLost));
    sharing.record(20 * kLost, 0);  // a second at most
    CHECK(alone_for(kSecond));
    sharing.record(kSecond, 0);  // unless eight times the last loss is longer
    CHECK(alone_for(8 * kSecond));
    return 0;
}

int main(int, char** arguments) {
    const char* const name = arguments[1];
    set_teams(Teams::always);
    if (!std::strcmp(name, "tasks")) return tasks();
    if (!std::strcmp(name, "together")) return together();
    if (!std::strcmp(name, "no_threads")) return no_threads();
    if (!std::strcmp(name, "errors")) return errors();
    if (!std::strcmp(name, "openmp")) return openmp();
    if (!std::strcmp(name, "late")) return late();
    if (!std::strcmp(name, "sharing")) return sharing();
    return 2;
}
