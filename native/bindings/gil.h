// Gives Python's global lock (the GIL) up, and takes it.
#pragma once

#include <nanobind/nanobind.h>
#include <unistd.h>

namespace glasscell {

// Puts a thread to sleep that Python would end. While Python exits, 3.11 to 3.13 end any other thread that takes the
// GIL, by unwinding its stack. The unwinding cannot pass through nanobind's functions or a destructor, which may not
// throw, and would end the process. From 3.14 on such a thread sleeps until the process is gone. It does so here too:
// unwound before taken() is called, the destructor sleeps.
class UnlessTaken {
  public:
    UnlessTaken() = default;
    UnlessTaken(const UnlessTaken&) = delete;
    ~UnlessTaken() {
        while (!taken_) pause();
    }
    void taken() { taken_ = true; }

  private:
    bool taken_ = false;
};

// Not inlined: where the surrounding function may not throw, the unwinding would end the process without a look at this
// frame.
__attribute__((noinline)) inline void take_gil_back(PyThreadState* state) {
    UnlessTaken stay;
    PyEval_RestoreThread(state);
    stay.taken();
}

__attribute__((noinline)) inline PyGILState_STATE take_gil() {
    UnlessTaken stay;
    const PyGILState_STATE state = PyGILState_Ensure();
    stay.taken();
    return state;
}

// The multiply-adds from which on a call gives the GIL up. A smaller call keeps it: other threads wait no longer than
// some microseconds.
constexpr double kWorthReleasing = 50e3;

// Gives the GIL up while this object lives.
class WithoutGil {
  public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() { take_gil_back(state_); }
    WithoutGil(const WithoutGil&) = delete;

  private:
    PyThreadState* const state_;
};

// Holds the GIL while this object lives.
class WithGil {
  public:
    WithGil() : state_(take_gil()) {}
    ~WithGil() { PyGILState_Release(state_); }
    WithGil(const WithGil&) = delete;

  private:
    const PyGILState_STATE state_;
};

}  // namespace glasscell
