// One call over time: packs the weights, splits the work over threads, runs the kernels of the current target.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#include "interface/call.h"
#include "engine/huge_pages.h"
#include "engine/partition.h"

namespace glasscell {

// 64-byte aligned memory, in large pages where it is large and new to the process: products go over it again and again, and
// small pages lie scattered over the sets of the caches. Throws std::bad_alloc.
class AlignedBuffer {
  public:
    explicit AlignedBuffer(size_t bytes = 0) : data_(::operator new(bytes ? bytes : 64, std::align_val_t(64))) {
        advise_huge_pages(data_.get(), bytes);
    }
    template <class U> U* as() const { return static_cast<U*>(data_.get()); }

  private:
    struct Free {
        void operator()(void* p) const { ::operator delete(p, std::align_val_t(64)); }
    };
    std::unique_ptr<void, Free> data_;
};

// The weights as the forward kernels read them.
template <class T> AlignedBuffer pack_weights(const Call<T>& call);

// A forward pass that can run again without allocating: the sizes, options and `steps` are those of the call it was made
// with, the other arrays may be new ones, and the span no longer. `packed` must be set.
template <class T> class ForwardPass {
  public:
    explicit ForwardPass(const ForwardCall<T>& call);
    void run(const ForwardCall<T>& call);

  private:
    ForwardPass(const ForwardCall<T>& call, ThreadGrid grid);

    Schedule schedule_;
    std::vector<AlignedBuffer> scratch_, shared_;  // of each part, of each group
};

// Packs the weights where `packed` is null. Throws std::bad_alloc; the outputs are then undefined.
template <class T> void run_forward(ForwardCall<T> call);

// Several passes, side by side where none of them alone could use more threads than there are passes.
template <class T> void run_forward(const std::vector<ForwardCall<T>>& calls);

// A whole backward pass. The members of BackwardCall that belong to one span are filled in here; `tape` covers all steps,
// or none: then the gates are computed anew from `h` and `cell_checkpoints`.
template <class T> struct Backward {
    BackwardCall<T> call;
    const T* cell_checkpoints;  // (spans, B, H), or null where the tape was kept
    const T* dhT;      // (B, H), or null for zero
    const T* dcT;      // (B, H), likewise
};
template <class T> void run_backward(Backward<T> pass);
template <class T> void run_backward(const std::vector<Backward<T>>& passes);

// Measured float operations a second of `threads` threads at their fastest.
double measure_peak(int threads);
// Measured bytes a second that `threads` threads read from their L2 caches.
double measure_l2_bandwidth(int threads);

}  // namespace glasscell
