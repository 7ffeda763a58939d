// Prints a digest of the bits of fixed pseudo-random calls, forward and backward, float and double. It is the same for
// every compiler, processor and instruction set. GLASSCELL_TARGET forces a target. .ci/compilers builds and compares
// it.
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "engine/backward.h"
#include "engine/dispatch.h"
#include "engine/forward.h"
#include "engine/thread_pool.h"

using namespace glasscell;

struct Random {
    uint64_t state = 1;

    uint64_t below(uint64_t n) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (state >> 33) % n;
    }
    double value() { return double(below(1 << 20)) / (1 << 19) - 1; }  // -1..1, exact in both dtypes
};

struct Digest {
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    int64_t numbers = 0, nans = 0;

    template <class... Values> void add(const Values&... values) { (add_one(values), ...); }

    template <class T> void add_one(const std::vector<T>& values) {
        for (T value : values) {
            ++numbers;
            if (std::isnan(value)) ++nans, value = 0;  // its sign and payload depend on the processor
            unsigned char bytes[sizeof(T)];
            std::memcpy(bytes, &value, sizeof(T));
            for (const unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211u;
        }
    }
};

// Adds one call to the digest. `few`: few rows and many units, so that threads share the rows and wait for each other
// after each step (engine/partition.h).
template <class T> void one_call(Random& random, Digest& digest, bool few) {
    const auto between = [&](int64_t low, int64_t high) {
        return low + int64_t(random.below(uint64_t(high - low + 1)));
    };
    const int64_t B = between(1, few ? 3 : 9), time = few ? between(5, 20) : between(1, 9);
    const int64_t I = between(1, 40), H = few ? between(100, 200) : between(1, 70);
    const auto draw = [&](int64_t size, double scale) {
        std::vector<T> values;
        for (int64_t n = 0; n < size; ++n) values.push_back(T(random.value() * scale));
        return values;
    };
    const auto zeros = [](int64_t size) { return std::vector<T>(size_t(size), T(0)); };

    constexpr int64_t kGates[] = {0, 1, 4};
    const int64_t dropout_gates = kGates[random.below(3)], recurrent_dropout_gates = kGates[random.below(3)];
    const auto x = draw(B * time * I, 2), kernel = draw(I * 4 * H, 0.2), recurrent = draw(H * 4 * H, 0.1);
    const auto bias = draw(4 * H, 0.5), h0 = draw(B * H, 1), c0 = draw(B * H, 1);
    const auto dropout_mask = draw(4 * B * I, 1), recurrent_dropout_mask = draw(4 * B * H, 1);
    std::vector<uint8_t> step_flags;
    for (int64_t n = 0; n < B * time; ++n) step_flags.push_back(uint8_t(random.below(4)));
    Call<T> call{};
    call.B = B, call.time = time, call.I = I, call.H = H;
    const bool usual = random.below(2);  // activations
    call.options.activation = usual ? Activation::tanh : Activation(random.below(kActivations));
    call.options.recurrent_activation = usual ? Activation::sigmoid : Activation(random.below(kActivations));
    call.options.go_backwards = random.below(2);
    call.x = x.data(), call.kernel = kernel.data(), call.recurrent_kernel = recurrent.data();
    call.bias = random.below(4) ? bias.data() : nullptr;
    call.h0 = h0.data(), call.c0 = c0.data();
    call.step_flags = random.below(2) ? step_flags.data() : nullptr;
    if (dropout_gates) call.dropout_mask = dropout_mask.data(), call.dropout_gates = dropout_gates;
    if (recurrent_dropout_gates) {
        call.recurrent_dropout_mask = recurrent_dropout_mask.data();
        call.recurrent_dropout_gates = recurrent_dropout_gates;
    }

    ForwardCall<T> forward{};
    static_cast<Call<T>&>(forward) = call;
    auto h = zeros(B * time * H), c = h, gates = zeros(B * time * 4 * H), z = gates, hT = zeros(B * H), cT = hT;
    auto cell_checkpoints = zeros(time_block_count(B, time) * B * H);
    forward.time_block = {0, time};
    forward.h = h.data(), forward.c = c.data(), forward.gates = gates.data(), forward.z = z.data();
    forward.cell_checkpoints = cell_checkpoints.data(), forward.hT = hT.data(), forward.cT = cT.data();
    run_forward(forward);
    digest.add(h, c, gates, z, cell_checkpoints, hT, cT);

    // The final state alone, in place, from packed weights.
    const AlignedBuffer packed = pack_weights<T>(call);
    forward.h = forward.c = forward.gates = forward.z = forward.cell_checkpoints = nullptr;
    forward.packed = packed.template as<T>();
    hT = h0, cT = c0;
    forward.h0 = forward.hT, forward.c0 = forward.cT;
    run_forward(forward);
    digest.add(hT, cT);

    const auto dh_all = draw(B * time * H, 1), dhT = draw(B * H, 1), dcT = draw(B * H, 1);
    for (const bool recompute : {false, true}) {
        Backward<T> pass{};
        BackwardCall<T>& backward = pass.call;
        static_cast<Call<T>&>(backward) = call;
        auto dx = zeros(B * time * I), dh0 = zeros(B * H), dc0 = dh0;
        auto d_kernel = zeros(I * 4 * H), d_recurrent = zeros(H * 4 * H), d_bias = zeros(4 * H);
        backward.h = h.data();
        if (recompute)
            pass.cell_checkpoints = cell_checkpoints.data();
        else
            backward.c = c.data(), backward.gates = gates.data(), backward.z = z.data();
        backward.dh_all = dh_all.data(), pass.dhT = dhT.data(), pass.dcT = dcT.data();
        backward.dx = dx.data(), backward.d_kernel = d_kernel.data(), backward.d_recurrent = d_recurrent.data();
        backward.d_bias = d_bias.data(), backward.dh = dh0.data(), backward.dc = dc0.data();
        run_backward(pass);
        digest.add(dx, d_kernel, d_recurrent, d_bias, dh0, dc0);
    }
}

// With an argument, teams form and end at random: the digest is the same.
int main(int arguments, char**) {
    if (arguments > 1) set_teams(Teams::at_random);
    Random random;
    Digest digest;
    for (int n = 0; n < 72; ++n) {
        set_num_threads(1 + n % 3);
        one_call<float>(random, digest, n >= 60);
        one_call<double>(random, digest, n >= 60);
    }
    if (digest.nans * 20 > digest.numbers) return std::puts("too many NaN to mean much"), 1;
    std::printf("%016" PRIx64 " %s\n", digest.hash, current_target().name);
}
