// Threads that run tasks at the same time, so that these may wait for each other: how they come together, and for how
// long they stay.
#pragma once

#include <atomic>
#include <cstdint>

namespace glasscell {

// How threads come together: as sharing.h measures; always, however long it takes; or at random, and for a random time.
// The last two are for tests.
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

// Tasks that wait for each other.
struct TeamRun {
    int together;           // how many, 2 or more
    int64_t patience;       // nanoseconds for which the caller waits for the threads of the others to come
    const int64_t* waited;  // nanoseconds for which task 0 has waited for the others, which it counts itself
};

// Runs the tasks of a team, or none of them: the first `together` tasks run at the same time. The caller waits for their
// threads until its patience ends, and decides. Who comes later finds the decision.
struct Gathering {
    enum Decision { open, together_now, given_up };

    void (*const task)(void* context, int index);
    void* const context;
    const TeamRun& team;
    int64_t waited = 0;  // by the caller, for the others to come
    std::atomic<int> arrived{0};
    std::atomic<Decision> decision{open};

    bool all_here() const { return decision.load() == together_now; }

    static void run(void* self, int index);

  private:
    void gather();
    void arrive(int index);
};

}  // namespace glasscell
