// Directions over the same input, as the operators of frameworks give them: flat lists of arrays, what is absent as one of
// shape (0). src/glasscell/_ops/operands.py names the arrays of a direction and their order. All may have more axes in front:
// then it is a call for each place of these; an array has size 1 there where it is the same for all, outputs never.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "interface/cancellation.h"

namespace glasscell {

constexpr size_t kCodes = 4;

// A C-contiguous array of someone else's.
template <class T> struct View {
    T* elements;
    size_t rank;
    const int64_t* dimensions;

    size_t ndim() const { return rank; }
    int64_t shape(size_t axis) const { return dimensions[axis]; }
    T* data() const { return elements; }
};
template <class T> using Views = std::vector<View<T>>;

template <class T> struct Directions {
    View<const T> x;
    View<const uint8_t> step_flags;
    Views<const T> own;          // 7 for each direction
    std::vector<int64_t> codes;  // kCodes for each direction
    CancellationToken* cancellation = nullptr;
};

// Both throw std::invalid_argument for arrays that do not fit, naming them.
// kept: 6 for each direction, out.
template <class T> void run_forward(const Directions<T>& directions, const Views<T>& kept);
// cotangents: 3 for each direction. gradients: of x, summed over the directions, or absent; then 5 for each, out.
template <class T>
void run_backward(const Directions<T>& directions, const Views<const T>& kept, const Views<const T>& cotangents,
                  const Views<T>& gradients);

}  // namespace glasscell
