#include "directions.h"

#include "calls.h"
#include "engine.h"

namespace glasscell {
namespace {

template <class T> std::optional<View<T>> given(const View<T>& view) {
    return view.rank == 1 && view.dimensions[0] == 0 ? std::nullopt : std::optional<View<T>>(view);
}

// How many directions the lists have arrays for.
template <class T> size_t count(const Directions<T>& directions) {
    const size_t n = directions.codes.size() / kCodes;
    if (n == 0 || directions.codes.size() != kCodes * n || directions.own.size() != 7 * n)
        throw std::invalid_argument("own, codes: expected 7 arrays and 4 codes for each direction");
    return n;
}

void expect(const char* name, size_t got, size_t expected) {
    if (got != expected)
        throw std::invalid_argument(std::string(name) + ": expected " + std::to_string(expected) + " arrays, got " +
                                    std::to_string(got));
}

template <class T> Call<T> make_call(const Directions<T>& d, size_t n) {
    const auto& own = &d.own[7 * n];
    const auto& codes = &d.codes[kCodes * n];
    Call<T> call = make_call<T>(d.x, own[0], own[1], given(own[2]), own[3], own[4], given(d.steps), given(own[5]),
                                given(own[6]), codes[0], codes[1], codes[2], codes[3] != 0);
    call.interrupt = d.interrupt;
    return call;
}

}  // namespace

template <class T> void run_forward(const Directions<T>& directions, const Views<T>& kept) {
    const size_t n = count(directions);
    expect("kept", kept.size(), 6 * n);
    std::vector<ForwardCall<T>> calls(n);
    for (size_t k = 0; k < n; ++k) {
        ForwardCall<T>& call = calls[k] = {};
        static_cast<Call<T>&>(call) = make_call(directions, k);
        const View<T>* const out = &kept[6 * k];
        const int64_t B = call.B, time = call.time, H = call.H;
        call.span = {0, time};
        call.hT = checked("hT", out[0], {B, H}), call.cT = checked("cT", out[1], {B, H});
        call.h = checked("h", given(out[2]), {B, time, H}), call.c = checked("c", given(out[3]), {B, time, H});
        call.gates = checked("gates", given(out[4]), {B, time, 4, H});
        call.z = checked("z", given(out[5]), {B, time, 4, H});
    }
    run_forward(calls);
}

template <class T>
void run_backward(const Directions<T>& directions, const Views<const T>& kept, const Views<const T>& cotangents,
                  const Views<T>& gradients) {
    const size_t n = count(directions);
    expect("kept", kept.size(), 6 * n), expect("cotangents", cotangents.size(), 3 * n);
    expect("gradients", gradients.size(), 1 + 5 * n);
    std::vector<Backward<T>> passes(n);
    std::vector<Block> others;  // dx of the directions after the first
    for (size_t k = 0; k < n; ++k) {
        passes[k] = {};
        BackwardCall<T>& call = passes[k].call;
        static_cast<Call<T>&>(call) = make_call(directions, k);
        const View<const T>*tape = &kept[6 * k], *d = &cotangents[3 * k];
        const View<T>* const out = &gradients[1 + 5 * k];
        const int64_t B = call.B, time = call.time, I = call.I, H = call.H;
        call.h = checked("h", tape[2], {B, time, H}), call.c = checked("c", tape[3], {B, time, H});
        call.gates = checked("gates", tape[4], {B, time, 4, H});
        call.z = checked("z", given(tape[5]), {B, time, 4, H});
        if (!call.z && (needs_raw(call.options.activation) || needs_raw(call.options.recurrent_activation)))
            throw std::invalid_argument("z: expected the raw gates, which this activation's derivative needs");
        passes[k].dhT = checked("dhT", given(d[0]), {B, H}), passes[k].dcT = checked("dcT", given(d[1]), {B, H});
        call.dh_all = checked("dh", given(d[2]), {B, time, H});
        call.dx = checked("dx", given(gradients[0]), {B, time, I});
        if (k > 0 && call.dx) {
            others.emplace_back(size_t(B * time * I) * sizeof(T));
            call.dx = others.back().template as<T>();
        }
        call.d_kernel = checked_kernel("d_kernel", out[0], call, I);
        call.d_recurrent = checked_kernel("d_recurrent", out[1], call, H);
        call.d_bias = checked("d_bias", given(out[2]), {4 * H});
        call.dh = checked("dh0", out[3], {B, H}), call.dc = checked("dc0", out[4], {B, H});
    }
    run_backward(passes);
    const BackwardCall<T>& first = passes[0].call;
    const int64_t elements = first.B * first.time * first.I;
    for (const Block& other : others) {
        const T* const more = other.template as<T>();
        const auto add = [&](int64_t begin, int64_t end) {
            for (int64_t m = begin; m < end; ++m) first.dx[m] += more[m];
        };
        split_into_pieces(elements, 1 << 22, worth_threads(double(elements)), directions.interrupt, add);
    }
}

template void run_forward(const Directions<float>&, const Views<float>&);
template void run_forward(const Directions<double>&, const Views<double>&);
template void run_backward(const Directions<float>&, const Views<const float>&, const Views<const float>&,
                           const Views<float>&);
template void run_backward(const Directions<double>&, const Views<const double>&, const Views<const double>&,
                           const Views<double>&);

}  // namespace glasscell
