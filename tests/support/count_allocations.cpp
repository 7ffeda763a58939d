// Loaded with LD_PRELOAD, in front of glibc's own functions: counts the allocations of all threads of a process, and
// the bytes that are in use.
#include <malloc.h>

#include <atomic>
#include <cerrno>

#include "libc_allocations.h"

namespace {

std::atomic<long> count{0}, alive{0}, most{0};

void* taken(void* memory, long size) {
    count.fetch_add(1);
    const long now = alive.fetch_add(size) + size;
    for (long old = most.load(); now > old && !most.compare_exchange_weak(old, now);) {}
    return memory;
}

void* taken(void* memory) { return memory ? taken(memory, long(malloc_usable_size(memory))) : nullptr; }

void given_back(void* memory) {
    if (memory) alive.fetch_sub(long(malloc_usable_size(memory)));
}

}  // namespace

extern "C" {

void* malloc(size_t size) { return taken(__libc_malloc(size)); }
void* calloc(size_t n, size_t size) { return taken(__libc_calloc(n, size)); }
void* memalign(size_t alignment, size_t size) { return taken(__libc_memalign(alignment, size)); }
void* aligned_alloc(size_t alignment, size_t size) { return taken(__libc_memalign(alignment, size)); }
int posix_memalign(void** result, size_t alignment, size_t size) {
    void* const memory = taken(__libc_memalign(alignment, size));
    if (!memory) return ENOMEM;
    *result = memory;
    return 0;
}
void* realloc(void* memory, size_t size) {
    const long before = memory ? long(malloc_usable_size(memory)) : 0;
    void* const moved = __libc_realloc(memory, size);
    if (moved || size == 0) alive.fetch_sub(before);
    return taken(moved);
}
void free(void* memory) {
    given_back(memory);
    __libc_free(memory);
}

// Memory that comes directly from the system.
void* mmap(void* at, size_t size, int protection, int flags, int file, off_t offset) noexcept {
    void* const memory = system_mmap(at, size, protection, flags, file, offset);
    return memory == MAP_FAILED || file >= 0 ? memory : taken(memory, long(size));
}
int munmap(void* memory, size_t size) noexcept {
    const int failed = int(syscall(SYS_munmap, memory, size));
    if (!failed) alive.fetch_sub(long(size));
    return failed;
}

long allocations() { return count.load(); }  // ever made
long bytes_alive() { return alive.load(); }
long most_bytes_alive() { return most.load(); }  // since the last forget_most()
void forget_most() { most.store(alive.load()); }
}
