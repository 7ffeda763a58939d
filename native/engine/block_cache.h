// Large blocks of memory, kept from call to call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glasscell {

// Large blocks come from the system and not from the allocator. The system hands memory over page by page, as it is
// first touched, and clears each page. To avoid this cost the cache keeps the blocks that calls give back, within three
// bounds:
// - no more bytes than GLASSCELL_BLOCK_CACHE_MB, 512 by default;
// - no more than 1.25 times the most bytes that were in use at once since the cache was last empty, because a forward
//   and a backward pass need different blocks;
// - no block for longer than some seconds: a thread that lives while there are blocks gives idle ones to the system.
// A forked child starts without blocks.
constexpr size_t kLargeBlock = 1 << 18;  // bytes: smaller blocks come from the allocator

struct Block {
    void* start = nullptr;  // the start of a page
    size_t bytes = 0;
};

// Returns a block of at least `bytes` bytes, with any content, or an empty one where the cache is off. Throws
// std::bad_alloc.
Block take_block(size_t bytes);
void give_block(Block block) noexcept;

// Gives all blocks of the cache to the system. Returns whether there were any: an allocation that failed before may
// then succeed.
bool release_blocks() noexcept;

size_t block_cache_bytes();  // the bytes that the cache keeps now

// The most bytes that the cache keeps; 0 turns it off. Throws std::invalid_argument where GLASSCELL_BLOCK_CACHE_MB is
// no number.
size_t block_cache_limit();
void set_block_cache(size_t limit, int idle_milliseconds);

}  // namespace glasscell
