// The products of the backward pass that do not feed back through time: dx and the weight gradients.
#pragma once

#include <cstring>
#include <vector>

#include "engine/aligned_buffer.h"
#include "engine/dispatch.h"
#include "engine/partition.h"

namespace glasscell {

// The gradients of the raw gates in one time block, and the operands of its products.
template <class T> struct BlockResiduals {
    AlignedBuffer dz, masked;
    std::vector<KeptStep<T>> kept;  // rows ascending, in each row steps ascending: the order of the sums

    BlockResiduals(const BackwardCall<T>& call, int64_t count)
        : dz(allocate_array<T>(count * 4 * call.H)),
          masked(allocate_array<T>(int64_t(current_kernels<T>().masked_operands_size(call, count)))) {
        kept.reserve(size_t(count));
    }

    // Lists the kept steps of the call's time block, and clears dx of the other steps. `zeros`: (H).
    void list_kept_steps(const BackwardCall<T>& call, const T* zeros) {
        const int64_t first = call.time_block.first, end = first + call.time_block.steps;
        for (int64_t b = 0; b < call.B; ++b) {
            for (int64_t s = first; s < end; ++s) {
                const int64_t t = time_of(call, s), x = (b * call.time + t) * call.I;
                const uint8_t flags = flags_of(call, b, t);
                if (flags & kKeep)
                    kept.push_back({call.x + x, flags & kReset ? zeros : hidden_before(call, b, s),
                                    call.dz + offset_in(call.time_block, b, s) * 4 * call.H, b});
                else if (call.dx)
                    std::memset(call.dx + x, 0, size_t(call.I) * sizeof(T));
            }
        }
    }
};

// The products that threads compute beside the loop over time and after it. These are the masked operands of the block
// `current`, through which the loop goes, and dx and the weight gradients of the block `finished`. A single thread
// finishes a block before the next one, so both are then the same block.
template <class T> class DeferredProducts {
  public:
    DeferredProducts(const BackwardCall<T>& call, BlockResiduals<T>& current, const BlockResiduals<T>& finished)
        : call_(call), current_(current), finished_(finished),
          masked_operands_(call.dropout_gates || call.recurrent_dropout_gates ? pieces(current) : 0),
          input_gradients_(call.dx ? pieces(finished) : 0),
          weight_gradients_(finished.kept.empty() ? 0 : kernels_.weight_panels(call)) {}

    // Computes, as thread `index` of `threads`, the pieces that no thread has taken.
    void run(int index, int threads) {
        const KeptStep<T>*const current = current_.kept.data(), *const finished = finished_.kept.data();
        const int64_t masked = int64_t(current_.kept.size()), count = int64_t(finished_.kept.size());
        masked_operands_.run(index, threads, call_.cancellation, [&](int64_t n) {
            kernels_.masked_operands(call_, current, masked, n * kSteps, std::min((n + 1) * kSteps, masked),
                                     current_.masked.template as<T>());
        });
        input_gradients_.run(index, threads, call_.cancellation, [&](int64_t n) {
            kernels_.input_gradients(call_, finished, n * kSteps, std::min((n + 1) * kSteps, count));
        });
        weight_gradients_.run(index, threads, call_.cancellation, [&](int64_t n) {
            kernels_.weight_gradients(call_, finished, count, n, finished_.masked.template as<T>());
        });
    }

  private:
    static constexpr int64_t kSteps = 48;  // the kept steps of one piece

    static int64_t pieces(const BlockResiduals<T>& block) { return (int64_t(block.kept.size()) + kSteps - 1) / kSteps; }

    const Kernels<T>& kernels_ = current_kernels<T>();
    const BackwardCall<T>& call_;
    BlockResiduals<T>& current_;
    const BlockResiduals<T>& finished_;
    WorkQueue masked_operands_, input_gradients_, weight_gradients_;
};

}  // namespace glasscell
