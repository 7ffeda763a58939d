// The engine's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "engine/block_cache.h"
#include "engine/huge_pages.h"

namespace glasscell {

// Owns 64-byte aligned memory. Large memory comes from the block cache. Large memory that is new to the process asks
// for huge pages: products go over it again and again, and small pages lie scattered over the sets of the caches. The
// constructor throws std::bad_alloc.
class AlignedBuffer {
  public:
    explicit AlignedBuffer(size_t bytes = 0) : data_(allocate(bytes)), bytes_(bytes) {}
    template <class U> U* as() const { return static_cast<U*>(data_.get()); }
    size_t bytes() const { return bytes_; }

  private:
    static constexpr std::align_val_t kLine{64};
    struct Free {
        size_t block;  // the bytes of a block from the cache; 0: not from the cache
        void operator()(void* p) const { block ? give_block({p, block}) : ::operator delete(p, kLine); }
    };
    using Memory = std::unique_ptr<void, Free>;

    static Memory allocate(size_t bytes) {
        const Block block = bytes < kLargeBlock ? Block{} : take_block(bytes);
        if (block.start) return Memory(block.start, Free{block.bytes});
        Memory memory(new_lines(bytes ? bytes : 64), Free{0});
        advise_huge_pages(memory.get(), bytes);
        return memory;
    }

    static void* new_lines(size_t bytes) {
        try {
            return ::operator new(bytes, kLine);
        } catch (const std::bad_alloc&) {
            if (!release_blocks()) throw;
        }
        return ::operator new(bytes, kLine);
    }

    Memory data_;
    size_t bytes_;
};

template <class T> AlignedBuffer allocate_array(int64_t count) { return AlignedBuffer(size_t(count) * sizeof(T)); }

}  // namespace glasscell
