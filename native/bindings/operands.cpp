#include "bindings/operands.h"

#include "bindings/calls.h"
#include "engine/backward.h"
#include "engine/forward.h"

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
    Call<T> call = make_call<T>(d.x, own[0], own[1], given(own[2]), own[3], own[4], given(d.step_flags), given(own[5]),
                                given(own[6]), codes[0], codes[1], codes[2], codes[3] != 0);
    call.cancellation = d.cancellation;
    return call;
}

// What stands at place n of the first axis, which has `count` places, or one for all of them.
template <class T> View<T> part(const View<T>& view, int64_t n, int64_t count) {
    if (view.rank == 0 || (view.dimensions[0] != count && view.dimensions[0] != 1))
        throw std::invalid_argument("a leading axis: expected size 1 or " + std::to_string(count));
    int64_t size = view.dimensions[0] == 1 ? 0 : 1;
    for (size_t axis = 1; axis < view.rank; ++axis) size *= view.dimensions[axis];
    return {view.elements + n * size, view.rank - 1, view.dimensions + 1};
}

template <class T> Views<T> part(const Views<T>& views, int64_t n, int64_t count) {
    Views<T> parts;
    parts.reserve(views.size());
    for (const View<T>& view : views) parts.push_back(part(view, n, count));
    return parts;
}

template <class T> Directions<T> part(const Directions<T>& d, int64_t n, int64_t count) {
    return {part(d.x, n, count), part(d.step_flags, n, count), part(d.own, n, count), d.codes, d.cancellation};
}

// Calls work(n, count) for the places of the first axis, where the arrays have leading axes.
template <class T, class Work> bool each_part(const Directions<T>& directions, const View<T>& out, Work work) {
    if (directions.x.rank <= 3) return false;
    const int64_t count = out.rank ? out.dimensions[0] : 0;
    for (int64_t n = 0; n < count; ++n) work(n, count);
    return true;
}

template <class T>
void collect(const Directions<T>& directions, const Views<T>& kept, std::vector<ForwardCall<T>>& calls) {
    const size_t n = count(directions);
    expect("kept", kept.size(), 6 * n);
    if (each_part(directions, kept[0], [&](int64_t at, int64_t parts) {
            collect(part(directions, at, parts), part(kept, at, parts), calls);
        }))
        return;
    for (size_t k = 0; k < n; ++k) {
        ForwardCall<T> call{};
        static_cast<Call<T>&>(call) = make_call(directions, k);
        const View<T>* const out = &kept[6 * k];
        const int64_t B = call.B, time = call.time, H = call.H;
        call.time_block = {0, time};
        call.hT = checked("hT", out[0], {B, H}), call.cT = checked("cT", out[1], {B, H});
        call.h = checked("h", given(out[2]), {B, time, H}), call.c = checked("c", given(out[3]), {B, time, H});
        call.gates = checked("gates", given(out[4]), {B, time, 4, H});
        call.z = checked("z", given(out[5]), {B, time, 4, H});
        calls.push_back(call);
    }
}

// dx of a direction after the first, to be added to that of the first.
template <class T> struct More {
    AlignedBuffer block;
    T* sum;
    int64_t size;
};

template <class T>
void collect(const Directions<T>& directions, const Views<const T>& kept, const Views<const T>& cotangents,
             const Views<T>& gradients, std::vector<Backward<T>>& passes, std::vector<More<T>>& others) {
    const size_t n = count(directions);
    expect("kept", kept.size(), 6 * n), expect("cotangents", cotangents.size(), 3 * n);
    expect("gradients", gradients.size(), 1 + 5 * n);
    if (each_part(directions, gradients[1], [&](int64_t at, int64_t parts) {
            collect(part(directions, at, parts), part(kept, at, parts), part(cotangents, at, parts),
                    part(gradients, at, parts), passes, others);
        }))
        return;
    for (size_t k = 0; k < n; ++k) {
        Backward<T> pass{};
        BackwardCall<T>& call = pass.call;
        static_cast<Call<T>&>(call) = make_call(directions, k);
        const View<const T>*tape = &kept[6 * k], *d = &cotangents[3 * k];
        const View<T>* const out = &gradients[1 + 5 * k];
        const int64_t B = call.B, time = call.time, I = call.I, H = call.H;
        call.h = checked("h", tape[2], {B, time, H}), call.c = checked("c", tape[3], {B, time, H});
        call.gates = checked("gates", tape[4], {B, time, 4, H});
        call.z = checked("z", given(tape[5]), {B, time, 4, H});
        if (!call.z && (needs_raw(call.options.activation) || needs_raw(call.options.recurrent_activation)))
            throw std::invalid_argument("z: expected the raw gates, which this activation's derivative needs");
        pass.dhT = checked("dhT", given(d[0]), {B, H}), pass.dcT = checked("dcT", given(d[1]), {B, H});
        call.dh_all = checked("dh", given(d[2]), {B, time, H});
        call.dx = checked("dx", given(gradients[0]), {B, time, I});
        if (k > 0 && call.dx) {
            others.push_back({AlignedBuffer(size_t(B * time * I) * sizeof(T)), call.dx, B * time * I});
            call.dx = others.back().block.template as<T>();
        }
        call.d_kernel = checked_kernel("d_kernel", out[0], call, I);
        call.d_recurrent = checked_kernel("d_recurrent", out[1], call, H);
        call.d_bias = checked("d_bias", given(out[2]), {4 * H});
        call.dh = checked("dh0", out[3], {B, H}), call.dc = checked("dc0", out[4], {B, H});
        passes.push_back(pass);
    }
}

}  // namespace

template <class T> void run_forward(const Directions<T>& directions, const Views<T>& kept) {
    std::vector<ForwardCall<T>> calls;
    calls.reserve(directions.codes.size() / kCodes);
    collect(directions, kept, calls);
    if (!calls.empty()) run_forward(calls);
}

template <class T>
void run_backward(const Directions<T>& directions, const Views<const T>& kept, const Views<const T>& cotangents,
                  const Views<T>& gradients) {
    std::vector<Backward<T>> passes;
    std::vector<More<T>> others;
    collect(directions, kept, cotangents, gradients, passes, others);
    if (!passes.empty()) run_backward(passes);
    for (const More<T>& other : others) {
        const T* const more = other.block.template as<T>();
        const auto add = [&](int64_t begin, int64_t end) {
            for (int64_t m = begin; m < end; ++m) other.sum[m] += more[m];
        };
        split_into_pieces(other.size, 1 << 22, worth_threads(double(other.size)), directions.cancellation, add);
    }
}

template void run_forward(const Directions<float>&, const Views<float>&);
template void run_forward(const Directions<double>&, const Views<double>&);
template void run_backward(const Directions<float>&, const Views<const float>&, const Views<const float>&,
                           const Views<float>&);
template void run_backward(const Directions<double>&, const Views<const double>&, const Views<const double>&,
                           const Views<double>&);

}  // namespace glasscell
