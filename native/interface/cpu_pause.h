// Tells the processor that a thread spins. Internal to each translation unit, like all functions that kernels use.
#pragma once

namespace glasscell {

static inline __attribute__((always_inline)) void cpu_pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace glasscell
