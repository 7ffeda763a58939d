#include "engine/team.h"

#include <limits>

#include "engine/wait_awake.h"

namespace glasscell {
namespace {

constexpr int64_t kForever = std::numeric_limits<int64_t>::max();

std::atomic<Teams> chosen{Teams::measured};

}  // namespace

void set_teams(Teams how) { chosen.store(how); }

unsigned draw() {
    static std::atomic<unsigned> state{1};
    return (state = state * 1664525u + 1013904223u) >> 1;
}

Teams teams() { return chosen.load(); }

TeamLimits team_limits() {
    constexpr int64_t kPatience = 200'000;
    constexpr unsigned kNoEnd = 1u << 30;  // half of the largest signed difference of two counts
    return {teams() == Teams::measured ? kPatience : kForever, teams() == Teams::at_random ? 1 + draw() % 16 : kNoEnd};
}

void Gathering::run(void* self, int index) {
    Gathering& all = *static_cast<Gathering*>(self);
    if (index == 0)
        all.gather();
    else
        all.arrive(index);
    if (all.all_here()) all.task(all.context, index);
}

void Gathering::gather() {
    const int64_t start = steady_now(), most = teams() == Teams::measured ? team.patience : kForever;
    const bool here = wait_awake(most, [this] { return arrived.load() == team.together - 1; });
    waited = steady_now() - start;
    decision.store(here ? together_now : given_up);
}

void Gathering::arrive(int index) {
    if (index < team.together) ++arrived;
    while (!wait_awake(kAwakeForTask, [this] { return decision.load() != open; })) {}
}

}  // namespace glasscell
