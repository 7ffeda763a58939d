// Ctrl-C during a long call.
#pragma once

#include <nanobind/nanobind.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <chrono>

#include "bindings/gil.h"
#include "interface/cancellation.h"

namespace glasscell {

namespace nb = nanobind;

// Ends a call when a Python signal handler raises, as the handler of Ctrl-C does. Handlers run in the main thread only,
// so a call from any other thread never asks for the GIL.
struct Signals : CancellationToken {
    std::chrono::steady_clock::time_point next{};  // when to look for signals again; not set before the first poll

    Signals() : CancellationToken{&Signals::poll, pthread_self(), false} {}

    static void poll(CancellationToken* self) {
        Signals& signals = *static_cast<Signals*>(self);
        const auto now = std::chrono::steady_clock::now();
        const bool first = signals.next == decltype(now)();
        if (!first && now < signals.next) return;
        signals.next = now + std::chrono::milliseconds(100);
        if (first || !in_main_thread()) return;
        const WithGil gil;
        if (PyErr_CheckSignals() != 0) cancel(self);  // the exception stays set for until_signal
    }

    static bool in_main_thread() {
#if defined(__linux__)
        return getpid() == pid_t(syscall(SYS_gettid));
#else
        return pthread_main_np() != 0;
#endif
    }
};

// Runs `pass` without the GIL. `cancellation`: the member of its call through which the call ends early. Throws where a
// signal handler raised.
template <class Pass> void until_signal(CancellationToken*& cancellation, Pass pass) {
    Signals signals;
    cancellation = &signals;
    {
        const WithoutGil released;
        pass();
    }
    if (signals.cancelled) nb::raise_python_error();
}

}  // namespace glasscell
