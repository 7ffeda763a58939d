// Decides whether a run shares its work with other threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace glasscell {

// A run that waited for its threads for longer than they worked for it has lost time: alone it would have been done
// sooner. Other programs have the processors then. So runs are alone until they have taken eight times what was lost,
// and after each further loss twice as long: trying costs an eighth at most.
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

    // A run has shared its work. waited: how long the caller waited for others; helped: the processor time that others
    // worked for it.
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

    // A run has been alone.
    void record_alone(int64_t took) { alone_.fetch_sub(took, std::memory_order_relaxed); }

  private:
    static constexpr int64_t kNothing = 10'000, kFactor = 8, kLongest = 1'000'000'000;
    static constexpr int kMostLosses = 6;

    std::atomic<int64_t> alone_{0};  // what runs have still to take alone
    int losses_ = 0;                 // in a row, about: a gain takes one away
};

}  // namespace glasscell
