// Arrays as they come from Python, by the buffer protocol. A lack of memory is reported as such.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "bindings/operands.h"
#include "engine/aligned_buffer.h"

namespace glasscell {

namespace nb = nanobind;

template <class T> inline constexpr char kFormat = 'B';
template <> inline constexpr char kFormat<float> = 'f';
template <> inline constexpr char kFormat<double> = 'd';

// A C-contiguous array of T that Python keeps, read-only where T is const. Vector loads want elements at multiples of
// their size. An array whose elements stand elsewhere is copied if it is read-only, and refused if not.
template <class T> class Array {
  public:
    using Element = std::remove_const_t<T>;
    static constexpr const char* kWanted = kFormat<Element> == 'f'   ? "float32"
                                           : kFormat<Element> == 'd' ? "float64"
                                                                     : "uint8";

    Array() = default;
    Array(const Array&) = delete;
    Array(Array&& other) noexcept { *this = std::move(other); }
    Array& operator=(Array&& other) noexcept {
        std::swap(view_, other.view_), std::swap(data_, other.data_), std::swap(copy_, other.copy_);
        std::swap(rank_, other.rank_), std::swap(shape_, other.shape_), std::swap(no_memory_, other.no_memory_);
        return *this;
    }
    ~Array() {
        if (view_.obj) PyBuffer_Release(&view_);
    }

    // Takes an object. Returns whether it is such an array. Where memory was short it returns true without knowing, and
    // ndim() throws std::bad_alloc.
    bool take(PyObject* object) noexcept {
        constexpr int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (std::is_const_v<T> ? 0 : PyBUF_WRITABLE);
        if (PyObject_GetBuffer(object, &view_, flags) != 0) {
            view_.obj = nullptr;
            no_memory_ = PyErr_ExceptionMatches(PyExc_MemoryError);
            PyErr_Clear();
            return no_memory_;
        }
        const char* format = view_.format ? view_.format : "B";
        if (*format == '=' || *format == '@') ++format;  // NumPy's format for an array that is not aligned
        if (format[0] != kFormat<Element> || format[1] || view_.itemsize != sizeof(T) || view_.ndim > kMostAxes)
            return false;
        rank_ = size_t(view_.ndim);
        for (size_t axis = 0; axis < rank_; ++axis) shape_[axis] = int64_t(view_.shape[axis]);
        data_ = static_cast<T*>(view_.buf);
        if (reinterpret_cast<uintptr_t>(data_) % alignof(T)) {
            if (!std::is_const_v<T>) return false;
            try {
                copy_ = std::make_unique<AlignedBuffer>(size_t(view_.len));
            } catch (const std::bad_alloc&) {
                return no_memory_ = true;
            }
            std::memcpy(copy_->template as<void>(), view_.buf, size_t(view_.len));
            data_ = copy_->template as<T>();
        }
        return true;
    }

    // Whoever reads the array calls this first.
    size_t ndim() const {
        if (no_memory_) throw std::bad_alloc();
        return rank_;
    }
    int64_t shape(size_t axis) const { return shape_[axis]; }
    const int64_t* shape_ptr() const { return shape_; }
    T* data() const { return data_; }

  private:
    static constexpr int kMostAxes = 4;

    Py_buffer view_{};
    T* data_ = nullptr;
    size_t rank_ = 0;
    int64_t shape_[kMostAxes] = {};
    bool no_memory_ = false;
    std::unique_ptr<AlignedBuffer> copy_;
};

template <class T> using In = Array<const T>;
template <class T> using Out = Array<T>;
template <class T> using OptionalIn = std::optional<In<T>>;
template <class T> using OptionalOut = std::optional<Out<T>>;

// In Python, PackedWeights are a capsule of this name.
template <class T> inline constexpr const char* kCapsule = sizeof(T) == 4 ? "glasscell.PackedFloat" : "glasscell.PackedDouble";

// Returns the weights in such a capsule, or null for any other object.
template <class T> const PackedWeights<T>* packed_weights(nb::handle object) {
    if (!PyCapsule_IsValid(object.ptr(), kCapsule<T>)) return nullptr;
    return static_cast<const PackedWeights<T>*>(PyCapsule_GetPointer(object.ptr(), kCapsule<T>));
}

inline std::vector<int64_t> numbers(nb::list list) {
    std::vector<int64_t> values(list.size());
    for (size_t k = 0; k < values.size(); ++k)
        if (!nb::try_cast(list[k], values[k])) throw nb::type_error("option_codes: expected integers");
    return values;
}

}  // namespace glasscell

namespace nanobind::detail {

template <class T> struct type_caster<glasscell::Array<T>> {
    NB_TYPE_CASTER(glasscell::Array<T>, const_name("numpy.ndarray"))

    bool from_python(handle source, uint32_t, cleanup_list*) noexcept { return value.take(source.ptr()); }
};

}  // namespace nanobind::detail
