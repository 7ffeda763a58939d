// What only C++ sees of the thread pool. Run by test_process.py with the name of a check; prints nothing but failures.
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "../native/pool.h"

using namespace glasscell;

#define CHECK(condition) \
    if (!(condition)) return std::printf("line %d: expected %s\n", __LINE__, #condition), 1

struct Meeting {
    int count;
    std::atomic<int> arrived{0}, others{0};
    std::thread::id ids[4]{};
};

// Each of the first `count` tasks waits until all of them have come: without a thread for each this never ends.
static void meet(void* context, int index) {
    Meeting& meeting = *static_cast<Meeting*>(context);
    if (index >= meeting.count) return void(++meeting.others);
    meeting.ids[index] = std::this_thread::get_id();
    for (++meeting.arrived; meeting.arrived < meeting.count;) std::this_thread::yield();
}

static bool all_meet(int count, int others = 0) {
    Meeting meeting{count};
    if (!run_together(count + others, count, meet, &meeting) || meeting.others != others) return false;
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

// Two processors are all it takes; without them there is nothing to check.
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
    CHECK(!run_together(CPU_COUNT(&set) + 1, CPU_COUNT(&set) + 1, never, nullptr));
    for (int round = 0; round < 2000; ++round) CHECK(all_meet(2, round % 4));  // more tasks than threads
    struct Inside {
        bool refused = false;
        std::atomic<int> runs[3]{};
    } inside;
    run_tasks(2, [](void* context, int index) {
        Inside& inside = *static_cast<Inside*>(context);
        if (index) return;
        inside.refused = !run_together(2, 2, [](void*, int) { std::abort(); }, nullptr);
        run_tasks(3, count_task, inside.runs);
    }, &inside);
    CHECK(inside.refused);
    for (const auto& n : inside.runs) CHECK(n == 1);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0) CHECK(!run_together(2, 2, never, nullptr));
    return 0;
}

// Room for nothing more, least of all for the stack of a thread.
static int no_threads() {
    const rlimit limit = {1 << 20, 1 << 20};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    CHECK(each_once(4));
    CHECK(!run_together(2, 2, [](void*, int) { std::abort(); }, nullptr));
    return 0;
}

int main(int, char** arguments) {
    const char* const name = arguments[1];
    if (!std::strcmp(name, "tasks")) return tasks();
    if (!std::strcmp(name, "together")) return together();
    if (!std::strcmp(name, "no_threads")) return no_threads();
    return 2;
}
