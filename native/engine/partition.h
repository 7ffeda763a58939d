// Splits a pass over threads.
//
// Many rows are split over threads that never wait for each other. Where there are too few rows to fill the tiles of
// all threads, the units are split too. The threads that share rows are then a thread group, and wait for each other at
// a barrier after each step.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "engine/thread_pool.h"
#include "interface/kernel_table.h"

namespace glasscell {

struct ThreadGrid {
    int rows, units;  // groups of rows, and shares of the units in each group

    int threads() const { return rows * units; }
};

// How many threads are worth waking for this many multiply-adds: 1 or more.
int worth_threads(double multiply_adds);

// The multiply-adds of one step of all rows, counting `inputs` inputs; and of all steps, with all inputs.
template <class T> double step_multiply_adds(const Call<T>& call, int64_t inputs);
template <class T> double multiply_adds(const Call<T>& call) {
    return step_multiply_adds(call, call.I) * double(call.time);
}

// The least work of one thread between two barriers, in multiply-adds, that is worth the wait. A barrier and the
// exchange of data after it take about 0.5 us forward (the data are h), and more backward (the gradients of four
// gates). Measured on two cores.
constexpr double kForwardBarrier = 50e3, kBackwardBarrier = 30e3;

// Chooses the grid for a loop of `steps` steps with `inputs` inputs. `barrier`: one of the two constants above.
template <class T> ThreadGrid choose_grid(const Call<T>& call, int64_t steps, int64_t inputs, double barrier);

// Runs work(begin, end) over 0..total-1 split evenly into at most `threads` ranges.
template <class Work> void split(int64_t total, int threads, CancellationToken* cancellation, Work work) {
    const int64_t count = threads < total ? threads : total;
    auto range = [&](int index) { work(total * index / count, total * (index + 1) / count); };
    run_tasks(int(count), call_function<decltype(range)>, &range, cancellation);
}

// Returns whether the call is to end early. The caller's thread polls the token; other threads only read its flag.
inline bool poll_cancelled(CancellationToken* cancellation) {
    if (cancellation && pthread_equal(cancellation->caller, pthread_self())) cancellation->poll(cancellation);
    return cancelled(cancellation);
}

// Runs work(begin, end) as split does, in pieces of at most `most`. A cancelled call ends between two pieces.
template <class Work>
void split_into_pieces(int64_t total, int64_t most, int threads, CancellationToken* cancellation, Work work) {
    split(total, threads, cancellation, [&](int64_t begin, int64_t end) {
        for (; begin < end && !poll_cancelled(cancellation); begin += most) work(begin, std::min(begin + most, end));
    });
}

// Runs work(begin, end) over the rows of a matrix, to pack or transpose it. `numbers`: how many elements a row has;
// each takes as long as some 16 multiply-adds.
template <class Work> void split_packing(int64_t rows, int64_t numbers, CancellationToken* cancellation, Work work) {
    constexpr int64_t kNumbers = 1 << 22;  // elements of a piece: some milliseconds
    const int64_t most = std::max<int64_t>(1, kNumbers / std::max<int64_t>(1, numbers));
    split_into_pieces(rows, most, worth_threads(16 * double(rows * numbers)), cancellation, work);
}

// Runs run(pass) for all passes. Each pass has a thread of its own where no pass could use more threads than there are
// passes, and all passes together are worth that many threads. Otherwise they run one after another. call_of(pass) is a
// Call, grid_of(pass) its grid.
template <class Pass, class CallOf, class GridOf, class Run>
void run_concurrently(const std::vector<Pass>& passes, CallOf call_of, GridOf grid_of, Run run) {
    double total = 0;
    int most = 1;
    for (const Pass& pass : passes) {
        total += multiply_adds(call_of(pass));
        most = std::max(most, grid_of(pass).threads());
    }
    const int count = int(passes.size()), threads = most <= count && count <= worth_threads(total) ? count : 1;
    split(count, threads, call_of(passes[0]).cancellation, [&](int64_t begin, int64_t end) {
        for (; begin < end; ++begin) run(passes[size_t(begin)]);
    });
}

// The work items of a grid. They can run any number of times without allocating.
class Schedule {
  public:
    // Splits units at multiples of `granularity`. Without step flags, neighbouring rows are in the same group. With
    // step flags the rows are dealt to the groups in turn, those with the most kept steps first, so that all groups end
    // at about the same time.
    template <class T> Schedule(const Call<T>& call, ThreadGrid grid, int64_t granularity);
    Schedule(const Schedule&) = delete;  // its items point into it

    int size() const { return int(items_.size()); }
    int group_size() const { return units_; }  // successive items that have the same rows

    // The bytes that work(item, index) may need, where `n` rows need bytes(n). Index 0 may have to run all rows.
    template <class Bytes> size_t max_bytes(int index, Bytes bytes) const {
        const size_t item = bytes(items_[size_t(index)].count);
        return index || !together_ ? item : std::max(item, bytes(serial_.count));
    }

    // Runs work(item, index) for all items.
    template <class Work> void run(CancellationToken* cancellation, Work work) {
        run(size(), cancellation, work, [](int) {});
    }

    // Runs work(item, index) for all items, and rest(index) after each. Where `threads` exceeds the number of items,
    // the other threads run rest(index) alone. Where items that must run at the same time cannot, one thread runs all
    // rows and units, as index 0.
    template <class Work, class Rest> void run(int threads, CancellationToken* cancellation, Work work, Rest rest) {
        auto one = [&](int index) {
            if (index < size()) work(items_[size_t(index)], index);
            rest(index);
        };
        const auto task = call_function<decltype(one)>;
        const int count = std::max(size(), threads);
        if (!together_) return run_tasks(count, task, &one, cancellation);
        start_groups();
        if (run_together(count, {size(), patience_, &groups_[0].waited}, task, &one, cancellation)) return;
        split(1, 1, cancellation, [&](int64_t, int64_t) { work(serial_, 0), rest(0); });
    }

  private:
    using Rows = std::vector<int64_t>;  // indices into the batch
    template <class T> static std::vector<Rows> assign_rows(const Call<T>& call, int groups);
    void start_groups();

    int units_;
    // Whether the items run at the same time or not at all. The threads of a group wait for each other. And where a
    // tile of rows is split, one thread would take longer for the parts than for the whole tile.
    bool together_;
    int64_t patience_;  // nanoseconds: about an eighth of the time that one thread takes for the call
    std::vector<Rows> rows_;
    std::vector<BarrierSlot> slots_;
    std::vector<ThreadGroup> groups_;
    std::vector<WorkItem> items_;
    Rows all_rows_;
    WorkItem serial_;  // all rows and units
};

// A queue of pieces of work. Each piece is done once, by the thread that comes to it first.
class WorkQueue {
  public:
    explicit WorkQueue(int64_t size) : taken_(size_t(size)) {}

    // Runs work(n), as thread `index` of `threads`, for the pieces that no thread has taken. The threads start at
    // different pieces.
    template <class Work> void run(int index, int threads, CancellationToken* cancellation, Work work) {
        const size_t size = taken_.size(), first = size * size_t(index) / size_t(threads);
        for (size_t k = 0; k < size && !poll_cancelled(cancellation); ++k) {
            const size_t n = (first + k) % size;
            if (!taken_[n].exchange(true)) work(int64_t(n));
        }
    }

  private:
    std::vector<std::atomic<bool>> taken_;
};

}  // namespace glasscell
