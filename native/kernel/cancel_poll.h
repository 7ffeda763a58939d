// Polls the cancellation token of a call, several times a step where steps are long.
#pragma once

#include <stdint.h>

#include "interface/cancellation.h"

namespace glasscell::GLASSCELL_TARGET {

// Polls on the caller's thread after some four million multiply-adds: 20 us with AVX-512, 100 ms without an FMA
// instruction. Between polls, and on other threads, only the flag is read.
struct CancelPoll {
    static constexpr int64_t kPoll = int64_t(1) << 22;

    CancellationToken* const cancellation;  // null: nothing ends the call early
    const bool polls;
    int64_t left = kPoll;

    explicit CancelPoll(CancellationToken* cancellation)
        : cancellation(cancellation), polls(cancellation && pthread_equal(cancellation->caller, pthread_self())) {}

    // `work`: the multiply-adds until the next call of this function.
    bool cancelled(int64_t work) {
        if (polls && (left -= work) < 0) {
            left = kPoll;
            cancellation->poll(cancellation);
        }
        return glasscell::cancelled(cancellation);
    }
};

}  // namespace glasscell::GLASSCELL_TARGET
