#include "engine/partition.h"

#include <numeric>

#include "engine/dispatch.h"

namespace glasscell {

int worth_threads(double multiply_adds) {
    constexpr double kWorthAThread = 250e3;  // waking a thread takes about 10 us; measured on two cores with AVX-512
    return int(std::max(1.0, std::min(double(num_threads()), multiply_adds / kWorthAThread)));
}

constexpr double kAlone = 32;  // multiply-adds of one thread in a nanosecond, about

// Counts whole unit blocks: a block that is not full takes as long as a full one.
template <class T> double step_multiply_adds(const Call<T>& call, int64_t inputs) {
    const int64_t lanes = current_kernels<T>().lanes, units = (call.H + lanes - 1) / lanes * lanes;
    return 4.0 * double(call.B) * double(units) * double(inputs + call.H);
}

template <class T> ThreadGrid choose_grid(const Call<T>& call, int64_t steps, int64_t inputs, double barrier) {
    const Kernels<T>& kernels = current_kernels<T>();
    const double step = step_multiply_adds(call, inputs);
    const int threads = worth_threads(step * double(steps));
    const int64_t B = std::max<int64_t>(call.B, 1);
    // A tile with half of its rows still hides the time in which the weights come from the L2 cache. A tile with fewer
    // rows waits for them.
    const int64_t groups = std::max<int64_t>(1, 2 * call.B / std::max<int64_t>(kernels.tile_rows - 1, 1));
    if (groups >= threads) return {int(std::min<int64_t>(threads, B)), 1};
    const int64_t blocks = (call.H + kernels.lanes - 1) / kernels.lanes;
    const double fed = step / double(groups) / barrier;  // the threads for which one group's step is enough work
    const int units = int(std::max(1.0, std::min({double(threads / groups), double(blocks), fed})));
    // Threads that a group cannot use go to further groups, with fewer rows each.
    return {int(std::min<int64_t>(B, std::max<int64_t>(groups, threads / units))), units};
}

template <class T> std::vector<Schedule::Rows> Schedule::assign_rows(const Call<T>& call, int groups) {
    std::vector<Rows> assigned(static_cast<size_t>(groups));
    if (!call.step_flags) {
        for (int64_t b = 0; b < call.B; ++b) assigned[size_t(b * groups / call.B)].push_back(b);
        return assigned;
    }
    std::vector<int64_t> kept(static_cast<size_t>(call.B)), order(kept);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t b = 0; b < call.B; ++b)
        for (int64_t t = 0; t < call.time; ++t) kept[size_t(b)] += call.step_flags[b * call.time + t] & kKeep;
    const auto longer = [&](int64_t a, int64_t b) { return kept[size_t(a)] > kept[size_t(b)]; };
    std::stable_sort(order.begin(), order.end(), longer);
    for (int64_t n = 0; n < call.B; ++n) assigned[size_t(n % groups)].push_back(order[size_t(n)]);
    return assigned;
}

template <class T>
Schedule::Schedule(const Call<T>& call, ThreadGrid grid, int64_t granularity)
    : units_(grid.units),
      together_(grid.units > 1 || (grid.rows > 1 && call.B <= (grid.rows - 1) * current_kernels<T>().tile_rows)),
      patience_(int64_t(multiply_adds(call) / (8 * kAlone))), rows_(assign_rows(call, grid.rows)),
      slots_(size_t(grid.threads())), groups_(size_t(grid.rows)) {
    const int64_t H = call.H, blocks = (H + granularity - 1) / granularity;
    for (int group = 0; group < grid.rows; ++group) {
        const Rows& members = rows_[size_t(group)];
        groups_[size_t(group)] = {grid.units, &slots_[size_t(group * grid.units)], 0, 0, 0};
        for (int u = 0; u < grid.units; ++u) {
            slots_[size_t(group * grid.units + u)].first = blocks * u / grid.units * granularity;
            items_.push_back({members.data(), int64_t(members.size()), blocks * u / grid.units * granularity,
                              std::min(H, blocks * (u + 1) / grid.units * granularity),
                              grid.units > 1 ? &groups_[size_t(group)] : nullptr, u});
        }
        all_rows_.insert(all_rows_.end(), members.begin(), members.end());
    }
    serial_ = {all_rows_.data(), int64_t(all_rows_.size()), 0, H, nullptr, 0};
}

void Schedule::start_groups() {
    const TeamLimits limits = team_limits();
    for (ThreadGroup& group : groups_)
        group.last = group.members[0].count + limits.barriers, group.patience = limits.patience, group.waited = 0;
}

template double step_multiply_adds(const Call<float>&, int64_t);
template double step_multiply_adds(const Call<double>&, int64_t);
template ThreadGrid choose_grid(const Call<float>&, int64_t, int64_t, double);
template ThreadGrid choose_grid(const Call<double>&, int64_t, int64_t, double);
template Schedule::Schedule(const Call<float>&, ThreadGrid, int64_t);
template Schedule::Schedule(const Call<double>&, ThreadGrid, int64_t);

}  // namespace glasscell
