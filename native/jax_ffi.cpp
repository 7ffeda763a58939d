// The kernels as XLA custom calls, for jax.ffi. An absent array comes as one of no elements.
#include "jax_ffi.h"

#include <exception>

#include "engine.h"
#include "xla/ffi/api/ffi.h"

namespace glasscell {
namespace {

namespace ffi = xla::ffi;

template <class Buffer> auto optional(const Buffer& buffer) {
    return buffer.element_count() ? buffer.typed_data() : nullptr;
}

template <class Buffer> int64_t gates_of(const Buffer& mask) {
    return mask.element_count() ? mask.dimensions().front() : 0;
}

// Shapes were fixed by the Python side (glasscell/keras/jax_op.py), which is the only caller.
template <class T, class Buffer, class Steps>
Call<T> make_call(const Buffer& x, const Buffer& kernel, const Buffer& recurrent_kernel, const Buffer& h0,
                  const Buffer& c0, const Steps& steps, const Buffer& input_mask, const Buffer& recurrent_mask,
                  int64_t a, int64_t s, int64_t go_backwards) {
    Call<T> call{};
    call.B = x.dimensions()[0], call.time = x.dimensions()[1], call.I = x.dimensions()[2];
    call.H = recurrent_kernel.dimensions()[0];
    call.options = {Activation(a), Activation(s), go_backwards != 0};
    call.x = x.typed_data(), call.kernel = kernel.typed_data(), call.recurrent_kernel = recurrent_kernel.typed_data();
    call.h0 = h0.typed_data(), call.c0 = c0.typed_data();
    call.steps = optional(steps);
    call.input_mask = optional(input_mask), call.recurrent_mask = optional(recurrent_mask);
    call.input_gates = gates_of(input_mask), call.recurrent_gates = gates_of(recurrent_mask);
    return call;
}

template <class Work> ffi::Error guarded(Work work) {
    try {
        work();
        return ffi::Error::Success();
    } catch (const std::exception& error) {
        return ffi::Error::Internal(error.what());
    }
}

template <ffi::DataType D, class T> struct Handlers {
    using In = ffi::Buffer<D>;
    using Out = ffi::ResultBuffer<D>;
    using Steps = ffi::Buffer<ffi::U8>;

    static ffi::Error forward(In x, In kernel, In recurrent_kernel, In bias, In h0, In c0, Steps steps, In input_mask,
                              In recurrent_mask, Out h, Out c, Out gates, Out z, Out hT, Out cT, int64_t a, int64_t s,
                              int64_t go_backwards) {
        ForwardCall<T> call{};
        static_cast<Call<T>&>(call) = make_call<T>(x, kernel, recurrent_kernel, h0, c0, steps, input_mask,
                                                   recurrent_mask, a, s, go_backwards);
        call.bias = optional(bias);
        call.span = {0, call.time};
        call.h = optional(*h), call.c = optional(*c), call.gates = optional(*gates), call.z = optional(*z);
        call.hT = hT->typed_data(), call.cT = cT->typed_data();
        return guarded([&] { run_forward(call); });
    }

    static ffi::Error backward(In x, In kernel, In recurrent_kernel, In h0, In c0, Steps steps, In input_mask,
                               In recurrent_mask, In h, In c, In gates, In z, In dh_all, In dhT, In dcT, Out dx,
                               Out d_kernel, Out d_recurrent, Out d_bias, Out dh0, Out dc0, int64_t a, int64_t s,
                               int64_t go_backwards) {
        Backward<T> pass{};
        BackwardCall<T>& call = pass.call;
        static_cast<Call<T>&>(call) = make_call<T>(x, kernel, recurrent_kernel, h0, c0, steps, input_mask,
                                                   recurrent_mask, a, s, go_backwards);
        call.h = h.typed_data(), call.c = c.typed_data(), call.gates = gates.typed_data(), call.z = optional(z);
        call.dh_all = optional(dh_all), pass.dhT = dhT.typed_data(), pass.dcT = dcT.typed_data();
        call.dx = dx->typed_data();
        call.d_kernel = d_kernel->typed_data(), call.d_recurrent = d_recurrent->typed_data();
        call.d_bias = optional(*d_bias), call.dh = dh0->typed_data(), call.dc = dc0->typed_data();
        return guarded([&] { run_backward(pass); });
    }

    static auto bind_forward() {
        return ffi::Ffi::Bind()
            .template Arg<In>().template Arg<In>().template Arg<In>().template Arg<In>().template Arg<In>()
            .template Arg<In>()
            .template Arg<Steps>()
            .template Arg<In>().template Arg<In>()
            .template Ret<In>().template Ret<In>().template Ret<In>().template Ret<In>().template Ret<In>()
            .template Ret<In>()
            .template Attr<int64_t>("activation")
            .template Attr<int64_t>("recurrent_activation")
            .template Attr<int64_t>("go_backwards");
    }
    static auto bind_backward() {
        return ffi::Ffi::Bind()
            .template Arg<In>().template Arg<In>().template Arg<In>().template Arg<In>().template Arg<In>()
            .template Arg<Steps>()
            .template Arg<In>().template Arg<In>().template Arg<In>().template Arg<In>().template Arg<In>()
            .template Arg<In>().template Arg<In>().template Arg<In>().template Arg<In>()
            .template Ret<In>().template Ret<In>().template Ret<In>().template Ret<In>().template Ret<In>()
            .template Ret<In>()
            .template Attr<int64_t>("activation")
            .template Attr<int64_t>("recurrent_activation")
            .template Attr<int64_t>("go_backwards");
    }
};

using F32Handlers = Handlers<ffi::F32, float>;
using F64Handlers = Handlers<ffi::F64, double>;

XLA_FFI_DEFINE_HANDLER(forward_f32, F32Handlers::forward, F32Handlers::bind_forward());
XLA_FFI_DEFINE_HANDLER(forward_f64, F64Handlers::forward, F64Handlers::bind_forward());
XLA_FFI_DEFINE_HANDLER(backward_f32, F32Handlers::backward, F32Handlers::bind_backward());
XLA_FFI_DEFINE_HANDLER(backward_f64, F64Handlers::backward, F64Handlers::bind_backward());

}  // namespace

const JaxHandler* jax_handlers() {
    static const JaxHandler handlers[] = {
        {"glasscell_forward_float32", reinterpret_cast<void*>(forward_f32)},
        {"glasscell_forward_float64", reinterpret_cast<void*>(forward_f64)},
        {"glasscell_backward_float32", reinterpret_cast<void*>(backward_f32)},
        {"glasscell_backward_float64", reinterpret_cast<void*>(backward_f64)},
        {nullptr, nullptr},
    };
    return handlers;
}

}  // namespace glasscell
