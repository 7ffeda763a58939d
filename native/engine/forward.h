// The forward pass of one call, or of several.
#pragma once

#include <vector>

#include "engine/aligned_buffer.h"
#include "engine/partition.h"

namespace glasscell {

// Packs the weights in the order in which the forward kernels read them.
template <class T> AlignedBuffer pack_weights(const Call<T>& call);

// A forward pass that can run many times without allocating. Sizes, options and `step_flags` must be those of the call
// that it was made with. The other arrays may be new ones, and the time block may be shorter. `packed` must be set.
template <class T> class ForwardPass {
  public:
    explicit ForwardPass(const ForwardCall<T>& call);
    void run(const ForwardCall<T>& call);

  private:
    Schedule schedule_;
    std::vector<AlignedBuffer> scratch_, shared_;  // of each work item, of each group
};

// Runs one pass, and packs the weights where `packed` is null. Throws std::bad_alloc; the outputs are then undefined.
template <class T> void run_forward(ForwardCall<T> call);

// Runs several passes, side by side where no pass could use more threads than there are passes.
template <class T> void run_forward(const std::vector<ForwardCall<T>>& calls);

}  // namespace glasscell
