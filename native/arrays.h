// Arrays as they come from Python, checked. All checks that keep memory safe are made here once more.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <stdexcept>
#include <string>

#include "engine.h"

namespace glasscell {

namespace nb = nanobind;

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

inline Activation activation(const char* name, int code) {
    if (code < 0 || code >= kActivations)
        throw std::invalid_argument(std::string(name) + ": expected 0.." + std::to_string(kActivations - 1) + ", got " +
                                    std::to_string(code));
    return Activation(code);
}

// Sets I, H and the weights.
template <class T>
void set_weights(Call<T>& call, const In<T>& kernel, const In<T>& recurrent_kernel, const OptionalIn<T>& bias) {
    if (kernel.ndim() != 2) throw std::invalid_argument("kernel: expected shape (I, 4H), got another rank");
    if (recurrent_kernel.ndim() != 2) throw std::invalid_argument("recurrent_kernel: expected shape (H, 4H)");
    call.I = int64_t(kernel.shape(0)), call.H = int64_t(recurrent_kernel.shape(0));
    call.kernel = checked("kernel", kernel, {call.I, 4 * call.H});
    call.recurrent_kernel = checked("recurrent_kernel", recurrent_kernel, {call.H, 4 * call.H});
    call.bias = checked("bias", bias, {4 * call.H});
}

// The weights as the kernels read them, made once. They stay right as long as the arrays they were made of.
template <class T> struct Packed {
    Block block;
    int64_t I, H;
};

}  // namespace glasscell
