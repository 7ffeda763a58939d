// The backward pass of one call, or of several.
#pragma once

#include <vector>

#include "interface/call.h"

namespace glasscell {

// A whole backward pass. The engine fills in the members of `call` that belong to one time block. Without a tape (`c`,
// `gates`, `z`) it recomputes the gates from `h` and `cell_checkpoints`.
template <class T> struct Backward {
    BackwardCall<T> call;
    const T* cell_checkpoints;  // (time blocks, B, H); null where the tape was kept
    const T* dhT;               // (B, H); null: zero
    const T* dcT;               // (B, H); null: zero
};

// Runs one pass. Throws std::bad_alloc; the outputs are then undefined.
template <class T> void run_backward(Backward<T> pass);

// Runs several passes, side by side where no pass could use more threads than there are passes.
template <class T> void run_backward(const std::vector<Backward<T>>& passes);

}  // namespace glasscell
