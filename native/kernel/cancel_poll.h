// A kernel's look at its interrupt, several times a step where steps are long.
#pragma once

#include <stdint.h>

#include "interface/cancellation.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// The thread that made the call asks after some million multiply-adds: 20 us with AVX-512, 100 ms without an FMA
// instruction. The others, and it too in between, only read whether to stop.
struct Watch {
    static constexpr int64_t kAsk = int64_t(1) << 22;

    Interrupt* const interrupt;  // null: nothing ever stops the call
    const bool asks;
    int64_t left = kAsk;

    explicit Watch(Interrupt* interrupt)
        : interrupt(interrupt), asks(interrupt && pthread_equal(interrupt->caller, pthread_self())) {}

    // `work`: the multiply-adds from one look to the next.
    bool stop(int64_t work) {
        if (asks && (left -= work) < 0) {
            left = kAsk;
            interrupt->ask(interrupt);
        }
        return stopped(interrupt);
    }
};

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
