// Counts the processors that this process may use.
#pragma once

namespace glasscell {

// The processors that the caller's affinity allows.
int affinity_cpus();

// The same, but no more than the control group (a container, for one) grants the time of, rounded up: the system stops
// all threads of a group that uses more until the next period.
int available_cpus();

}  // namespace glasscell
