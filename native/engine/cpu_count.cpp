#include "engine/cpu_count.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>

namespace glasscell {

int affinity_cpus() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    const unsigned n = std::thread::hardware_concurrency();
    return n ? int(n) : 1;
}

// Reads the limits of control groups of version 2, then of version 1. Files that do not exist set no limit.
int available_cpus() {
    const int cpus = affinity_cpus();
    const auto granted = [cpus](std::istream& quota, std::istream& period) {
        double time = 0, of = 0;
        const bool limited = quota >> time && period >> of && time > 0 && of > 0;
        return limited ? int(std::min<double>(std::ceil(time / of), cpus)) : cpus;
    };
    std::ifstream both("/sys/fs/cgroup/cpu.max");
    std::ifstream quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    return std::min(granted(both, both), granted(quota, period));
}

}  // namespace glasscell
