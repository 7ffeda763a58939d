// Checks that keep memory safe, whoever calls. An array is any type with ndim(), shape(axis) and data(). All checks
// throw std::invalid_argument.
#pragma once

#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>

#include "interface/call.h"

namespace glasscell {

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

inline Activation activation(const char* name, int64_t code) {
    if (code < 0 || code >= kActivations)
        throw std::invalid_argument(std::string(name) + ": expected 0.." + std::to_string(kActivations - 1) + ", got " +
                                    std::to_string(code));
    return Activation(code);
}

// Checks a kernel of `inputs` rows, or the gradient of one, in the layout of the call.
template <class T, class Array> auto checked_kernel(const char* name, const Array& array, const Call<T>& call, int64_t inputs) {
    return call.transposed_weights ? checked(name, array, {4 * call.H, inputs}) : checked(name, array, {inputs, 4 * call.H});
}

// Sets I, H and the weights, in the layout of the call.
template <class T, class Array>
void set_weights(Call<T>& call, const Array& kernel, const Array& recurrent_kernel, const std::optional<Array>& bias) {
    if (kernel.ndim() != 2) throw std::invalid_argument("kernel: expected shape (I, 4H), got another rank");
    if (recurrent_kernel.ndim() != 2) throw std::invalid_argument("recurrent_kernel: expected shape (H, 4H)");
    const size_t inputs = call.transposed_weights ? 1 : 0;
    call.I = int64_t(kernel.shape(inputs)), call.H = int64_t(recurrent_kernel.shape(inputs));
    call.kernel = checked_kernel("kernel", kernel, call, call.I);
    call.recurrent_kernel = checked_kernel("recurrent_kernel", recurrent_kernel, call, call.H);
    call.bias = checked("bias", bias, {4 * call.H});
}

}  // namespace glasscell
