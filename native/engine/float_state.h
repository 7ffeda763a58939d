// How the processor computes for a thread: rounding, subnormal numbers, traps. Whoever calls may have set it: PyTorch's
// set_flush_denormal does, and so does code built with fast-math when it is loaded. The bits must not follow.
#pragma once

#include <stdint.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <fenv.h>
#endif

namespace glasscell {

#if defined(__x86_64__)
// The control bits of the vector unit and of the older one, which some C libraries' fma computes with.
struct FloatState {
    static constexpr uint32_t kFlags = 0x3f, kVector = 0x1f80;  // what has happened; all traps masked, to the nearest
    static constexpr uint16_t kOld = 0x037f;

    uint32_t vector;
    uint16_t old;

    static FloatState current() {
        FloatState state;
        asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(state.vector), "=m"(state.old)::"memory");
        return state;
    }
    static FloatState known(const FloatState& now) { return {kVector | (now.vector & kFlags), kOld}; }
    bool is_known() const { return (vector & ~kFlags) == kVector && old == kOld; }
    void set() const { asm volatile("ldmxcsr %0\n\tfldcw %1" ::"m"(vector), "m"(old) : "memory"); }
};
#elif defined(__aarch64__)
struct FloatState {
    uint64_t control;

    static FloatState current() {
        FloatState state;
        asm volatile("mrs %0, fpcr" : "=r"(state.control)::"memory");
        return state;
    }
    static FloatState known(const FloatState&) { return {0}; }
    bool is_known() const { return control == 0; }
    void set() const { asm volatile("msr fpcr, %0" ::"r"(control) : "memory"); }
};
#else
struct FloatState {
    fenv_t all;

    static FloatState current() {
        FloatState state;
        fegetenv(&state.all);
        return state;
    }
    static FloatState known(const FloatState&) { return {*FE_DFL_ENV}; }
    bool is_known() const { return false; }
    void set() const { fesetenv(&all); }
};
#endif

// As IEEE 754 has it by default while this lives: to the nearest, subnormal numbers kept, no traps. Then as it was.
class KnownFloats {
  public:
    KnownFloats() : before_(FloatState::current()) {
        if (!before_.is_known()) FloatState::known(before_).set();
    }
    ~KnownFloats() {
        if (!before_.is_known()) before_.set();
    }
    KnownFloats(const KnownFloats&) = delete;

  private:
    const FloatState before_;
};

}  // namespace glasscell
