#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "engine/thread_pool.h"
#include "engine/dispatch.h"

namespace glasscell {
namespace {

// Of one step of all rows, for so many inputs. A block of few units takes as long as a full one.
template <class T> double multiply_adds(const Call<T>& call, int64_t inputs) {
    const int64_t lanes = current_kernels<T>().lanes, units = (call.H + lanes - 1) / lanes * lanes;
    return 4.0 * double(call.B) * double(units) * double(inputs + call.H);
}

// work(begin, end) over rows of so many numbers, to pack or turn them. A number takes as long as some 16 multiply-adds.
template <class Work> void split_packing(int64_t rows, int64_t numbers, CancellationToken* cancellation, Work work) {
    constexpr int64_t kNumbers = 1 << 22;  // of a piece: some milliseconds
    const int64_t most = std::max<int64_t>(1, kNumbers / std::max<int64_t>(1, numbers));
    split_into_pieces(rows, most, worth_threads(16 * double(rows * numbers)), cancellation, work);
}

template <class T> AlignedBuffer array(int64_t count) { return AlignedBuffer(size_t(count) * sizeof(T)); }

}  // namespace

template <class T> AlignedBuffer pack_weights(const Call<T>& call) {
    const Kernels<T>& kernels = current_kernels<T>();
    AlignedBuffer packed(kernels.pack_forward_size(call.I, call.H) * sizeof(T));
    const int64_t rows = 1 + call.I + call.H;
    split_packing(rows, 4 * call.H, call.cancellation,
                  [&](int64_t begin, int64_t end) { kernels.pack_forward(call, begin, end, packed.template as<T>()); });
    return packed;
}

template <class T> static ThreadGrid grid_of(const ForwardCall<T>& call) {
    const Kernels<T>& kernels = current_kernels<T>();
    return choose_grid(call.B, call.time_block.steps, multiply_adds(call, call.I), call.H, kForwardMeeting, num_threads(),
                     kernels.tile_rows, kernels.lanes);
}

template <class T> static ThreadGrid grid_of(const Backward<T>& pass) {
    const Kernels<T>& kernels = current_kernels<T>();
    const BackwardCall<T>& call = pass.call;
    const int threads = worth_threads(multiply_adds(call, call.I) * double(call.time));
    return choose_grid(call.B, call.time, multiply_adds(call, 0), call.H, kBackwardMeeting, threads, kernels.tile_rows,
                     kernels.lanes);
}

template <class T>
ForwardPass<T>::ForwardPass(const ForwardCall<T>& call) : ForwardPass(call, grid_of(call)) {}

template <class T>
ForwardPass<T>::ForwardPass(const ForwardCall<T>& call, ThreadGrid grid)
    : schedule_(grid, assign_rows<T>(call, grid.rows), call.H, current_kernels<T>().lanes) {
    const Kernels<T>& kernels = current_kernels<T>();
    const auto own = [&](int64_t rows) { return kernels.forward_scratch(call, rows); };
    const auto shared = [&](int64_t rows) { return kernels.forward_shared(call, rows); };
    for (int n = 0; n < schedule_.size(); ++n) scratch_.emplace_back(schedule_.most(n, own));
    for (int n = 0; n < schedule_.groups(); ++n) shared_.emplace_back(schedule_.most(n * grid.units, shared));
}

template <class T> void ForwardPass<T>::run(const ForwardCall<T>& call) {
    const Kernels<T>& kernels = current_kernels<T>();
    schedule_.run(call.cancellation, [&](const WorkItem& item, int n) {
        kernels.forward(call, item, scratch_[size_t(n)].template as<void>(),
                        shared_[size_t(schedule_.group(n))].template as<void>());
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

namespace {

template <class T> AlignedBuffer pack_transposed(const Call<T>& call, const T* matrix, int64_t outputs, int64_t vectors) {
    const Kernels<T>& kernels = current_kernels<T>();
    const int64_t H = call.H;
    AlignedBuffer packed = array<T>(int64_t(kernels.pack_backward_size(outputs, H)));
    const int64_t width = vectors * kernels.lanes;
    split_packing((outputs + width - 1) / width, width * 4 * H, call.cancellation, [&](int64_t begin, int64_t end) {
        for (int64_t panel = begin; panel < end; ++panel)
            kernels.pack_backward(matrix, call.transposed_weights, outputs, H, vectors, panel, packed.template as<T>());
    });
    return packed;
}

// The gates and cell states of one span, computed anew: where they stand, and the pass that fills them.
template <class T> struct Recomputed {
    AlignedBuffer h, c, gates, z;
    ForwardCall<T> call{};
    std::unique_ptr<ForwardPass<T>> pass;  // for whole spans; the last one may be shorter

    Recomputed(const BackwardCall<T>& back, int64_t steps, const T* packed) {
        const int64_t BH = back.B * back.H;
        h = array<T>(BH * 2), c = array<T>(BH * (steps + 1)), gates = array<T>(BH * steps * 4);
        static_cast<Call<T>&>(call) = back;
        call.packed = packed;
        call.h0 = h.as<T>(), call.hT = h.as<T>() + BH, call.cT = c.as<T>() + BH * steps;
        call.c = c.as<T>(), call.gates = gates.as<T>();
        if (needs_raw(back.options)) {
            z = array<T>(BH * steps * 4);
            call.z = z.as<T>();
        }
        call.time_block = {0, steps};
        pass = std::make_unique<ForwardPass<T>>(call);
    }

    void run(BackwardCall<T>& back, const T* h0, const T* c_before) {
        const int64_t H = back.H;
        for (int64_t b = 0; b < back.B; ++b)
            std::memcpy(h.as<T>() + b * H, back.time_block.first ? back.h + (b * back.time + back.time_block.first - 1) * H : h0 + b * H,
                        size_t(H) * sizeof(T));
        call.time_block = back.tape = back.time_block;
        call.c0 = back.c_before = c_before;
        back.c = call.c, back.gates = call.gates, back.z = call.z;
        pass->run(call);
    }
};

// The kept steps of the span with their factors, rows ascending, in each row steps ascending: the order of the sums.
template <class T> void collect(const BackwardCall<T>& call, const T* zeros, std::vector<KeptStep<T>>& kept) {
    kept.clear();
    for (int64_t b = 0; b < call.B; ++b) {
        for (int64_t s = call.time_block.first; s < call.time_block.first + call.time_block.steps; ++s) {
            const int64_t t = time_of(call, s), H = call.H;
            const uint8_t bits = flags_of(call, b, t);
            if (!(bits & kKeep)) {
                if (call.dx) std::memset(call.dx + (b * call.time + t) * call.I, 0, size_t(call.I) * sizeof(T));
                continue;
            }
            const T* const h = bits & kReset ? zeros : s ? call.h + (b * call.time + s - 1) * H : call.h0 + b * H;
            kept.push_back({call.x + (b * call.time + t) * call.I, h, call.dz + offset_in(call.time_block, b, s) * 4 * H, b});
        }
    }
}

// One span's gradients of the raw gates, and what its products read beside them.
template <class T> struct BlockResiduals {
    AlignedBuffer dz, factors;
    std::vector<KeptStep<T>> kept;

    BlockResiduals(const BackwardCall<T>& call, int64_t count)
        : dz(array<T>(count * 4 * call.H)), factors(array<T>(int64_t(current_kernels<T>().masked_operands_size(call, count)))) {
        kept.reserve(size_t(count));
    }
};

// What does not feed back, beside the loop and after it: the factors of the span `now` that it goes through, and dx and the
// sums over the kept steps of the span `done` that it has left. One thread alone may do both of the same span.
template <class T> class DeferredProducts {
  public:
    DeferredProducts(const BackwardCall<T>& call, BlockResiduals<T>& now, const BlockResiduals<T>& done)
        : call_(call), now_(now), done_(done), masked_(call.input_gates || call.recurrent_gates ? products(now.kept) : 0),
          input_gradients_(call.dx ? products(done.kept) : 0),
          panels_(done.kept.empty() ? 0 : current_kernels<T>().weight_panels(call)) {}

    void run(int index, int count) {
        const Kernels<T>& kernels = current_kernels<T>();
        const KeptStep<T>*const now = now_.kept.data(), *const done = done_.kept.data();
        const int64_t copied = int64_t(now_.kept.size()), kept = int64_t(done_.kept.size());
        masked_.run(index, count, call_.cancellation, [&](int64_t n) {
            kernels.masked_operands(call_, now, copied, n * kSteps, std::min((n + 1) * kSteps, copied),
                            now_.factors.template as<T>());
        });
        input_gradients_.run(index, count, call_.cancellation,
                    [&](int64_t n) { kernels.input_gradients(call_, done, n * kSteps, std::min((n + 1) * kSteps, kept)); });
        panels_.run(index, count, call_.cancellation,
                    [&](int64_t n) { kernels.weight_gradients(call_, done, kept, n, done_.factors.template as<T>()); });
    }

  private:
    static constexpr int64_t kSteps = 48;

    static int64_t products(const std::vector<KeptStep<T>>& kept) { return (int64_t(kept.size()) + kSteps - 1) / kSteps; }

    const BackwardCall<T>& call_;
    BlockResiduals<T>& now_;
    const BlockResiduals<T>& done_;
    WorkQueue masked_, input_gradients_, panels_;
};

}  // namespace

template <class T> static void backward_pass(Backward<T> pass) {
    const Kernels<T>& kernels = current_kernels<T>();
    BackwardCall<T>& call = pass.call;
    const int64_t B = call.B, I = call.I, H = call.H, time = call.time, steps = steps_per_time_block(B, time);
    std::memset(call.d_kernel, 0, size_t(I * 4 * H) * sizeof(T));
    std::memset(call.d_recurrent, 0, size_t(H * 4 * H) * sizeof(T));
    if (call.d_bias) std::memset(call.d_bias, 0, size_t(4 * H) * sizeof(T));
    if (B == 0) return;
    for (const auto& [state, final] : {std::pair(call.dh, pass.dhT), std::pair(call.dc, pass.dcT)}) {
        if (final) std::memcpy(state, final, size_t(B * H) * sizeof(T));
        else std::memset(state, 0, size_t(B * H) * sizeof(T));
    }
    if (time == 0) return;

    const int threads = worth_threads(multiply_adds(call, I) * double(time));
    const ThreadGrid grid = grid_of(pass);
    const int64_t blocks = (H + kernels.lanes - 1) / kernels.lanes;
    call.panel_vectors = std::max<int64_t>(1, std::min(kernels.tile_vectors, blocks / grid.units));
    Schedule schedule(grid, assign_rows<T>(call, grid.rows), H, call.panel_vectors * kernels.lanes);
    std::vector<AlignedBuffer> scratch;
    for (int n = 0; n < schedule.size(); ++n) scratch.emplace_back(kernels.backward_scratch(call, B));

    const AlignedBuffer packed_kernel = call.dx ? pack_transposed(call, call.kernel, I, kernels.tile_vectors) : AlignedBuffer();
    const AlignedBuffer packed_recurrent = pack_transposed(call, call.recurrent_kernel, H, call.panel_vectors);
    call.packed_kernel = packed_kernel.as<T>(), call.packed_recurrent = packed_recurrent.as<T>();

    // Several threads compute the products of a span while the loop goes through the one before it: a slower thread then
    // does fewer of them, instead of being waited for.
    const int64_t behind = threads > 1;
    std::vector<BlockResiduals<T>> data;
    for (int64_t n = 0; n <= behind; ++n) data.emplace_back(call, B * steps);
    AlignedBuffer packed;
    std::unique_ptr<Recomputed<T>> recomputed;
    if (pass.cell_checkpoints) {
        packed = pack_weights<T>(call);
        recomputed = std::make_unique<Recomputed<T>>(call, steps, packed.template as<T>());
    } else {
        call.tape = {0, time};
        call.c_before = call.c0;
    }
    const std::vector<T> zeros(size_t(H), T(0));
    for (int64_t span = (time - 1) / steps; span >= -behind && !poll_cancelled(call.cancellation); --span) {
        BlockResiduals<T>&now = data[size_t(span & behind)], &done = data[size_t(~span & behind)];
        now.kept.clear();
        if (span >= 0) {
            call.time_block = {span * steps, std::min(steps, time - span * steps)};
            call.dz = now.dz.template as<T>();
            if (recomputed) recomputed->run(call, call.h0, pass.cell_checkpoints + span * B * H);
            collect(call, zeros.data(), now.kept);
        }
        DeferredProducts<T> products(call, now, done);
        if (span < 0) {
            split(threads, threads, call.cancellation, [&](int64_t n, int64_t) { products.run(int(n), threads); });
        } else {
            schedule.run(
                threads, call.cancellation,
                [&](const WorkItem& item, int n) { kernels.backward(call, item, scratch[size_t(n)].template as<void>()); },
                [&](int n) { products.run(n, threads); });
        }
    }
}

template <class T> void run_backward(Backward<T> pass) {
    BackwardCall<T>& call = pass.call;
    if (!call.transposed_weights) return backward_pass(pass);
    // The sums grow as (I, 4H) and (H, 4H), and are turned at the end.
    const int64_t I = call.I, H = call.H;
    T *const d_kernel = call.d_kernel, *const d_recurrent = call.d_recurrent;
    const AlignedBuffer kernel = array<T>(I * 4 * H), recurrent = array<T>(H * 4 * H);
    call.d_kernel = kernel.template as<T>(), call.d_recurrent = recurrent.template as<T>();
    backward_pass(pass);
    const auto transpose = [&](const T* from, int64_t rows, T* to) {
        split_packing(rows, 4 * H, call.cancellation, [&](int64_t begin, int64_t end) {
            current_kernels<T>().transpose(from, rows, 4 * H, begin, end, to);
        });
    };
    transpose(call.d_kernel, I, d_kernel), transpose(call.d_recurrent, H, d_recurrent);
}

template <class T> static const Call<T>& call_of(const ForwardCall<T>& call) { return call; }
template <class T> static const Call<T>& call_of(const Backward<T>& pass) { return pass.call; }

// Runs work(pass) for all, one after another, or each on a thread of its own: where none could use more threads than there
// are passes, and the whole is worth them.
template <class Pass, class Work> static void run_concurrently(const std::vector<Pass>& passes, Work work) {
    double total = 0;
    int parts = 1;
    for (const Pass& pass : passes) {
        const auto& call = call_of(pass);
        const ThreadGrid grid = grid_of(pass);
        total += multiply_adds(call, call.I) * double(call.time);
        parts = std::max(parts, grid.rows * grid.units);
    }
    const int count = int(passes.size()), threads = parts <= count && count <= worth_threads(total) ? count : 1;
    split(count, threads, call_of(passes[0]).cancellation, [&](int64_t begin, int64_t end) {
        for (; begin < end; ++begin) work(passes[size_t(begin)]);
    });
}

template <class T> void run_forward(const std::vector<ForwardCall<T>>& calls) {
    run_concurrently(calls, [](const ForwardCall<T>& call) { run_forward(call); });
}

template <class T> void run_backward(const std::vector<Backward<T>>& passes) {
    run_concurrently(passes, [](const Backward<T>& pass) { run_backward(pass); });
}

// The best of five attempts at part(index) on each thread, as units of work a second when one part does `units`.
template <class Work> static double best_rate(int threads, double units, Work work) {
    double best = 0;
    for (int attempt = 0; attempt < 5; ++attempt) {
        const auto start = std::chrono::steady_clock::now();
        split(threads, threads, nullptr, [&](int64_t index, int64_t) { work(index); });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        best = std::max(best, units * threads / seconds.count());
    }
    return best;
}

double measure_peak(int threads) {
    constexpr int64_t kRounds = 400000;  // some 3 ms
    const Target& target = current_target();
    std::vector<float> sink(size_t(threads) * 16);
    return best_rate(threads, double(kRounds) * target.peak_flops,
                     [&](int64_t index) { sink[size_t(index) * 16] = target.peak(kRounds); });
}

double measure_l2_bandwidth(int threads) {
    constexpr int64_t kFloats = 128 * 1024, kPasses = 400;  // 512 KiB: too much for L1, at home in L2; some 3 ms
    const Target& target = current_target();
    std::vector<float> sink(size_t(threads) * 16), memory(size_t(threads) * kFloats);
    return best_rate(threads, double(kPasses) * kFloats * sizeof(float), [&](int64_t index) {
        for (int64_t pass = 0; pass < kPasses; ++pass)
            sink[size_t(index) * 16] += target.read(memory.data() + index * kFloats, kFloats);
    });
}

template class ForwardPass<float>;
template class ForwardPass<double>;
template AlignedBuffer pack_weights(const Call<float>&);
template AlignedBuffer pack_weights(const Call<double>&);
template void run_forward(ForwardCall<float>);
template void run_forward(ForwardCall<double>);
template void run_forward(const std::vector<ForwardCall<float>>&);
template void run_forward(const std::vector<ForwardCall<double>>&);
template void run_backward(Backward<float>);
template void run_backward(Backward<double>);
template void run_backward(const std::vector<Backward<float>>&);
template void run_backward(const std::vector<Backward<double>>&);

}  // namespace glasscell
