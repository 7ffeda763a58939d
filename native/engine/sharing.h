// Decides whether a run shares its work with other threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace glasscell {

// A run that waited for its threads for longer than they worked for it has lost time: alone it would have been done
// sooner. Other programs have the processors then. So the next runs are alone for eight times what was lost, and after
// each further loss for twice as long: trying costs an eighth at most.
//
//               a run has lost
//     SHARES ------------------------> ALONE
//        ^                            |     ^
//        | the run has gained         |     | the run has lost: ALONE for twice as long
//        |                            v     |
//        +--------------------------- TRIES     when the time is over
//
// Times are nanoseconds of the steady clock.
class Sharing {
  public:
    bool allowed(int64_t now) const { return now >= alone_until_; }

    // waited: how long the caller waited for others; helped: the processor time that others worked for it.
    void record(int64_t now, int64_t waited, int64_t helped) {
        const int64_t lost = waited - helped;
        if (lost <= kNothing) {
            losses_ = std::max(0, losses_ - 1);
            return;
        }
        const int64_t once = kFactor * lost;
        alone_until_ = now + std::min(once << losses_, std::max(once, kLongest));
        losses_ = std::min(losses_ + 1, kMostLosses);
    }

  private:
    static constexpr int64_t kNothing = 10'000, kFactor = 8, kLongest = 1'000'000'000;
    static constexpr int kMostLosses = 6;

    int64_t alone_until_ = 0;
    int losses_ = 0;  // in a row, about: a gain takes one away
};

}  // namespace glasscell
