// Loaded with LD_PRELOAD, in front of glibc's own functions: lets one allocation fail, or all from one on, in any
// thread.
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <new>

#include "libc_allocations.h"

namespace {

std::atomic<long> left{0};  // allocations until the one that fails; 0: none fails
std::atomic<bool> on{false}, all_after{false}, reached{false};
uintptr_t first = 0, last = UINTPTR_MAX;  // the code whose allocations count

bool fails(const void* caller) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(caller);
    if (!on.load() || at < first || at >= last) return false;
    const long now = left.fetch_sub(1);
    if (now > 1 || (now < 1 && !all_after)) return false;
    reached.store(true);
    return true;
}

void* made(const void* caller, size_t size, size_t alignment = alignof(std::max_align_t)) {
    void* const memory = fails(caller) ? nullptr : __libc_memalign(alignment, size);
    if (!memory) throw std::bad_alloc();
    return memory;
}

}  // namespace

#define CALLER __builtin_return_address(0)

void* operator new(size_t size) { return made(CALLER, size); }
void* operator new[](size_t size) { return made(CALLER, size); }
void* operator new(size_t size, std::align_val_t alignment) { return made(CALLER, size, size_t(alignment)); }
void* operator new[](size_t size, std::align_val_t alignment) { return made(CALLER, size, size_t(alignment)); }
void operator delete(void* memory) noexcept { __libc_free(memory); }
void operator delete[](void* memory) noexcept { __libc_free(memory); }
void operator delete(void* memory, size_t) noexcept { __libc_free(memory); }
void operator delete[](void* memory, size_t) noexcept { __libc_free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { __libc_free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { __libc_free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { __libc_free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { __libc_free(memory); }

extern "C" {

void* malloc(size_t size) { return fails(CALLER) ? nullptr : __libc_malloc(size); }
void* calloc(size_t n, size_t size) { return fails(CALLER) ? nullptr : __libc_calloc(n, size); }
void* realloc(void* memory, size_t size) { return fails(CALLER) ? nullptr : __libc_realloc(memory, size); }
void* memalign(size_t alignment, size_t size) { return fails(CALLER) ? nullptr : __libc_memalign(alignment, size); }
void* aligned_alloc(size_t alignment, size_t size) { return fails(CALLER) ? nullptr : __libc_memalign(alignment, size); }
int posix_memalign(void** result, size_t alignment, size_t size) {
    void* const memory = fails(CALLER) ? nullptr : __libc_memalign(alignment, size);
    if (!memory) return ENOMEM;
    *result = memory;
    return 0;
}
void* mmap(void* at, size_t size, int protection, int flags, int file, off_t offset) noexcept {
    if (file < 0 && fails(CALLER)) return errno = ENOMEM, MAP_FAILED;
    return system_mmap(at, size, protection, flags, file, offset);
}

void count_those_of(uintptr_t begin, uintptr_t end) { first = begin, last = end; }

// From now on the n-th allocation fails, or all from the n-th on.
void begin_to_fail(long n, int and_all_after) {
    left.store(n), all_after.store(and_all_after), reached.store(false);
    on.store(true);
}

// Returns whether an allocation has failed since begin_to_fail().
int end_failing() {
    on.store(false);
    return reached.load();
}
}
