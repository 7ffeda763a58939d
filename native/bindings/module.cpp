// The Python module glasscell._native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>

#include "bindings/arguments.h"
#include "bindings/operands.h"
#include "engine/backward.h"
#include "engine/forward.h"
#include "bindings/gil.h"
#if defined(GLASSCELL_JAX)
#include "bindings/xla_ffi.h"
#endif
#include "engine/thread_pool.h"
#include "bindings/signals.h"
#include "bindings/stream.h"
#include "engine/dispatch.h"
#include "engine/machine_probe.h"

namespace glasscell {
namespace {

template <class T> nb::object pack(In<T> kernel, In<T> recurrent_kernel, OptionalIn<T> bias) {
    Call<T> call{};
    set_weights(call, kernel, recurrent_kernel, bias);
    auto packed = std::make_unique<Packed<T>>(Packed<T>{AlignedBuffer(), call.I, call.H});
    until_signal(call.cancellation, [&] { packed->block = pack_weights(call); });
    const auto free = [](PyObject* capsule) { delete static_cast<Packed<T>*>(PyCapsule_GetPointer(capsule, Packed<T>::kName)); };
    PyObject* const capsule = PyCapsule_New(packed.get(), Packed<T>::kName, free);
    if (!capsule) nb::raise_python_error();
    packed.release();
    return nb::steal(capsule);
}

template <class T>
void forward(In<T> x, In<T> kernel, In<T> recurrent_kernel, OptionalIn<T> bias, nb::handle packed, In<T> h0,
             In<T> c0, OptionalIn<uint8_t> steps, OptionalIn<T> dropout_mask, OptionalIn<T> recurrent_dropout_mask,
             OptionalOut<T> h, OptionalOut<T> c, OptionalOut<T> gates, OptionalOut<T> z, OptionalOut<T> cell_checkpoints,
             Out<T> hT, Out<T> cT, int a, int s, int go_backwards) {
    ForwardCall<T> call{};
    static_cast<Call<T>&>(call) =
        make_call<T>(x, kernel, recurrent_kernel, bias, h0, c0, steps, dropout_mask, recurrent_dropout_mask, a, s, go_backwards);
    call.time_block = {0, call.time};
    call.h = checked("h", h, {call.B, call.time, call.H});
    call.c = checked("c", c, {call.B, call.time, call.H});
    call.gates = checked("gates", gates, {call.B, call.time, 4, call.H});
    call.z = checked("z", z, {call.B, call.time, 4, call.H});
    call.cell_checkpoints = checked("cell_checkpoints", cell_checkpoints, {time_block_count(call.B, call.time), call.B, call.H});
    call.hT = checked("hT", hT, {call.B, call.H});
    call.cT = checked("cT", cT, {call.B, call.H});
    if (!packed.is_none()) {
        const Packed<T>* const weights = Packed<T>::of(packed);
        if (!weights) throw nb::type_error("packed: expected what pack gave for weights of this dtype, or None");
        if (weights->I != call.I || weights->H != call.H)
            throw std::invalid_argument("packed: expected the weights of this call, got those of other sizes");
        if (!per_gate_masks(call)) call.packed = weights->block.template as<T>();  // else another layout is wanted
    }
    until_signal(call.cancellation, [&] { run_forward(call); });
}

template <class T>
void backward(In<T> x, In<T> kernel, In<T> recurrent_kernel, OptionalIn<T> bias, In<T> h0, In<T> c0,
              OptionalIn<uint8_t> steps, OptionalIn<T> dropout_mask, OptionalIn<T> recurrent_dropout_mask, In<T> h,
              OptionalIn<T> c, OptionalIn<T> gates, OptionalIn<T> z, OptionalIn<T> cell_checkpoints, OptionalIn<T> dh_all,
              In<T> dhT, In<T> dcT, Out<T> dx, Out<T> d_kernel, Out<T> d_recurrent, OptionalOut<T> d_bias, Out<T> dh0,
              Out<T> dc0, int a, int s, int go_backwards) {
    Backward<T> pass{};
    BackwardCall<T>& call = pass.call;
    static_cast<Call<T>&>(call) =
        make_call<T>(x, kernel, recurrent_kernel, bias, h0, c0, steps, dropout_mask, recurrent_dropout_mask, a, s, go_backwards);
    const int64_t B = call.B, time = call.time, I = call.I, H = call.H;
    pass.cell_checkpoints = checked("cell_checkpoints", cell_checkpoints, {time_block_count(B, time), B, H});
    if (!pass.cell_checkpoints && !(c && gates))
        throw std::invalid_argument("c, gates: expected what forward kept, or cell_checkpoints, got None");
    if (!pass.cell_checkpoints && !z && (needs_raw(call.options.activation) || needs_raw(call.options.recurrent_activation)))
        throw std::invalid_argument("z: expected the raw gates, which this activation's derivative needs, got None");
    call.h = checked("h", h, {B, time, H});
    call.c = checked("c", c, {B, time, H});
    call.gates = checked("gates", gates, {B, time, 4, H});
    call.z = checked("z", z, {B, time, 4, H});
    call.dh_all = checked("dh_all", dh_all, {B, time, H});
    pass.dhT = checked("dhT", dhT, {B, H});
    pass.dcT = checked("dcT", dcT, {B, H});
    call.dx = checked("dx", dx, {B, time, I});
    call.d_kernel = checked("d_kernel", d_kernel, {I, 4 * H});
    call.d_recurrent = checked("d_recurrent", d_recurrent, {H, 4 * H});
    call.d_bias = checked("d_bias", d_bias, {4 * H});
    call.dh = checked("dh0", dh0, {B, H});
    call.dc = checked("dc0", dc0, {B, H});
    until_signal(call.cancellation, [&] { run_backward(pass); });
}

template <class T, class U> View<T> view(const Array<U>& array) {
    const size_t rank = array.ndim();
    return {array.data(), rank, array.shape_ptr()};
}

// The arrays of a list, held together with the views of them.
template <class T> struct List {
    std::vector<Array<T>> arrays;
    Views<T> views;

    List(const char* name, nb::list list) {
        const size_t count = list.size();
        arrays.reserve(count), views.reserve(count);
        for (nb::handle item : list) {
            arrays.emplace_back();
            if (!arrays.back().take(item.ptr())) {
                const std::string text = std::string(name) + ": expected C-contiguous arrays of " + Array<T>::kWanted;
                throw nb::type_error(text.c_str());
            }
            views.push_back(view<T>(arrays.back()));
        }
    }
};

std::vector<int64_t> numbers(nb::list list) {
    std::vector<int64_t> values(list.size());
    for (size_t k = 0; k < values.size(); ++k)
        if (!nb::try_cast(list[k], values[k])) throw nb::type_error("codes: expected integers");
    return values;
}

template <class T>
void forward_directions(In<T> x, In<uint8_t> steps, nb::list own, nb::list codes, nb::list kept) {
    const List<const T> given("own", own);
    const List<T> out("kept", kept);
    Directions<T> directions{view<const T>(x), view<const uint8_t>(steps), given.views, numbers(codes)};
    until_signal(directions.cancellation, [&] { run_forward(directions, out.views); });
}

template <class T>
void backward_directions(In<T> x, In<uint8_t> steps, nb::list own, nb::list codes, nb::list kept, nb::list cotangents,
                         nb::list gradients) {
    const List<const T> given("own", own), tape("kept", kept), d("cotangents", cotangents);
    const List<T> out("gradients", gradients);
    Directions<T> directions{view<const T>(x), view<const uint8_t>(steps), given.views, numbers(codes)};
    until_signal(directions.cancellation, [&] { run_backward(directions, tape.views, d.views, out.views); });
}

template <class T> void bind(nb::module_& m) {
    m.def("forward_directions", &forward_directions<T>, nb::arg("x").noconvert(), nb::arg("steps").noconvert(),
          nb::arg("own"), nb::arg("codes"), nb::arg("kept"));
    m.def("backward_directions", &backward_directions<T>, nb::arg("x").noconvert(), nb::arg("steps").noconvert(),
          nb::arg("own"), nb::arg("codes"), nb::arg("kept"), nb::arg("cotangents"), nb::arg("gradients"));
    m.def("pack", &pack<T>, nb::arg("kernel").noconvert(), nb::arg("recurrent_kernel").noconvert(),
          nb::arg("bias").noconvert().none());
    m.def("forward", &forward<T>, nb::arg("x").noconvert(), nb::arg("kernel").noconvert(),
          nb::arg("recurrent_kernel").noconvert(), nb::arg("bias").noconvert().none(), nb::arg("packed").none(),
          nb::arg("h0").noconvert(), nb::arg("c0").noconvert(), nb::arg("steps").noconvert().none(),
          nb::arg("dropout_mask").noconvert().none(), nb::arg("recurrent_dropout_mask").noconvert().none(),
          nb::arg("h").noconvert().none(), nb::arg("c").noconvert().none(), nb::arg("gates").noconvert().none(),
          nb::arg("z").noconvert().none(), nb::arg("cell_checkpoints").noconvert().none(), nb::arg("hT").noconvert(),
          nb::arg("cT").noconvert(), nb::kw_only(), nb::arg("activation"), nb::arg("recurrent_activation"),
          nb::arg("go_backwards"));
    m.def("backward", &backward<T>, nb::arg("x").noconvert(), nb::arg("kernel").noconvert(),
          nb::arg("recurrent_kernel").noconvert(), nb::arg("bias").noconvert().none(), nb::arg("h0").noconvert(),
          nb::arg("c0").noconvert(), nb::arg("steps").noconvert().none(), nb::arg("dropout_mask").noconvert().none(),
          nb::arg("recurrent_dropout_mask").noconvert().none(), nb::arg("h").noconvert(), nb::arg("c").noconvert().none(),
          nb::arg("gates").noconvert().none(), nb::arg("z").noconvert().none(), nb::arg("cell_checkpoints").noconvert().none(),
          nb::arg("dh_all").noconvert().none(), nb::arg("dhT").noconvert(), nb::arg("dcT").noconvert(),
          nb::arg("dx").noconvert(), nb::arg("d_kernel").noconvert(), nb::arg("d_recurrent").noconvert(),
          nb::arg("d_bias").noconvert().none(), nb::arg("dh0").noconvert(), nb::arg("dc0").noconvert(), nb::kw_only(),
          nb::arg("activation"), nb::arg("recurrent_activation"), nb::arg("go_backwards"));
}

}  // namespace
}  // namespace glasscell

NB_MODULE(_native, m) {
    using namespace glasscell;
    nb::set_leak_warnings(false);  // threads that are inside a call when Python exits keep what they hold
    current_target();  // an unknown GLASSCELL_TARGET fails at import
    bind<float>(m);
    bind<double>(m);
    bind_streams(m);
    m.def("time_block_count", &time_block_count, nb::arg("B"), nb::arg("time"));
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
    m.def("peak_flops", &measure_peak, nb::arg("threads"), nb::call_guard<WithoutGil>());
    m.def("l2_bandwidth", &measure_l2_bandwidth, nb::arg("threads"), nb::call_guard<WithoutGil>());
    m.def("use_openmp_threads", [](uintptr_t parallel, uintptr_t team_size, uintptr_t most_threads) {
        use_openmp_threads({reinterpret_cast<decltype(OpenMpRuntime::parallel)>(parallel), reinterpret_cast<int (*)()>(team_size),
                        reinterpret_cast<int (*)()>(most_threads)});
    });
    m.def("uses_openmp_threads", &uses_openmp_threads);
    m.def("num_threads", &num_threads);
    m.def("set_num_threads", &set_num_threads, nb::arg("threads"));
}
