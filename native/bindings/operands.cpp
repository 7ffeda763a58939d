#include "bindings/operands.h"

#include "bindings/checks.h"
#include "engine/backward.h"
#include "engine/forward.h"
#include "engine/partition.h"

namespace glasscell {

Options options_of(const int64_t* codes) {
    return {activation("activation", codes[kActivation]),
            activation("recurrent_activation", codes[kRecurrentActivation]), codes[kGoBackwards] != 0};
}

namespace {

template <class T> std::optional<View<T>> none_if_placeholder(const View<T>& view) {
    return view.rank == 1 && view.dimensions[0] == 0 ? std::nullopt : std::optional<View<T>>(view);
}

void expect(const char* name, size_t got, size_t expected) {
    if (got != expected)
        throw std::invalid_argument(std::string(name) + ": expected " + std::to_string(expected) + ", got " +
                                    std::to_string(got));
}

// Counts the directions for which the lists have arrays.
template <class T> size_t direction_count(const Operands<T>& operands) {
    const size_t n = operands.option_codes.size() / kOptionCodes;
    if (n == 0) throw std::invalid_argument("option_codes: expected some for each direction, got none");
    expect("option_codes", operands.option_codes.size(), kOptionCodes * n);
    expect("inputs", operands.inputs.size(), kInputs * n);
    return n;
}

// Counts the gates that a dropout mask distinguishes: 1 or 4, or 0 without a mask.
template <class T> int64_t gates_of(const std::optional<View<const T>>& mask) {
    return !mask ? 0 : mask->ndim() && mask->shape(0) == 4 ? 4 : 1;
}

// Decodes and checks the options and arrays that direction n reads.
template <class T> Call<T> make_call(const Operands<T>& operands, size_t n) {
    const View<const T>* const in = &operands.inputs[kInputs * n];
    const int64_t* const codes = &operands.option_codes[kOptionCodes * n];
    const auto &x = operands.x, &dropout = in[kDropoutMask], &recurrent_dropout = in[kRecurrentDropoutMask];
    if (x.ndim() != 3) throw std::invalid_argument("x: expected shape (B, T, I), got another rank");
    Call<T> call{};
    call.cancellation = operands.cancellation;
    call.options = options_of(codes);
    call.transposed_weights = codes[kTransposedWeights] != 0;
    set_weights(call, in[kKernel], in[kRecurrentKernel], none_if_placeholder(in[kBias]));
    call.B = x.shape(0), call.time = x.shape(1);
    call.x = checked("x", x, {call.B, call.time, call.I});
    call.h0 = checked("h0", in[kH0], {call.B, call.H}), call.c0 = checked("c0", in[kC0], {call.B, call.H});
    call.step_flags = checked("step_flags", none_if_placeholder(operands.step_flags), {call.B, call.time});
    const auto mask = none_if_placeholder(dropout), recurrent_mask = none_if_placeholder(recurrent_dropout);
    call.dropout_gates = gates_of(mask), call.recurrent_dropout_gates = gates_of(recurrent_mask);
    call.dropout_mask = checked("dropout_mask", mask, {call.dropout_gates, call.B, call.I});
    call.recurrent_dropout_mask =
        checked("recurrent_dropout_mask", recurrent_mask, {call.recurrent_dropout_gates, call.B, call.H});
    return call;
}

template <class T> ForwardCall<T> make_forward(const Operands<T>& operands, const View<T>* out, size_t n) {
    ForwardCall<T> call{};
    static_cast<Call<T>&>(call) = make_call(operands, n);
    const int64_t B = call.B, time = call.time, H = call.H;
    const auto kept = [&](Residual k, std::initializer_list<int64_t> shape) {
        return checked(kResidualNames[k], none_if_placeholder(out[k]), shape);
    };
    call.time_block = {0, time};
    call.hT = checked("hT", out[kFinalH], {B, H}), call.cT = checked("cT", out[kFinalC], {B, H});
    call.h = kept(kH, {B, time, H}), call.c = kept(kC, {B, time, H});
    call.gates = kept(kGates, {B, time, 4, H}), call.z = kept(kZ, {B, time, 4, H});
    call.cell_checkpoints = kept(kCellCheckpoints, {time_block_count(B, time), B, H});
    if (const PackedWeights<T>* const packed = operands.packed) {
        if (packed->I != call.I || packed->H != H)
            throw std::invalid_argument("packed: expected the weights of this call, got those of other sizes");
        if (!per_gate_masks(call)) call.packed = packed->buffer.template as<T>();  // per-gate masks need another layout
    }
    return call;
}

template <class T>
Backward<T> make_backward(const Operands<T>& operands, const View<const T>* residuals, const View<const T>* d,
                          const View<T>& dx, const View<T>* out, size_t n) {
    Backward<T> pass{};
    BackwardCall<T>& call = pass.call;
    static_cast<Call<T>&>(call) = make_call(operands, n);
    const int64_t B = call.B, time = call.time, I = call.I, H = call.H;
    const auto kept = [&](Residual k, std::initializer_list<int64_t> shape) {
        return checked(kResidualNames[k], none_if_placeholder(residuals[k]), shape);
    };
    call.h = checked("h", residuals[kH], {B, time, H}), call.c = kept(kC, {B, time, H});
    call.gates = kept(kGates, {B, time, 4, H}), call.z = kept(kZ, {B, time, 4, H});
    pass.cell_checkpoints = kept(kCellCheckpoints, {time_block_count(B, time), B, H});
    if (!pass.cell_checkpoints && !(call.c && call.gates))
        throw std::invalid_argument("c, gates: expected what forward kept, or cell_checkpoints, got neither");
    if (!pass.cell_checkpoints && !call.z && needs_raw(call.options))
        throw std::invalid_argument("z: expected the raw gates, which this activation's derivative needs, got none");
    pass.dhT = checked("dhT", none_if_placeholder(d[0]), {B, H}), pass.dcT = checked("dcT", none_if_placeholder(d[1]), {B, H});
    call.dh_all = checked("dh", none_if_placeholder(d[2]), {B, time, H});
    call.dx = checked("dx", none_if_placeholder(dx), {B, time, I});
    call.d_kernel = checked_kernel("d_kernel", out[kKernel], call, I);
    call.d_recurrent = checked_kernel("d_recurrent_kernel", out[kRecurrentKernel], call, H);
    call.d_bias = checked("d_bias", none_if_placeholder(out[kBias]), {4 * H});
    call.dh = checked("dh0", out[kH0], {B, H}), call.dc = checked("dc0", out[kC0], {B, H});
    return pass;
}

// Selects index n of the first axis. Its size is `count`, or 1 where all indices share one array.
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

template <class T> Operands<T> part(const Operands<T>& all, int64_t n, int64_t count) {
    return {part(all.x, n, count), part(all.step_flags, n, count), part(all.inputs, n, count), all.option_codes, all.packed,
            all.cancellation};
}

// Calls work(n, count) for each index n of the first axis. Returns false where the arrays have no leading axes.
template <class T, class Work> bool each_part(const Operands<T>& operands, const View<T>& out, Work work) {
    if (operands.x.rank <= 3) return false;
    const int64_t count = out.rank ? out.dimensions[0] : 0;
    for (int64_t n = 0; n < count; ++n) work(n, count);
    return true;
}

template <class T>
void collect(const Operands<T>& operands, const Views<T>& residuals, std::vector<ForwardCall<T>>& calls) {
    const size_t directions = direction_count(operands);
    expect("residuals", residuals.size(), kResiduals * directions);
    if (each_part(operands, residuals[0], [&](int64_t n, int64_t count) {
            collect(part(operands, n, count), part(residuals, n, count), calls);
        }))
        return;
    for (size_t n = 0; n < directions; ++n) calls.push_back(make_forward(operands, &residuals[kResiduals * n], n));
}

// The dx of a direction after the first, and the dx of the first, to which it is added.
template <class T> struct Summand {
    AlignedBuffer buffer;
    T* sum;
    int64_t size;
};

template <class T>
void collect(const Operands<T>& operands, const Views<const T>& residuals, const Views<const T>& cotangents,
             const Views<T>& gradients, std::vector<Backward<T>>& passes, std::vector<Summand<T>>& summands) {
    const size_t directions = direction_count(operands);
    expect("residuals", residuals.size(), kResiduals * directions);
    expect("cotangents", cotangents.size(), kOutputs * directions);
    expect("gradients", gradients.size(), 1 + kWeights * directions);
    if (each_part(operands, gradients[1], [&](int64_t n, int64_t count) {
            collect(part(operands, n, count), part(residuals, n, count), part(cotangents, n, count),
                    part(gradients, n, count), passes, summands);
        }))
        return;
    for (size_t n = 0; n < directions; ++n) {
        passes.push_back(make_backward(operands, &residuals[kResiduals * n], &cotangents[kOutputs * n], gradients[0],
                                       &gradients[1 + kWeights * n], n));
        BackwardCall<T>& call = passes.back().call;
        if (n > 0 && call.dx) {
            const int64_t size = call.B * call.time * call.I;
            summands.push_back({AlignedBuffer(size_t(size) * sizeof(T)), call.dx, size});
            call.dx = summands.back().buffer.template as<T>();
        }
    }
}

}  // namespace

template <class T> void run_forward(const Operands<T>& operands, const Views<T>& residuals) {
    std::vector<ForwardCall<T>> calls;
    collect(operands, residuals, calls);
    if (!calls.empty()) run_forward(calls);
}

template <class T>
void run_backward(const Operands<T>& operands, const Views<const T>& residuals, const Views<const T>& cotangents,
                  const Views<T>& gradients) {
    std::vector<Backward<T>> passes;
    std::vector<Summand<T>> summands;
    collect(operands, residuals, cotangents, gradients, passes, summands);
    if (!passes.empty()) run_backward(passes);
    for (const Summand<T>& summand : summands) {
        const T* const more = summand.buffer.template as<T>();
        const auto add = [&](int64_t begin, int64_t end) {
            for (int64_t m = begin; m < end; ++m) summand.sum[m] += more[m];
        };
        split_into_pieces(summand.size, 1 << 22, worth_threads(double(summand.size)), operands.cancellation, add);
    }
}

template void run_forward(const Operands<float>&, const Views<float>&);
template void run_forward(const Operands<double>&, const Views<double>&);
template void run_backward(const Operands<float>&, const Views<const float>&, const Views<const float>&,
                           const Views<float>&);
template void run_backward(const Operands<double>&, const Views<const double>&, const Views<const double>&,
                           const Views<double>&);

}  // namespace glasscell
