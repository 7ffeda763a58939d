// Counts the processors that this process may use.
#pragma once

namespace glasscell {

// The processors that the caller's affinity allows.
int affinity_cpus();

// The processors that the caller's affinity allows, but no more than the control group (a container, for one) grants
// processor time for, rounded up. The system stops all threads of a group that uses more time until the next period.
int available_cpus();

}  // namespace glasscell
