// Who does what: how a pass is split over threads.
//
// Many rows are split over threads that never wait for each other. Where there are too few rows to fill the tiles of all
// threads, the units are split too, and the threads of the same rows form a team that meets after each step.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "interface/kernel_table.h"
#include "engine/thread_pool.h"

namespace glasscell {

struct ThreadGrid {
    int rows, units;  // parts of the rows, and of the units of each: rows * units threads
};

// How many threads are worth waking for so many multiply-adds: 1 or more.
int worth_threads(double multiply_adds);

// The work of a thread for which it is worth to meet after each step, in multiply-adds. A meeting and what is exchanged
// at it take about 0.5 us forward (h), and more backward (the gradients of four gates). Measured on two cores.
constexpr double kForwardMeeting = 50e3, kBackwardMeeting = 30e3;

// The choice. `step`: the multiply-adds of one step of all rows; `meeting`: one of the above; `tile_rows`: rows that fill
// a tile; `lanes`: units of one block, the least a thread can have.
ThreadGrid choose_grid(int64_t B, int64_t time, double step, int64_t H, double meeting, int threads, int64_t tile_rows,
               int64_t lanes);

// Which rows of the batch a group has.
using Rows = std::vector<int64_t>;

// All rows, in `groups` groups: neighbours together; with masks or lengths those with the most kept steps first and assigned
// out in turn, so that all groups have about as many and end at about the same time.
template <class T> std::vector<Rows> assign_rows(const Call<T>& call, int groups);

// Runs work(begin, end) over 0..total-1 split evenly into at most `threads` ranges.
template <class Work> void split(int64_t total, int threads, CancellationToken* cancellation, Work work) {
    const int64_t count = threads < total ? threads : total;
    auto range = [&](int index) { work(total * index / count, total * (index + 1) / count); };
    using Range = decltype(range);
    run_tasks(int(count), [](void* opaque, int index) { (*static_cast<Range*>(opaque))(index); }, &range,
              cancellation);
}

// Whether the call is to end early. The thread that made it polls; the others only look.
inline bool poll_cancelled(CancellationToken* cancellation) {
    if (cancellation && pthread_equal(cancellation->caller, pthread_self())) cancellation->poll(cancellation);
    return cancelled(cancellation);
}

// As split, in pieces of `most` at most, so that it may end between them.
template <class Work> void split_into_pieces(int64_t total, int64_t most, int threads, CancellationToken* cancellation, Work work) {
    split(total, threads, cancellation, [&](int64_t begin, int64_t end) {
        for (; begin < end && !poll_cancelled(cancellation); begin += most) work(begin, std::min(begin + most, end));
    });
}

// The parts of a grid, ready to run any number of times without allocating.
class Schedule {
  public:
    // Units are split at multiples of `granularity`.
    Schedule(ThreadGrid grid, std::vector<Rows> rows, int64_t H, int64_t granularity);
    Schedule(const Schedule&) = delete;  // its parts point into it

    int size() const { return int(parts_.size()); }
    int group(int index) const { return index / units_; }  // the parts of the same rows
    int groups() const { return size() / units_; }

    // The most that size(rows) gives for what may run as `index`.
    template <class Size> size_t most(int index, Size size) const {
        const size_t own = size(parts_[size_t(index)].count), serial = index || units_ == 1 ? 0 : size(serial_.count);
        return own > serial ? own : serial;
    }

    // Runs work(item, index) for all parts; where teams cannot run at the same time, for all rows and units as index 0.
    template <class Work> void run(CancellationToken* cancellation, Work work) {
        run(size(), cancellation, work, [](int) {});
    }

    // The same, and rest(index) after each, and alone for what remains of `threads`.
    template <class Work, class Rest> void run(int threads, CancellationToken* cancellation, Work work, Rest rest) {
        auto one = [&](int index) {
            if (index < size()) work(parts_[size_t(index)], index);
            rest(index);
        };
        using One = decltype(one);
        const auto task = [](void* opaque, int index) { (*static_cast<One*>(opaque))(index); };
        const int count = std::max(size(), threads);
        if (units_ == 1) return run_tasks(count, task, &one, cancellation);
        if (run_together(count, size(), task, &one, cancellation)) return;
        split(1, 1, cancellation, [&](int64_t, int64_t) { work(serial_, 0), rest(0); });
    }

  private:
    int units_;
    std::vector<Rows> rows_;
    std::vector<BarrierSlot> slots_;
    std::vector<ThreadGroup> thread_groups_;
    std::vector<WorkItem> parts_;
    Rows all_;
    WorkItem serial_;  // everything
};

// DeferredProducts of work, each done once, by whichever thread comes to it first.
class WorkQueue {
  public:
    explicit WorkQueue(int64_t total) : taken_(size_t(total)) {}

    // As thread `index` of `threads`: work(n) for the pieces that nobody has taken, its own part of them first.
    template <class Work> void run(int index, int threads, CancellationToken* cancellation, Work work) {
        const size_t total = taken_.size(), first = total * size_t(index) / size_t(threads);
        for (size_t k = 0; k < total && !poll_cancelled(cancellation); ++k) {
            const size_t n = (first + k) % total;
            if (!taken_[n].exchange(true)) work(int64_t(n));
        }
    }

  private:
    std::vector<std::atomic<bool>> taken_;
};

}  // namespace glasscell
