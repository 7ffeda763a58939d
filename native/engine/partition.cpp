#include "engine/partition.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace glasscell {
namespace {

// Measured on two cores with AVX-512, in multiply-adds: waking a thread takes about 10 us.
constexpr double kWorthAThread = 250e3;

}  // namespace

int worth_threads(double multiply_adds) {
    return int(std::max(1.0, std::min(double(num_threads()), multiply_adds / kWorthAThread)));
}

ThreadGrid choose_grid(int64_t B, int64_t time, double step, int64_t H, double meeting, int threads, int64_t tile_rows,
               int64_t lanes) {
    threads = std::min(threads, worth_threads(step * double(time)));
    // A tile of half its rows still hides the way of the weights from the L2 cache; one of fewer waits for them.
    const int64_t groups = std::max<int64_t>(1, 2 * B / std::max<int64_t>(tile_rows - 1, 1));
    if (groups >= threads) return {int(std::min<int64_t>(threads, std::max<int64_t>(B, 1))), 1};
    const int64_t blocks = (H + lanes - 1) / lanes;
    const double fed = step / double(groups) / meeting;  // how many threads a step of a team can feed
    const int units = int(std::max(1.0, std::min({double(threads / groups), double(blocks), fed})));
    // A team that cannot use all threads leaves them to smaller groups of rows.
    return {int(std::min<int64_t>(std::max<int64_t>(B, 1), std::max<int64_t>(groups, threads / units))), units};
}

template <class T> std::vector<Rows> assign_rows(const Call<T>& call, int groups) {
    std::vector<Rows> assigned(static_cast<size_t>(groups));
    if (!call.step_flags) {
        for (int64_t b = 0; b < call.B; ++b) assigned[size_t(b * groups / call.B)].push_back(b);
        return assigned;
    }
    std::vector<int64_t> kept(static_cast<size_t>(call.B)), order(kept);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t b = 0; b < call.B; ++b)
        for (int64_t t = 0; t < call.time; ++t) kept[size_t(b)] += call.step_flags[b * call.time + t] & kKeep;
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return kept[size_t(a)] > kept[size_t(b)]; });
    for (int64_t n = 0; n < call.B; ++n) assigned[size_t(n % groups)].push_back(order[size_t(n)]);
    return assigned;
}

template std::vector<Rows> assign_rows(const Call<float>&, int);
template std::vector<Rows> assign_rows(const Call<double>&, int);

Schedule::Schedule(ThreadGrid grid, std::vector<Rows> rows, int64_t H, int64_t granularity)
    : units_(grid.units), rows_(std::move(rows)), slots_(size_t(grid.rows * grid.units)), thread_groups_(size_t(grid.rows)) {
    const int64_t blocks = (H + granularity - 1) / granularity;
    for (int group = 0; group < grid.rows; ++group) {
        const Rows& members = rows_[size_t(group)];
        thread_groups_[size_t(group)] = {grid.units, &slots_[size_t(group * grid.units)]};
        for (int u = 0; u < grid.units; ++u)
            parts_.push_back({members.data(), int64_t(members.size()), blocks * u / grid.units * granularity,
                              std::min(H, blocks * (u + 1) / grid.units * granularity),
                              grid.units > 1 ? &thread_groups_[size_t(group)] : nullptr, u});
        all_.insert(all_.end(), members.begin(), members.end());
    }
    serial_ = {all_.data(), int64_t(all_.size()), 0, H, nullptr, 0};
}

}  // namespace glasscell
