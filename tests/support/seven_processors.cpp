// Loaded with LD_PRELOAD: the process believes that it may run on seven processors, so that teams of seven come together.
#include <sched.h>

extern "C" int sched_getaffinity(pid_t, size_t size, cpu_set_t* set) noexcept {
    CPU_ZERO_S(size, set);
    for (int n = 0; n < 7; ++n) CPU_SET_S(n, size, set);
    return 0;
}
