// Who does what: how a pass is split over threads.
//
// Many rows are split over threads that never wait for each other. Where there are too few rows to fill the tiles of all
// threads, the units are split too, and the threads of the same rows form a team that meets after each step.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "kernels.h"
#include "pool.h"

namespace glasscell {

struct Plan {
    int rows, units;  // parts of the rows, and of the units of each: rows * units threads
};

// How many threads are worth waking for so many multiply-adds: 1 or more.
int worth_threads(double multiply_adds);

// The work of a thread for which it is worth to meet after each step, in multiply-adds. A meeting and what is exchanged
// at it take about 0.5 us forward (h), and more backward (the gradients of four gates). Measured on two cores.
constexpr double kForwardMeeting = 50e3, kBackwardMeeting = 30e3;

// The choice. `step`: the multiply-adds of one step of all rows; `meeting`: one of the above; `tile_rows`: rows that fill
// a tile; `lanes`: units of one block, the least a thread can have.
Plan make_plan(int64_t B, int64_t time, double step, int64_t H, double meeting, int threads, int64_t tile_rows,
               int64_t lanes);

// Which rows of the batch a group has.
using Rows = std::vector<int64_t>;

// All rows, in `groups` groups: neighbours together; with masks or lengths those with the most kept steps first and dealt
// out in turn, so that all groups have about as many and end at about the same time.
template <class T> std::vector<Rows> deal_rows(const Call<T>& call, int groups);

// The parts of a plan, ready to run any number of times without allocating.
class Schedule {
  public:
    // Units are split at multiples of `grain`.
    Schedule(Plan plan, std::vector<Rows> rows, int64_t H, int64_t grain);
    Schedule(const Schedule&) = delete;  // its parts point into it

    int size() const { return int(parts_.size()); }
    int group(int index) const { return index / units_; }  // the parts of the same rows
    int groups() const { return size() / units_; }

    // The most that size(rows) gives for what may run as `index`.
    template <class Size> size_t most(int index, Size size) const {
        const size_t own = size(parts_[size_t(index)].count), alone = index || units_ == 1 ? 0 : size(alone_.count);
        return own > alone ? own : alone;
    }

    // Runs work(part, index) for all parts; where teams cannot run at the same time, for all rows and units as index 0.
    template <class Work> void run(Interrupt* interrupt, Work work) {
        auto one = [&](int index) { work(parts_[size_t(index)], index); };
        using One = decltype(one);
        const auto task = [](void* opaque, int index) { (*static_cast<One*>(opaque))(index); };
        if (units_ == 1) return run_tasks(size(), task, &one, interrupt);
        if (!run_together(size(), task, &one, interrupt)) work(alone_, 0);
    }

  private:
    int units_;
    std::vector<Rows> rows_;
    std::vector<Arrivals> arrivals_;
    std::vector<Team> teams_;
    std::vector<Part> parts_;
    Rows all_;
    Part alone_;  // everything
};

// Runs work(begin, end) over 0..total-1 split evenly into at most `threads` ranges.
template <class Work> void split(int64_t total, int threads, Interrupt* interrupt, Work work) {
    const int64_t count = threads < total ? threads : total;
    auto range = [&](int index) { work(total * index / count, total * (index + 1) / count); };
    using Range = decltype(range);
    run_tasks(int(count), [](void* opaque, int index) { (*static_cast<Range*>(opaque))(index); }, &range,
              interrupt);
}

// Runs work(index) for 0..total-1 on at most `threads` threads, each taking the next one when it is free.
template <class Work> void share(int64_t total, int threads, Interrupt* interrupt, Work work) {
    std::atomic<int64_t> next{0};
    split(total < threads ? total : threads, threads, interrupt, [&](int64_t, int64_t) {
        for (int64_t index; (index = next.fetch_add(1)) < total;) work(index);
    });
}

}  // namespace glasscell
