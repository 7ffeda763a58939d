// One call over time: packs the weights, splits the work over threads, runs the kernels of the current target.
#pragma once

#include "kernels.h"

namespace glasscell {

// `packed` members of the call are filled in here. Throws std::bad_alloc; the outputs are then undefined.
template <class T> void run_forward(ForwardCall<T> call);
template <class T> void run_backward(BackwardCall<T> call);

// Measured float operations a second of `threads` threads at their fastest.
double measure_peak(int threads);

}  // namespace glasscell
