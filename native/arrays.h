// Arrays as they come from Python.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include "calls.h"
#include "engine.h"

namespace glasscell {

namespace nb = nanobind;

template <class T> using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T> using Out = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
template <class T> using OptionalIn = std::optional<In<T>>;
template <class T> using OptionalOut = std::optional<Out<T>>;

// The weights as the kernels read them, made once. They stay right as long as the arrays they were made of.
template <class T> struct Packed {
    Block block;
    int64_t I, H;
};

}  // namespace glasscell
