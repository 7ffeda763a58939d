#include "engine/backward.h"

#include <memory>

#include "engine/deferred_products.h"
#include "engine/forward.h"

namespace glasscell {
namespace {

template <class T> ThreadGrid grid_of(const Backward<T>& pass) {
    return choose_grid(pass.call, pass.call.time, 0, kBackwardBarrier);
}

template <class T> void clear_weight_gradients(const BackwardCall<T>& call) {
    const int64_t I = call.I, H = call.H;
    std::memset(call.d_kernel, 0, size_t(I * 4 * H) * sizeof(T));
    std::memset(call.d_recurrent, 0, size_t(H * 4 * H) * sizeof(T));
    if (call.d_bias) std::memset(call.d_bias, 0, size_t(4 * H) * sizeof(T));
}

// Starts a gradient of the state from the gradient of the final state, or from zero where `final` is null.
template <class T> void start_from(const T* final, int64_t count, T* gradient) {
    if (final)
        std::memcpy(gradient, final, size_t(count) * sizeof(T));
    else
        std::memset(gradient, 0, size_t(count) * sizeof(T));
}

// Packs the transpose of a matrix with `outputs` rows in panels of `vectors` vectors.
template <class T>
AlignedBuffer pack_transposed(const Call<T>& call, const T* matrix, int64_t outputs, int64_t vectors) {
    const Kernels<T>& kernels = current_kernels<T>();
    AlignedBuffer packed = allocate_array<T>(int64_t(kernels.pack_backward_size(outputs, call.H)));
    const int64_t width = vectors * kernels.lanes, panels = (outputs + width - 1) / width;
    split_packing(panels, width * 4 * call.H, call.cancellation, [&](int64_t begin, int64_t end) {
        for (int64_t panel = begin; panel < end; ++panel)
            kernels.pack_backward(matrix, call.transposed_weights, outputs, call.H, vectors, panel,
                                  packed.template as<T>());
    });
    return packed;
}

// Returns how many vectors a panel has: as many as leave each of the grid's shares of the units a panel.
template <class T> int64_t vectors_per_panel(const Call<T>& call, ThreadGrid grid) {
    const Kernels<T>& kernels = current_kernels<T>();
    const int64_t blocks = (call.H + kernels.lanes - 1) / kernels.lanes;
    return std::max<int64_t>(1, std::min(kernels.tile_vectors, blocks / grid.units));
}

// The tape of one time block, recomputed from the cell state before it.
template <class T> class RecomputedTape {
  public:
    RecomputedTape(const BackwardCall<T>& call, int64_t steps)
        : packed_(pack_weights<T>(call)), h_(allocate_array<T>(call.B * call.H * 2)),
          c_(allocate_array<T>(call.B * call.H * (steps + 1))),
          gates_(allocate_array<T>(call.B * call.H * steps * 4)) {
        const int64_t BH = call.B * call.H;
        static_cast<Call<T>&>(forward_) = call;
        forward_.packed = packed_.as<T>();
        forward_.h0 = h_.as<T>(), forward_.hT = h_.as<T>() + BH, forward_.cT = c_.as<T>() + BH * steps;
        forward_.c = c_.as<T>(), forward_.gates = gates_.as<T>();
        if (needs_raw(call.options)) {
            z_ = allocate_array<T>(BH * steps * 4);
            forward_.z = z_.as<T>();
        }
        forward_.time_block = {0, steps};
        pass_ = std::make_unique<ForwardPass<T>>(forward_);
    }

    // Computes the call's time block from the cell state c_before: (B, H), and gives the tape to the call.
    void compute(BackwardCall<T>& call, const T* c_before) {
        const int64_t H = call.H;
        for (int64_t b = 0; b < call.B; ++b)
            std::memcpy(h_.as<T>() + b * H, hidden_before(call, b, call.time_block.first), size_t(H) * sizeof(T));
        forward_.time_block = call.tape = call.time_block;
        forward_.c0 = call.c_before = c_before;
        call.c = forward_.c, call.gates = forward_.gates, call.z = forward_.z;
        pass_->run(forward_);
    }

  private:
    AlignedBuffer packed_, h_, c_, gates_, z_;
    ForwardCall<T> forward_{};
    std::unique_ptr<ForwardPass<T>> pass_;  // for full time blocks; the last one may be shorter
};

// Goes back through the time blocks. With several threads the products of a block are deferred: they are computed while
// the loop goes through the next block, so that a slower thread does fewer of them instead of being waited for.
template <class T> void run_time_blocks(Backward<T>& pass, int threads, ThreadGrid grid) {
    const Kernels<T>& kernels = current_kernels<T>();
    BackwardCall<T>& call = pass.call;
    const int64_t steps = steps_per_time_block(call.B, call.time), deferred = threads > 1;
    Schedule schedule(call, grid, call.panel_vectors * kernels.lanes);
    std::vector<AlignedBuffer> scratch;
    for (int n = 0; n < schedule.size(); ++n) scratch.emplace_back(kernels.backward_scratch(call, call.B));
    std::vector<BlockResiduals<T>> residuals;
    for (int64_t n = 0; n <= deferred; ++n) residuals.emplace_back(call, call.B * steps);
    std::unique_ptr<RecomputedTape<T>> recomputed;
    if (pass.cell_checkpoints) recomputed = std::make_unique<RecomputedTape<T>>(call, steps);
    const std::vector<T> zeros(size_t(call.H), T(0));

    const auto enter_block = [&](int64_t block, BlockResiduals<T>& current) {
        call.time_block = {block * steps, std::min(steps, call.time - block * steps)};
        call.dz = current.dz.template as<T>();
        if (recomputed) recomputed->compute(call, pass.cell_checkpoints + block * call.B * call.H);
        current.list_kept_steps(call, zeros.data());
    };
    const auto loop = [&](const WorkItem& item, int n) {
        kernels.backward(call, item, scratch[size_t(n)].template as<void>());
    };
    for (int64_t block = (call.time - 1) / steps; block >= -deferred; --block) {
        if (poll_cancelled(call.cancellation)) return;
        BlockResiduals<T>& current = residuals[size_t(block & deferred)];
        BlockResiduals<T>& finished = residuals[size_t(~block & deferred)];
        current.kept.clear();
        if (block >= 0) enter_block(block, current);
        DeferredProducts<T> products(call, current, finished);
        const auto run_products = [&](int64_t index) { products.run(int(index), threads); };
        if (block >= 0)
            schedule.run(threads, call.cancellation, loop, run_products);
        else
            split(threads, threads, call.cancellation, [&](int64_t index, int64_t) { run_products(index); });
    }
}

template <class T> void backward_pass(Backward<T> pass) {
    BackwardCall<T>& call = pass.call;
    clear_weight_gradients(call);
    if (call.B == 0) return;
    start_from(pass.dhT, call.B * call.H, call.dh);
    start_from(pass.dcT, call.B * call.H, call.dc);
    if (call.time == 0) return;

    const ThreadGrid grid = grid_of(pass);
    call.panel_vectors = vectors_per_panel<T>(call, grid);
    AlignedBuffer packed_kernel;
    if (call.dx) packed_kernel = pack_transposed<T>(call, call.kernel, call.I, current_kernels<T>().tile_vectors);
    const AlignedBuffer packed_recurrent = pack_transposed<T>(call, call.recurrent_kernel, call.H, call.panel_vectors);
    call.packed_kernel = packed_kernel.as<T>(), call.packed_recurrent = packed_recurrent.as<T>();
    call.tape = {0, call.time}, call.c_before = call.c0;  // as kept; a recomputed tape sets its own
    run_time_blocks(pass, worth_threads(multiply_adds(call)), grid);
}

}  // namespace

template <class T> void run_backward(Backward<T> pass) {
    BackwardCall<T>& call = pass.call;
    if (!call.transposed_weights) return backward_pass(pass);
    // The weight gradients are summed as (I, 4H) and (H, 4H), and transposed at the end.
    const int64_t I = call.I, H = call.H;
    T *const d_kernel = call.d_kernel, *const d_recurrent = call.d_recurrent;
    const AlignedBuffer kernel = allocate_array<T>(I * 4 * H), recurrent = allocate_array<T>(H * 4 * H);
    call.d_kernel = kernel.as<T>(), call.d_recurrent = recurrent.as<T>();
    backward_pass(pass);
    const auto transpose = [&](const T* from, int64_t rows, T* to) {
        split_packing(rows, 4 * H, call.cancellation, [&](int64_t begin, int64_t end) {
            current_kernels<T>().transpose(from, rows, 4 * H, begin, end, to);
        });
    };
    transpose(call.d_kernel, I, d_kernel), transpose(call.d_recurrent, H, d_recurrent);
}

template <class T> void run_backward(const std::vector<Backward<T>>& passes) {
    run_concurrently(
        passes, [](const Backward<T>& pass) -> const Call<T>& { return pass.call; }, grid_of<T>,
        [](const Backward<T>& pass) { run_backward(pass); });
}

template void run_backward(Backward<float>);
template void run_backward(Backward<double>);
template void run_backward(const std::vector<Backward<float>>&);
template void run_backward(const std::vector<Backward<double>>&);

}  // namespace glasscell
