// Large blocks of memory, kept from call to call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glasscell {

// Large blocks come from the system and not from the allocator. The system hands memory over page by page, as it is first
// touched, and clears each page. So the cache keeps the blocks that calls give back, within three bounds:
// - no more bytes than GLASSCELL_BLOCK_CACHE_MB, 512 by default;
// - no more than 1.25 times the most that was in use at once since the cache was last empty, for a forward and a backward
//   pass need different blocks;
// - nothing for longer than some seconds: a thread that lives while there are blocks gives idle ones to the system.
// A forked child starts without blocks.
constexpr size_t kLargeBlock = 1 << 18;  // bytes: smaller ones come from the allocator

struct Block {
    void* start = nullptr;  // at a page
    size_t bytes = 0;
};

// Returns a block of at least this size, with any content; none where the cache is off. Throws std::bad_alloc.
Block take_block(size_t bytes);
void give_block(Block block) noexcept;

// Gives all blocks of the cache to the system. Returns whether there were any: then an allocation that failed may
// succeed.
bool release_blocks() noexcept;

size_t block_cache_bytes();  // that are kept now

// The most bytes that the cache keeps; 0 turns it off. Throws std::invalid_argument where the variable is no number.
size_t block_cache_limit();
void set_block_cache(size_t limit, int idle_milliseconds);

}  // namespace glasscell
