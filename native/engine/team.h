// Teams: threads that run tasks at the same time, so that the tasks may wait for each other. This file defines how a
// team comes together, and how long it lasts.
#pragma once

#include <atomic>
#include <cstdint>

namespace glasscell {

// When threads come together: as sharing.h measures; always, however long it takes; or at random, and then for a random
// number of barriers. The last two are for tests.
enum class Teams { measured, always, at_random };
void set_teams(Teams how);
Teams teams();
unsigned draw();  // a random number below 2^31

// How long a team lasts: the nanoseconds for which its first thread may wait in all, and the number of barriers.
struct TeamLimits {
    int64_t patience;
    unsigned barriers;
};
TeamLimits team_limits();

// A run of tasks that wait for each other.
struct TeamRun {
    int together;           // how many tasks wait for each other, 2 or more
    int64_t patience;       // nanoseconds for which the caller waits for the other threads to come
    const int64_t* waited;  // nanoseconds for which task 0 has waited for the others; task 0 counts them
};

// Runs the tasks of a team, or none of them. The first `together` tasks run at the same time. The caller waits for the
// other threads until its patience ends, and then decides. A thread that comes later finds the decision.
struct Gathering {
    enum Decision { open, together_now, given_up };

    void (*const task)(void* context, int index);
    void* const context;
    const TeamRun& team;
    int64_t waited = 0;  // how long the caller has waited for the others to come
    std::atomic<int> arrived{0};
    std::atomic<Decision> decision{open};

    bool all_here() const { return decision.load() == together_now; }

    static void run(void* self, int index);

  private:
    void gather();
    void arrive(int index);
};

}  // namespace glasscell
