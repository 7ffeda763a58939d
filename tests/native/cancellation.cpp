// Counts how often a call polls its cancellation token, within one step too. Run by test_endings.py with the name of a
// pass. Prints the polls of a whole call, and of one that is cancelled at its fifth poll.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "engine/backward.h"
#include "engine/forward.h"
#include "engine/thread_pool.h"

using namespace glasscell;

struct Counter : CancellationToken {
    long polls = 0, last;

    explicit Counter(long last) : CancellationToken{&Counter::count, pthread_self(), false}, last(last) {}

    static void count(CancellationToken* self) {
        Counter& counter = *static_cast<Counter*>(self);
        if (++counter.polls == counter.last) cancel(self);
    }
};

struct Problem {
    int64_t B, time, I, H;
    bool transposed_weights;
    std::vector<float> x, kernel, recurrent, state, h, c, gates, dx, d_kernel, d_recurrent, dh, dc;

    Problem(int64_t B, int64_t time, int64_t I, int64_t H, bool transposed_weights)
        : B(B), time(time), I(I), H(H), transposed_weights(transposed_weights), x(size_t(B * time * I)),
          kernel(size_t(I * 4 * H)), recurrent(size_t(H * 4 * H)), state(size_t(B * H)), h(size_t(B * time * H)), c(h),
          gates(4 * h.size()), dx(x), d_kernel(kernel), d_recurrent(recurrent), dh(state), dc(state) {}

    void fill(Call<float>& call, CancellationToken* cancellation) const {
        call.B = B, call.time = time, call.I = I, call.H = H, call.transposed_weights = transposed_weights;
        call.options = {Activation::tanh, Activation::sigmoid, false};
        call.x = x.data(), call.kernel = kernel.data(), call.recurrent_kernel = recurrent.data();
        call.h0 = call.c0 = state.data(), call.cancellation = cancellation;
    }

    void forward(CancellationToken* cancellation) {
        ForwardCall<float> call{};
        fill(call, cancellation);
        call.time_block = {0, time};
        call.h = h.data(), call.c = c.data(), call.gates = gates.data(), call.hT = dh.data(), call.cT = dc.data();
        run_forward(call);
    }

    void backward(CancellationToken* cancellation, bool inputs) {
        Backward<float> pass{};
        fill(pass.call, cancellation);
        pass.call.h = h.data(), pass.call.c = c.data(), pass.call.gates = gates.data();
        pass.call.dx = inputs ? dx.data() : nullptr;
        pass.call.d_kernel = d_kernel.data(), pass.call.d_recurrent = d_recurrent.data();
        pass.call.dh = dh.data(), pass.call.dc = dc.data();
        run_backward(pass);
    }

    void pack(CancellationToken* cancellation) {
        Call<float> call{};
        fill(call, cancellation);
        pack_weights<float>(call);
    }
};

int main(int, char** arguments) {
    const char* const name = arguments[1];
    set_num_threads(std::atoi(arguments[2]));
    int64_t sizes[4];
    for (int k = 0; k < 4; ++k) sizes[k] = std::atoll(arguments[3 + k]);
    Problem problem(sizes[0], sizes[1], sizes[2], sizes[3], std::atoi(arguments[7]) != 0);
    const auto run = [&](CancellationToken* cancellation) {
        if (!std::strcmp(name, "forward")) problem.forward(cancellation);
        if (!std::strcmp(name, "backward")) problem.backward(cancellation, true);
        if (!std::strcmp(name, "weights")) problem.backward(cancellation, false);
        if (!std::strcmp(name, "pack")) problem.pack(cancellation);
    };
    Counter whole(0), ended(5);
    run(&whole), run(&ended);
    std::printf("%ld %ld\n", whole.polls, ended.polls);
}
