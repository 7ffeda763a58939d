// Advice to the system to use huge pages.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace glasscell {

// Asks for huge pages for memory that is about to be filled. The system hands new memory over a page at a time, as it
// is first touched. With pages of 4 KiB that takes longer than the engine takes to fill the memory; XLA, for one,
// allocates a large tape in each execution. NumPy gives the same advice for its arrays. A system without huge pages
// gives small pages.
inline void advise_huge_pages(void* memory, size_t bytes) {
#if defined(__linux__)
    constexpr size_t kHugePage = 2 << 20;  // bytes, on most systems
    static const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE));
    if (bytes < kHugePage) return;
    // The range includes the pages at both ends, so that neighbouring arrays make one range.
    const uintptr_t first = reinterpret_cast<uintptr_t>(memory) / page * page;
    const uintptr_t last = (reinterpret_cast<uintptr_t>(memory) + bytes + page - 1) / page * page;
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

}  // namespace glasscell
