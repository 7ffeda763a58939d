#include "engine/forward.h"

#include "engine/dispatch.h"

namespace glasscell {

template <class T> static ThreadGrid grid_of(const ForwardCall<T>& call) {
    return choose_grid(call, call.time_block.steps, call.I, kForwardBarrier);
}

template <class T> AlignedBuffer pack_weights(const Call<T>& call) {
    const Kernels<T>& kernels = current_kernels<T>();
    AlignedBuffer packed = allocate_array<T>(int64_t(kernels.pack_forward_size(call.I, call.H)));
    split_packing(1 + call.I + call.H, 4 * call.H, call.cancellation, [&](int64_t begin, int64_t end) {
        kernels.pack_forward(call, begin, end, packed.template as<T>());
    });
    return packed;
}

template <class T>
ForwardPass<T>::ForwardPass(const ForwardCall<T>& call)
    : schedule_(call, grid_of(call), current_kernels<T>().lanes) {
    const Kernels<T>& kernels = current_kernels<T>();
    const auto scratch = [&](int64_t rows) { return kernels.forward_workspace(call, rows).scratch; };
    const auto shared = [&](int64_t rows) { return kernels.forward_workspace(call, rows).shared; };
    for (int n = 0; n < schedule_.size(); ++n) scratch_.emplace_back(schedule_.max_bytes(n, scratch));
    for (int n = 0; n < schedule_.size(); n += schedule_.group_size())
        shared_.emplace_back(schedule_.max_bytes(n, shared));
}

template <class T> void ForwardPass<T>::run(const ForwardCall<T>& call) {
    const Kernels<T>& kernels = current_kernels<T>();
    schedule_.run(call.cancellation, [&](const WorkItem& item, int n) {
        kernels.forward(call, item, scratch_[size_t(n)].template as<void>(),
                        shared_[size_t(n / schedule_.group_size())].template as<void>());
    });
}

template <class T> void run_forward(ForwardCall<T> call) {
    if (call.B == 0) return;
    AlignedBuffer packed;
    if (!call.packed) {
        packed = pack_weights<T>(call);
        call.packed = packed.template as<T>();
    }
    ForwardPass<T>(call).run(call);
}

template <class T> void run_forward(const std::vector<ForwardCall<T>>& calls) {
    run_concurrently(
        calls, [](const ForwardCall<T>& call) -> const Call<T>& { return call; }, grid_of<T>,
        [](const ForwardCall<T>& call) { run_forward(call); });
}

template AlignedBuffer pack_weights(const Call<float>&);
template AlignedBuffer pack_weights(const Call<double>&);
template class ForwardPass<float>;
template class ForwardPass<double>;
template void run_forward(ForwardCall<float>);
template void run_forward(ForwardCall<double>);
template void run_forward(const std::vector<ForwardCall<float>>&);
template void run_forward(const std::vector<ForwardCall<double>>&);

}  // namespace glasscell
