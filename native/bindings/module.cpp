// The Python module glasscell._native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>

#include "bindings/arguments.h"
#include "bindings/checks.h"
#include "bindings/operands.h"
#include "engine/backward.h"
#include "engine/forward.h"
#include "bindings/gil.h"
#include "bindings/xla_ffi.h"
#include "engine/thread_pool.h"
#include "bindings/signals.h"
#include "bindings/stream.h"
#include "engine/dispatch.h"
#include "engine/machine_probe.h"

namespace glasscell {
namespace {

template <class T, class U> View<T> view(const Array<U>& array) {
    const size_t rank = array.ndim();
    return {array.data(), rank, array.shape_ptr()};
}

// The view that stands for an absent array.
template <class T> View<T> placeholder() {
    static constexpr int64_t kNone[] = {0};
    return {nullptr, 1, kNone};
}

template <class T> nb::object pack(In<T> kernel, In<T> recurrent_kernel, OptionalIn<T> bias) {
    Call<T> call{};
    set_weights(call, kernel, recurrent_kernel, bias);
    auto packed = std::make_unique<PackedWeights<T>>(PackedWeights<T>{AlignedBuffer(), call.I, call.H});
    until_signal(call.cancellation, [&] { packed->buffer = pack_weights(call); });
    const auto free = [](PyObject* capsule) {
        delete static_cast<PackedWeights<T>*>(PyCapsule_GetPointer(capsule, kCapsule<T>));
    };
    PyObject* const capsule = PyCapsule_New(packed.get(), kCapsule<T>, free);
    if (!capsule) nb::raise_python_error();
    packed.release();
    return nb::steal(capsule);
}

// The arrays of a list, held together with the views of them. None becomes a placeholder.
template <class T> struct List {
    std::vector<Array<T>> arrays;
    Views<T> views;

    List(const char* name, nb::list list) {
        const size_t count = list.size();
        arrays.reserve(count), views.reserve(count);
        for (nb::handle item : list) {
            if (item.is_none()) {
                views.push_back(placeholder<T>());
                continue;
            }
            arrays.emplace_back();
            if (!arrays.back().take(item.ptr())) {
                const std::string text = std::string(name) + ": expected C-contiguous arrays of " + Array<T>::kWanted;
                throw nb::type_error(text.c_str());
            }
            views.push_back(view<T>(arrays.back()));
        }
    }
};

template <class T>
Operands<T> operands_of(const In<T>& x, const OptionalIn<uint8_t>& step_flags, const List<const T>& inputs, nb::list codes) {
    const auto flags = step_flags ? view<const uint8_t>(*step_flags) : placeholder<const uint8_t>();
    return {view<const T>(x), flags, inputs.views, numbers(codes)};
}

template <class T>
void forward(In<T> x, OptionalIn<uint8_t> step_flags, nb::list inputs, nb::list option_codes, nb::list residuals,
             nb::handle packed) {
    const List<const T> in("inputs", inputs);
    const List<T> out("residuals", residuals);
    Operands<T> operands = operands_of(x, step_flags, in, option_codes);
    if (!packed.is_none() && !(operands.packed = packed_weights<T>(packed)))
        throw nb::type_error("packed: expected what pack gave for weights of this dtype, or None");
    until_signal(operands.cancellation, [&] { run_forward(operands, out.views); });
}

template <class T>
void backward(In<T> x, OptionalIn<uint8_t> step_flags, nb::list inputs, nb::list option_codes, nb::list residuals,
              nb::list cotangents, nb::list gradients) {
    const List<const T> in("inputs", inputs), kept("residuals", residuals), d("cotangents", cotangents);
    const List<T> out("gradients", gradients);
    Operands<T> operands = operands_of(x, step_flags, in, option_codes);
    until_signal(operands.cancellation, [&] { run_backward(operands, kept.views, d.views, out.views); });
}

// Takes an array that may be None, which leaves `array` empty. Returns false where the object is no such array of T.
template <class T> bool take(nb::handle from, Array<T>& array) { return from.is_none() || array.take(from.ptr()); }

// Runs packed weights over x, from the state h0, c0, or from zeros where they are None. Writes the final state to hT
// and cT, and every output to h unless it is None. Returns whether it has run: it has not where an array has another
// dtype, or x, h0 or c0 another shape.
template <class T>
bool infer(const PackedWeights<T>& packed, const nb::handle (&arrays)[6], Options options) {
    In<T> x, h0, c0;
    Out<T> hT, cT, h;
    if (!x.take(arrays[0].ptr()) || !take(arrays[1], h0) || !take(arrays[2], c0) || !hT.take(arrays[3].ptr()) ||
        !cT.take(arrays[4].ptr()) || !take(arrays[5], h))
        return false;
    ForwardCall<T> call{};
    if (x.ndim() != 3 || x.shape(2) != packed.I || x.shape(0) == 0 || x.shape(1) == 0) return false;
    call.B = x.shape(0), call.time = x.shape(1), call.I = packed.I, call.H = packed.H;
    call.options = options, call.packed = packed.buffer.template as<T>(), call.time_block = {0, call.time};
    call.x = x.data();
    call.hT = checked("hT", hT, {call.B, call.H}), call.cT = checked("cT", cT, {call.B, call.H});
    const auto fits = [&](const In<T>& array) {
        return array.ndim() == 2 && array.shape(0) == call.B && array.shape(1) == call.H;
    };
    const auto start = [&](const In<T>& given, T* final) -> const T* {  // zeros stand in the final state's place
        if (given.data()) return given.data();
        std::memset(final, 0, size_t(call.B * call.H) * sizeof(T));
        return final;
    };
    if ((h0.data() && !fits(h0)) || (c0.data() && !fits(c0))) return false;
    call.h0 = start(h0, call.hT), call.c0 = start(c0, call.cT);
    if (h.data()) call.h = checked("h", h, {call.B, call.time, call.H});
    if (multiply_adds(call) < kWorthReleasing)
        run_forward(call);
    else
        until_signal(call.cancellation, [&] { run_forward(call); });
    return true;
}

template <class T> void bind(nb::module_& m) {
    m.def("forward", &forward<T>, nb::arg("x").noconvert(), nb::arg("step_flags").noconvert().none(), nb::arg("inputs"),
          nb::arg("option_codes"), nb::arg("residuals"), nb::arg("packed").none() = nb::none());
    m.def("backward", &backward<T>, nb::arg("x").noconvert(), nb::arg("step_flags").noconvert().none(), nb::arg("inputs"),
          nb::arg("option_codes"), nb::arg("residuals"), nb::arg("cotangents"), nb::arg("gradients"));
    m.def("pack", &pack<T>, nb::arg("kernel").noconvert(), nb::arg("recurrent_kernel").noconvert(),
          nb::arg("bias").noconvert().none());
}

// Shows Python the memory of an AlignedBuffer. The buffer lives as long as a view of it.
int view_memory(PyObject* self, Py_buffer* view, int flags) {
    const AlignedBuffer& buffer = *nb::inst_ptr<AlignedBuffer>(self);
    return PyBuffer_FillInfo(view, self, buffer.as<void>(), Py_ssize_t(buffer.bytes()), 0, flags);
}

PyType_Slot kMemorySlots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(view_memory)}, {0, nullptr}};

void bind_memory(nb::module_& m) {
    block_cache_limit();  // a bad GLASSCELL_BLOCK_CACHE_MB fails at import
    nb::class_<AlignedBuffer>(m, "AlignedBuffer", nb::type_slots(kMemorySlots)).def(nb::init<size_t>(), nb::arg("bytes"));
    m.attr("LARGE_BLOCK") = kLargeBlock;
    m.def("block_cache_bytes", &block_cache_bytes);
    m.def("block_cache_limit", &block_cache_limit);
    m.def("set_block_cache", &set_block_cache, nb::arg("limit"), nb::arg("idle_milliseconds"));
}

// A tuple of the names of an enumeration. Python takes positions and names from it.
template <size_t N> nb::tuple names(const char* const (&of)[N]) {
    nb::list list;
    for (const char* name : of) list.append(name);
    return nb::tuple(list);
}

}  // namespace
}  // namespace glasscell

NB_MODULE(_native, m) {
    using namespace glasscell;
    nb::set_leak_warnings(false);  // threads inside a call when Python exits never free their objects
    current_target();  // an unknown GLASSCELL_TARGET fails at import
    bind<float>(m);
    bind<double>(m);
    bind_streams(m);
    bind_memory(m);
    m.attr("INPUTS") = names(kInputNames);
    m.attr("WEIGHTS") = kWeights;
    m.attr("RESIDUALS") = names(kResidualNames);
    m.attr("OUTPUTS") = kOutputs;
    m.attr("OPTION_CODES") = names(kOptionNames);
    m.attr("ACTIVATIONS") = names(kActivationNames);
    m.def("time_block_count", &time_block_count, nb::arg("B"), nb::arg("time"));
    m.def("needs_raw_gates", [](int a, int s) {
        return needs_raw(activation("activation", a)) || needs_raw(activation("recurrent_activation", s));
    });
    m.def("infer", [](nb::handle packed, nb::handle x, nb::handle h0, nb::handle c0, nb::handle hT, nb::handle cT,
                      nb::handle h, int64_t activation, int64_t recurrent_activation, bool go_backwards) {
        const nb::handle arrays[] = {x, h0, c0, hT, cT, h};
        const int64_t codes[kOptionCodes] = {activation, recurrent_activation, go_backwards, 0};
        if (const auto* const weights = packed_weights<float>(packed)) return infer(*weights, arrays, options_of(codes));
        if (const auto* const weights = packed_weights<double>(packed)) return infer(*weights, arrays, options_of(codes));
        return false;
    }, nb::arg("packed"), nb::arg("x"), nb::arg("h0").none(), nb::arg("c0").none(), nb::arg("hT"), nb::arg("cT"),
          nb::arg("h").none(), nb::arg("activation"), nb::arg("recurrent_activation"), nb::arg("go_backwards"));
    m.def("target", [] { return std::string(current_target().name); });
    m.def("targets", [] {
        std::vector<std::string> names;
        for (const Target* target : available_targets()) names.emplace_back(target->name);
        return names;
    });
    m.def("compiler", [] { return std::string(GLASSCELL_COMPILER); });
    m.def("jax_handlers", [] {  // from name to capsule
        nb::dict handlers;
        for (const JaxHandler* h = jax_handlers(); h->name; ++h) handlers[h->name] = nb::capsule(h->function);
        return handlers;
    });
    m.def("peak_flops", &measure_peak, nb::arg("threads"), nb::call_guard<WithoutGil>());
    m.def("l2_bandwidth", &measure_l2_bandwidth, nb::arg("threads"), nb::call_guard<WithoutGil>());
    m.def("use_openmp_threads", [](uintptr_t parallel, uintptr_t team_size, uintptr_t most_threads) {
        use_openmp_threads({reinterpret_cast<decltype(OpenMpRuntime::parallel)>(parallel), reinterpret_cast<int (*)()>(team_size),
                        reinterpret_cast<int (*)()>(most_threads)});
    });
    m.def("uses_openmp_threads", &uses_openmp_threads);
    m.def("set_teams", [](const std::string& how) {
        constexpr const char* kNames[] = {"measured", "always", "at_random"};
        const auto* const name = std::find(std::begin(kNames), std::end(kNames), how);
        if (name == std::end(kNames)) throw nb::value_error("how: expected 'measured', 'always' or 'at_random'");
        set_teams(Teams(name - kNames));
    });
    m.def("num_threads", &num_threads);
    m.def("set_num_threads", &set_num_threads, nb::arg("threads"));
}
