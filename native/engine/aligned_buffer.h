// Memory of the engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "engine/huge_pages.h"

namespace glasscell {

// 64-byte aligned memory, in huge pages where it is large and new to the process: products go over it again and again,
// and small pages lie scattered over the sets of the caches. Throws std::bad_alloc.
class AlignedBuffer {
  public:
    explicit AlignedBuffer(size_t bytes = 0) : data_(::operator new(bytes ? bytes : 64, std::align_val_t(64))) {
        advise_huge_pages(data_.get(), bytes);
    }
    template <class U> U* as() const { return static_cast<U*>(data_.get()); }

  private:
    struct Free {
        void operator()(void* p) const { ::operator delete(p, std::align_val_t(64)); }
    };
    std::unique_ptr<void, Free> data_;
};

template <class T> AlignedBuffer allocate_array(int64_t count) { return AlignedBuffer(size_t(count) * sizeof(T)); }

}  // namespace glasscell
