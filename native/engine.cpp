#include "engine.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <vector>

#include "pool.h"
#include "targets.h"

namespace glasscell {
namespace {

struct Aligned {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t(64)); }
};
using Block = std::unique_ptr<void, Aligned>;

Block allocate(size_t bytes) { return Block(::operator new(std::max<size_t>(bytes, 64), std::align_val_t(64))); }

// Work for less than this many multiply-adds a thread costs less than waking one (about 10 us).
constexpr double kWorthAThread = 250e3;

template <class T> int threads_for(const Call<T>& call) {
    const double work = 4.0 * double(call.B) * double(call.time) * double(call.H) * double(call.I + call.H);
    return int(std::max(1.0, std::min(double(num_threads()), work / kWorthAThread)));
}

// Runs part(begin, end, index) over 0..total-1 split evenly into at most `parts` ranges.
template <class Part> void split(int64_t total, int parts, Part part) {
    parts = int(std::min<int64_t>(parts, total));
    struct Context {
        int64_t total;
        int parts;
        Part* part;
    } context{total, parts, &part};
    run_tasks(
        parts,
        [](void* opaque, int index) {
            const Context& c = *static_cast<Context*>(opaque);
            (*c.part)(c.total * index / c.parts, c.total * (index + 1) / c.parts, index);
        },
        &context);
}

// A scratch block for each range that `split` makes of `total` rows.
template <class Size> std::vector<Block> scratch_for(int64_t total, int parts, Size size) {
    std::vector<Block> blocks;
    for (int n = 0; n < parts; ++n) blocks.push_back(allocate(size(total * (n + 1) / parts - total * n / parts)));
    return blocks;
}

// Every kept step with its factors, rows ascending, in each row steps ascending: the order of the weight gradients.
template <class T> std::vector<KeptStep<T>> kept_steps(const BackwardCall<T>& call, const T* zeros) {
    std::vector<KeptStep<T>> kept;
    kept.reserve(size_t(call.B * call.time));
    for (int64_t b = 0; b < call.B; ++b) {
        for (int64_t s = 0; s < call.time; ++s) {
            const int64_t t = call.options.go_backwards ? call.time - 1 - s : s, at = b * call.time + s;
            const uint8_t bits = call.steps ? call.steps[b * call.time + t] : uint8_t(kKeep);
            if (!(bits & kKeep)) continue;
            const T* const h = bits & kReset ? zeros : s ? call.h + (at - 1) * call.H : call.h0 + b * call.H;
            kept.push_back({call.x + (b * call.time + t) * call.I, h, call.dz + at * 4 * call.H, b});
        }
    }
    return kept;
}

}  // namespace

template <class T> void run_forward(ForwardCall<T> call) {
    if (call.B == 0) return;
    const Kernels<T>& kernels = current_kernels<T>();
    const Block packed = allocate(kernels.pack_forward_size(call.I, call.H) * sizeof(T));
    call.packed = static_cast<T*>(packed.get());
    kernels.pack_forward(call, static_cast<T*>(packed.get()));
    const int parts = int(std::min<int64_t>(threads_for(call), call.B));
    const auto blocks = scratch_for(call.B, parts, [&](int64_t rows) { return kernels.forward_scratch(call, rows); });
    split(call.B, parts,
          [&](int64_t begin, int64_t end, int index) { kernels.forward(call, begin, end, blocks[size_t(index)].get()); });
}

template <class T> void run_backward(BackwardCall<T> call) {
    const Kernels<T>& kernels = current_kernels<T>();
    const int threads = threads_for(call);
    if (call.B > 0) {
        const Block kernel = allocate(kernels.pack_backward_size(call.I, call.H) * sizeof(T));
        const Block recurrent = allocate(kernels.pack_backward_size(call.H, call.H) * sizeof(T));
        call.packed_kernel = static_cast<T*>(kernel.get());
        call.packed_recurrent = static_cast<T*>(recurrent.get());
        kernels.pack_backward(call.kernel, call.I, call.H, static_cast<T*>(kernel.get()));
        kernels.pack_backward(call.recurrent_kernel, call.H, call.H, static_cast<T*>(recurrent.get()));
        const int parts = int(std::min<int64_t>(threads, call.B));
        const auto blocks = scratch_for(call.B, parts, [&](int64_t n) { return kernels.backward_scratch(call, n); });
        split(call.B, parts, [&](int64_t begin, int64_t end, int index) {
            kernels.backward(call, begin, end, blocks[size_t(index)].get());
        });
    }
    const std::vector<T> zeros(size_t(call.H), T(0));
    const auto kept = kept_steps(call, zeros.data());
    const auto blocks = scratch_for(threads, threads, [&](int64_t) { return kernels.weights_scratch(call); });
    split(kernels.panels(call), threads, [&](int64_t begin, int64_t end, int index) {
        kernels.weights(call, kept.data(), int64_t(kept.size()), begin, end, blocks[size_t(index)].get());
    });
}

double measure_peak(int threads) {
    constexpr int64_t kRounds = 400000;  // some 3 ms
    const Target& target = current_target();
    std::vector<float> sink(size_t(threads) * 16);
    double best = 0;
    for (int attempt = 0; attempt < 5; ++attempt) {
        const auto start = std::chrono::steady_clock::now();
        split(threads, threads, [&](int64_t, int64_t, int index) { sink[size_t(index) * 16] = target.peak(kRounds); });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        best = std::max(best, double(kRounds) * target.peak_flops * threads / seconds.count());
    }
    return best;
}

template void run_forward(ForwardCall<float>);
template void run_forward(ForwardCall<double>);
template void run_backward(BackwardCall<float>);
template void run_backward(BackwardCall<double>);

}  // namespace glasscell
