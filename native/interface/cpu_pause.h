// What a thread does between two looks at what it waits for. Internal to each translation unit, as all that kernels use.
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
