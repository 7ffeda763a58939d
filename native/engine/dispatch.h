// The targets (instruction sets) of this build, and the one in use.
#pragma once

#include <vector>

#include "interface/kernel_table.h"

namespace glasscell {

// The targets that this machine can run, best first. For each the operating system must save the registers too.
const std::vector<const Target*>& available_targets();

// The best available target, or the target that GLASSCELL_TARGET names. Throws std::invalid_argument for an unknown
// name.
const Target& current_target();

template <class T> const Kernels<T>& current_kernels();

}  // namespace glasscell
