// Large pages, which the system gives to those who ask.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace glasscell {

// For memory that is about to be filled. What is new to the process comes a page at a time, as it is first touched, and with
// pages of 4 KiB that takes longer than the engine takes to fill it: XLA asks for a large tape anew in each execution. NumPy
// gives the same advice for its own arrays. It is advice alone: a system with no large pages (left) gives small ones.
inline void advise_huge_pages(void* memory, size_t bytes) {
#if defined(__linux__)
    constexpr size_t kLargePage = 2 << 20;  // of most systems
    static const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE));
    if (bytes < kLargePage) return;
    // With the pages that it has in part: neighbours that are asked for too then make one range.
    const uintptr_t first = reinterpret_cast<uintptr_t>(memory) / page * page;
    const uintptr_t last = (reinterpret_cast<uintptr_t>(memory) + bytes + page - 1) / page * page;
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

}  // namespace glasscell
