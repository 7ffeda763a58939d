// Decides whether a run shares its work with other threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace glasscell {

// A run has lost time if it waited for its threads for longer than they worked for it: on one thread it would have been
// done sooner, because other programs have the processors. After a loss, runs use one thread until they have taken
// eight times the time lost, and after each further loss twice as long: trying costs an eighth at most.
//
//               a run has lost
//     SHARES ------------------------> ALONE
//        ^                            |     ^
//        | the run has gained         |     | the run has lost: ALONE for twice as long
//        |                            v     |
//        +--------------------------- TRIES     when runs have taken long enough
//
// Times are nanoseconds. One thread at a time may call record.
class Sharing {
  public:
    bool allowed() const { return alone_.load(std::memory_order_relaxed) <= 0; }

    // Takes note of a run that has shared its work. waited: how long the caller waited for other threads; helped: the
    // processor time for which other threads worked for it.
    void record(int64_t waited, int64_t helped) {
        const int64_t lost = waited - helped;
        if (lost <= kNothing) {
            losses_ = std::max(0, losses_ - 1);
            return;
        }
        const int64_t once = kFactor * lost;
        alone_.store(std::min(once << losses_, std::max(once, kLongest)), std::memory_order_relaxed);
        losses_ = std::min(losses_ + 1, kMostLosses);
    }

    // Takes note of a run on one thread.
    void record_alone(int64_t took) { alone_.fetch_sub(took, std::memory_order_relaxed); }

  private:
    static constexpr int64_t kNothing = 10'000, kFactor = 8, kLongest = 1'000'000'000;
    static constexpr int kMostLosses = 6;

    std::atomic<int64_t> alone_{0};  // the time that runs have still to take on one thread
    int losses_ = 0;                 // how many in a row, about: a run without a loss takes one away
};

}  // namespace glasscell
