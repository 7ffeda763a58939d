#include "engine/machine_probe.h"

#include <chrono>

#include "engine/dispatch.h"
#include "engine/partition.h"

namespace glasscell {
namespace {

// Runs work(index) on each thread, five times. One work(index) does `units` units. Returns the best rate, in units a
// second.
template <class Work> double best_rate(int threads, double units, Work work) {
    double best = 0;
    for (int attempt = 0; attempt < 5; ++attempt) {
        const auto start = std::chrono::steady_clock::now();
        split(threads, threads, nullptr, [&](int64_t index, int64_t) { work(index); });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        best = std::max(best, units * threads / seconds.count());
    }
    return best;
}

}  // namespace

double measure_peak(int threads) {
    constexpr int64_t kRounds = 400000;  // some 3 ms
    const Target& target = current_target();
    std::vector<float> sink(size_t(threads) * 16);
    return best_rate(threads, double(kRounds) * target.peak_flops,
                     [&](int64_t index) { sink[size_t(index) * 16] = target.peak(kRounds); });
}

double measure_l2_bandwidth(int threads) {
    constexpr int64_t kFloats = 128 * 1024, kPasses = 400;  // 512 KiB: too much for L1, at home in L2; some 3 ms
    const Target& target = current_target();
    std::vector<float> sink(size_t(threads) * 16), memory(size_t(threads) * kFloats);
    return best_rate(threads, double(kPasses) * kFloats * sizeof(float), [&](int64_t index) {
        for (int64_t pass = 0; pass < kPasses; ++pass)
            sink[size_t(index) * 16] += target.read(memory.data() + index * kFloats, kFloats);
    });
}

}  // namespace glasscell
