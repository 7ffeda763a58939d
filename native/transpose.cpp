#include "transpose.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "pool.h"
#include "schedule.h"

namespace glasscell {
namespace {

// Square by square, each side a line of the cache: one element after the other would touch a line for each, and where the
// rows lie some power of two apart, always the same few lines of the cache.
template <class T> constexpr int64_t kSide = 64 / sizeof(T);

// height, width: constants for whole squares, which the compiler then unrolls.
template <class T, class Height, class Width>
void turn_square(const T* from, int64_t columns, T* to, int64_t rows, Height height, Width width) {
    T turned[kSide<T>][kSide<T>];
    for (int64_t r = 0; r < height; ++r)
        for (int64_t c = 0; c < width; ++c) turned[c][r] = from[r * columns + c];
    for (int64_t c = 0; c < width; ++c) std::memcpy(to + c * rows, turned[c], size_t(height) * sizeof(T));
}

template <class T> void turn_rows(const T* from, int64_t begin, int64_t end, int64_t rows, int64_t columns, T* to) {
    using Whole = std::integral_constant<int64_t, kSide<T>>;
    for (int64_t column = 0; column < columns; column += kSide<T>) {
        for (int64_t row = begin; row < end; row += kSide<T>) {
            const int64_t height = std::min(kSide<T>, end - row), width = std::min(kSide<T>, columns - column);
            const T* const at = from + row * columns + column;
            T* const out = to + column * rows + row;
            if (height == kSide<T> && width == kSide<T>)
                turn_square(at, columns, out, rows, Whole(), Whole());
            else
                turn_square(at, columns, out, rows, height, width);
        }
    }
}

}  // namespace

template <class T> void transpose(const T* from, int64_t rows, int64_t columns, T* to) {
    // Some two multiply-adds' time for each element.
    split(rows, worth_threads(2 * double(rows) * double(columns)), nullptr,
          [&](int64_t begin, int64_t end) { turn_rows(from, begin, end, rows, columns, to); });
}

template void transpose(const float*, int64_t, int64_t, float*);
template void transpose(const double*, int64_t, int64_t, double*);

}  // namespace glasscell
