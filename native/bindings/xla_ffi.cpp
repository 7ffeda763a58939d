// The engine as XLA custom calls, for jax.ffi. Their arguments are the lists of operands.h, one after another.
#include "bindings/xla_ffi.h"

#include <exception>
#include <new>
#include <stdexcept>

#include "bindings/operands.h"
#include "engine/huge_pages.h"
#include "xla/ffi/api/ffi.h"

namespace glasscell {
namespace {

namespace ffi = xla::ffi;
using Codes = ffi::Span<const int64_t>;

template <class T, class Buffer> View<T> view(const Buffer& buffer) {
    return {buffer.typed_data(), buffer.dimensions().size(), buffer.dimensions().begin()};
}

// Gives the arrays of a list, one after another. Throws std::invalid_argument for another dtype, and where the list
// ends.
template <class T, ffi::DataType D> struct Arguments {
    ffi::RemainingArgs list;
    size_t at = 0;

    View<const T> next() {
        const auto buffer = list.template get<ffi::Buffer<D>>(at++);
        if (!buffer) throw std::invalid_argument(buffer.error().message());
        return view<const T>(*buffer);
    }
    Views<const T> next(size_t count) {
        Views<const T> views;
        views.reserve(count);
        while (views.size() < count) views.push_back(next());
        return views;
    }
};

template <ffi::DataType D, class T> Views<T> results(ffi::RemainingRets list) {
    Views<T> views;
    views.reserve(list.size());
    for (size_t k = 0; k < list.size(); ++k) {
        auto buffer = list.template get<ffi::Buffer<D>>(k);
        if (!buffer) throw std::invalid_argument(buffer.error().message());
        advise_huge_pages((*buffer)->untyped_data(), (*buffer)->size_bytes());
        views.push_back(view<T>(**buffer));
    }
    return views;
}

template <class Work> ffi::Error guarded(Work work) {
    try {
        work();
        return ffi::Error::Success();
    } catch (const std::bad_alloc&) {
        return ffi::Error(ffi::ErrorCode::kResourceExhausted, "out of memory");  // so short a text needs no memory
    } catch (const std::invalid_argument& error) {
        return ffi::Error::InvalidArgument(error.what());
    } catch (const std::exception& error) {
        return ffi::Error::Internal(error.what());
    }
}

template <ffi::DataType D, class T> struct Handlers {
    using Steps = ffi::Buffer<ffi::U8>;

    static Operands<T> operands(const Steps& steps, Arguments<T, D>& arguments, Codes codes) {
        const View<const T> x = arguments.next();
        return {x, view<const uint8_t>(steps), arguments.next(codes.size() / kOptionCodes * kInputs),
                std::vector<int64_t>(codes.begin(), codes.end())};
    }

    static ffi::Error forward(Steps steps, ffi::RemainingArgs args, ffi::RemainingRets rets, Codes codes) {
        return guarded([&] {
            Arguments<T, D> arguments{args};
            run_forward(operands(steps, arguments, codes), results<D, T>(rets));
        });
    }

    static ffi::Error backward(Steps steps, ffi::RemainingArgs args, ffi::RemainingRets rets, Codes codes) {
        return guarded([&] {
            Arguments<T, D> arguments{args};
            const Operands<T> given = operands(steps, arguments, codes);
            const Views<const T> kept = arguments.next(codes.size() / kOptionCodes * kResiduals);
            run_backward(given, kept, arguments.next(codes.size() / kOptionCodes * kOutputs), results<D, T>(rets));
        });
    }

    static auto bind() { return ffi::Ffi::Bind().Arg<Steps>().RemainingArgs().RemainingRets().template Attr<Codes>("option_codes"); }
};

using F32Handlers = Handlers<ffi::F32, float>;
using F64Handlers = Handlers<ffi::F64, double>;

XLA_FFI_DEFINE_HANDLER(forward_f32, F32Handlers::forward, F32Handlers::bind());
XLA_FFI_DEFINE_HANDLER(forward_f64, F64Handlers::forward, F64Handlers::bind());
XLA_FFI_DEFINE_HANDLER(backward_f32, F32Handlers::backward, F32Handlers::bind());
XLA_FFI_DEFINE_HANDLER(backward_f64, F64Handlers::backward, F64Handlers::bind());

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
