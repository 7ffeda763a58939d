// Measures the highest speed of this machine, to compare the speed of the kernels with it.
#pragma once

namespace glasscell {

// Float operations a second of `threads` threads at their fastest.
double measure_peak(int threads);

// Bytes a second that `threads` threads read from their L2 caches.
double measure_l2_bandwidth(int threads);

}  // namespace glasscell
