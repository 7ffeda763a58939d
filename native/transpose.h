// A matrix turned, for the frameworks whose weights stand the other way round.
#pragma once

#include <cstdint>

namespace glasscell {

// to: (columns, rows) of from: (rows, columns).
template <class T> void transpose(const T* from, int64_t rows, int64_t columns, T* to);

}  // namespace glasscell
