// The Python module glasscell._native. All checks that keep memory safe are made here once more.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>

#include "engine.h"
#if defined(GLASSCELL_JAX)
#include "jax_ffi.h"
#endif
#include "pool.h"
#include "targets.h"

namespace nb = nanobind;

namespace glasscell {
namespace {

template <class T> using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T> using Out = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
template <class T> using OptionalIn = std::optional<In<T>>;
template <class T> using OptionalOut = std::optional<Out<T>>;

template <class Array> auto checked(const char* name, const Array& array, std::initializer_list<int64_t> shape) {
    bool fits = array.ndim() == shape.size();
    size_t axis = 0;
    for (int64_t n : shape) fits = fits && int64_t(array.shape(axis++)) == n;
    if (fits) return array.data();
    std::string text = std::string(name) + ": expected shape (";
    for (int64_t n : shape) text += std::to_string(n) + ",";
    text += "), got (";
    for (size_t k = 0; k < array.ndim(); ++k) text += std::to_string(array.shape(k)) + ",";
    throw std::invalid_argument(text + ")");
}

template <class Array>
auto checked(const char* name, const std::optional<Array>& array, std::initializer_list<int64_t> shape)
    -> decltype(array->data()) {
    return array ? checked(name, *array, shape) : nullptr;
}

Activation activation(const char* name, int code) {
    if (code < 0 || code >= kActivations)
        throw std::invalid_argument(std::string(name) + ": expected 0.." + std::to_string(kActivations - 1) + ", got " +
                                    std::to_string(code));
    return Activation(code);
}

template <class T>
Call<T> make_call(const In<T>& x, const In<T>& kernel, const In<T>& recurrent_kernel, const OptionalIn<T>& bias,
                  const In<T>& h0, const In<T>& c0, const OptionalIn<uint8_t>& steps, const OptionalIn<T>& input_mask,
                  const OptionalIn<T>& recurrent_mask, int a, int s, int go_backwards) {
    if (x.ndim() != 3) throw std::invalid_argument("x: expected shape (B, T, I), got another rank");
    if (recurrent_kernel.ndim() != 2) throw std::invalid_argument("recurrent_kernel: expected shape (H, 4H)");
    Call<T> call{};
    call.B = int64_t(x.shape(0)), call.time = int64_t(x.shape(1)), call.I = int64_t(x.shape(2));
    call.H = int64_t(recurrent_kernel.shape(0));
    call.options = {activation("activation", a), activation("recurrent_activation", s), go_backwards != 0};
    call.x = x.data();
    call.kernel = checked("kernel", kernel, {call.I, 4 * call.H});
    call.recurrent_kernel = checked("recurrent_kernel", recurrent_kernel, {call.H, 4 * call.H});
    call.bias = checked("bias", bias, {4 * call.H});
    call.h0 = checked("h0", h0, {call.B, call.H});
    call.c0 = checked("c0", c0, {call.B, call.H});
    call.steps = checked("steps", steps, {call.B, call.time});
    const auto gates = [](const OptionalIn<T>& mask) { return !mask ? 0 : mask->ndim() && mask->shape(0) == 4 ? 4 : 1; };
    call.input_gates = gates(input_mask), call.recurrent_gates = gates(recurrent_mask);
    call.input_mask = checked("input_mask", input_mask, {call.input_gates, call.B, call.I});
    call.recurrent_mask = checked("recurrent_mask", recurrent_mask, {call.recurrent_gates, call.B, call.H});
    return call;
}

template <class T>
void forward(In<T> x, In<T> kernel, In<T> recurrent_kernel, OptionalIn<T> bias, In<T> h0, In<T> c0,
             OptionalIn<uint8_t> steps, OptionalIn<T> input_mask, OptionalIn<T> recurrent_mask, OptionalOut<T> h,
             OptionalOut<T> c, OptionalOut<T> gates, OptionalOut<T> z, Out<T> hT, Out<T> cT, int a, int s,
             int go_backwards) {
    ForwardCall<T> call{};
    static_cast<Call<T>&>(call) =
        make_call<T>(x, kernel, recurrent_kernel, bias, h0, c0, steps, input_mask, recurrent_mask, a, s, go_backwards);
    call.h = checked("h", h, {call.B, call.time, call.H});
    call.c = checked("c", c, {call.B, call.time, call.H});
    call.gates = checked("gates", gates, {call.B, call.time, 4, call.H});
    call.z = checked("z", z, {call.B, call.time, 4, call.H});
    call.hT = checked("hT", hT, {call.B, call.H});
    call.cT = checked("cT", cT, {call.B, call.H});
    nb::gil_scoped_release release;
    run_forward(call);
}

template <class T>
void backward(In<T> x, In<T> kernel, In<T> recurrent_kernel, In<T> h0, In<T> c0, OptionalIn<uint8_t> steps,
              OptionalIn<T> input_mask, OptionalIn<T> recurrent_mask, In<T> h, In<T> c, In<T> gates, OptionalIn<T> z,
              OptionalIn<T> dh_all, In<T> dhT, In<T> dcT, Out<T> dz, Out<T> dx, Out<T> d_kernel, Out<T> d_recurrent,
              OptionalOut<T> d_bias, Out<T> dh0, Out<T> dc0, int a, int s, int go_backwards) {
    BackwardCall<T> call{};
    static_cast<Call<T>&>(call) = make_call<T>(x, kernel, recurrent_kernel, std::nullopt, h0, c0, steps, input_mask,
                                               recurrent_mask, a, s, go_backwards);
    const int64_t B = call.B, time = call.time, I = call.I, H = call.H;
    if (!z && (needs_raw(call.options.activation) || needs_raw(call.options.recurrent_activation)))
        throw std::invalid_argument("z: expected the raw gates, which this activation's derivative needs, got None");
    call.h = checked("h", h, {B, time, H});
    call.c = checked("c", c, {B, time, H});
    call.gates = checked("gates", gates, {B, time, 4, H});
    call.z = checked("z", z, {B, time, 4, H});
    call.dh_all = checked("dh_all", dh_all, {B, time, H});
    call.dhT = checked("dhT", dhT, {B, H});
    call.dcT = checked("dcT", dcT, {B, H});
    call.dz = checked("dz", dz, {B, time, 4, H});
    call.dx = checked("dx", dx, {B, time, I});
    call.d_kernel = checked("d_kernel", d_kernel, {I, 4 * H});
    call.d_recurrent = checked("d_recurrent", d_recurrent, {H, 4 * H});
    call.d_bias = checked("d_bias", d_bias, {4 * H});
    call.dh0 = checked("dh0", dh0, {B, H});
    call.dc0 = checked("dc0", dc0, {B, H});
    nb::gil_scoped_release release;
    run_backward(call);
}

template <class T> void bind(nb::module_& m) {
    m.def("forward", &forward<T>, nb::arg("x").noconvert(), nb::arg("kernel").noconvert(),
          nb::arg("recurrent_kernel").noconvert(), nb::arg("bias").noconvert().none(), nb::arg("h0").noconvert(),
          nb::arg("c0").noconvert(), nb::arg("steps").noconvert().none(), nb::arg("input_mask").noconvert().none(),
          nb::arg("recurrent_mask").noconvert().none(), nb::arg("h").noconvert().none(),
          nb::arg("c").noconvert().none(), nb::arg("gates").noconvert().none(), nb::arg("z").noconvert().none(),
          nb::arg("hT").noconvert(), nb::arg("cT").noconvert(), nb::kw_only(), nb::arg("activation"),
          nb::arg("recurrent_activation"), nb::arg("go_backwards"));
    m.def("backward", &backward<T>, nb::arg("x").noconvert(), nb::arg("kernel").noconvert(),
          nb::arg("recurrent_kernel").noconvert(), nb::arg("h0").noconvert(), nb::arg("c0").noconvert(),
          nb::arg("steps").noconvert().none(), nb::arg("input_mask").noconvert().none(),
          nb::arg("recurrent_mask").noconvert().none(), nb::arg("h").noconvert(), nb::arg("c").noconvert(),
          nb::arg("gates").noconvert(), nb::arg("z").noconvert().none(), nb::arg("dh_all").noconvert().none(),
          nb::arg("dhT").noconvert(), nb::arg("dcT").noconvert(), nb::arg("dz").noconvert(), nb::arg("dx").noconvert(),
          nb::arg("d_kernel").noconvert(), nb::arg("d_recurrent").noconvert(), nb::arg("d_bias").noconvert().none(),
          nb::arg("dh0").noconvert(), nb::arg("dc0").noconvert(), nb::kw_only(), nb::arg("activation"),
          nb::arg("recurrent_activation"), nb::arg("go_backwards"));
}

}  // namespace
}  // namespace glasscell

NB_MODULE(_native, m) {
    using namespace glasscell;
    current_target();  // an unknown GLASSCELL_TARGET fails at import
    bind<float>(m);
    bind<double>(m);
    m.def("needs_raw_gates", [](int a, int s) {
        return needs_raw(activation("activation", a)) || needs_raw(activation("recurrent_activation", s));
    });
    m.def("target", [] { return std::string(current_target().name); });
    m.def("targets", [] {
        std::vector<std::string> names;
        for (const Target* target : available_targets()) names.emplace_back(target->name);
        return names;
    });
    m.def("compiler", [] { return std::string(GLASSCELL_COMPILER); });
    m.def("jax_handlers", [] {  // name to capsule; empty where the build had no jaxlib
        nb::dict handlers;
#if defined(GLASSCELL_JAX)
        for (const JaxHandler* h = jax_handlers(); h->name; ++h) handlers[h->name] = nb::capsule(h->function);
#endif
        return handlers;
    });
    m.def("peak_flops", &measure_peak, nb::arg("threads"), nb::call_guard<nb::gil_scoped_release>());
    m.def("num_threads", &num_threads);
    m.def("set_num_threads", &set_num_threads, nb::arg("threads"));
}
