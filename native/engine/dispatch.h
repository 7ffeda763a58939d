// The instruction sets this build has, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "interface/kernel_table.h"

namespace glasscell {

// Built in and runnable on this machine (the operating system saves their registers too), best first.
const std::vector<const Target*>& available_targets();

// The best of them, or the one GLASSCELL_TARGET names. Throws std::invalid_argument for a name not among them.
const Target& current_target();

template <class T> const Kernels<T>& current_kernels();

}  // namespace glasscell
