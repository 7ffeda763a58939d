// Loaded by tests: sets and reads how this thread's processor rounds, and whether it keeps subnormal numbers.
#include <cfenv>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

extern "C" {

// rounding: 0 to the nearest, 1 down, 2 up, 3 to zero. flush: subnormal numbers become zero, in and out.
int set_float_state(int rounding, int flush) {
    const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
#if defined(__x86_64__)
    _mm_setcsr((_mm_getcsr() & ~0x8040u) | (flush ? 0x8040u : 0));
#elif defined(__aarch64__)
    uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    control = flush ? control | (1u << 24) : control & ~(uint64_t(1) << 24);
    asm volatile("msr fpcr, %0" ::"r"(control));
#endif
    return std::fesetround(modes[rounding]);
}

// All control bits, without the flags of past exceptions.
int float_state() {
#if defined(__x86_64__)
    unsigned short old;
    asm volatile("fnstcw %0" : "=m"(old));
    return int((_mm_getcsr() & ~0x3fu) << 16 | old);
#else
    return std::fegetround();
#endif
}
}
