// The floating-point state of a thread: rounding, subnormal numbers, traps. The caller may have changed it: PyTorch's
// set_flush_denormal does, and so does code built with fast-math when it is loaded. The bits must not depend on it.
#pragma once

#include <stdint.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <fenv.h>
#endif

namespace glasscell {

#if defined(__x86_64__)
// The control bits of the vector unit and of the x87 unit, with which some C libraries compute fma.
struct FloatState {
    static constexpr uint32_t kFlags = 0x3f, kVector = 0x1f80;  // exceptions so far; all traps masked, round to nearest
    static constexpr uint16_t kX87 = 0x037f;

    uint32_t vector;
    uint16_t x87;

    static FloatState current() {
        FloatState state;
        asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(state.vector), "=m"(state.x87)::"memory");
        return state;
    }
    static FloatState known(const FloatState& now) { return {kVector | (now.vector & kFlags), kX87}; }
    bool is_known() const { return (vector & ~kFlags) == kVector && x87 == kX87; }
    void set() const { asm volatile("ldmxcsr %0\n\tfldcw %1" ::"m"(vector), "m"(x87) : "memory"); }
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

// Sets the default state of IEEE 754 (round to nearest, subnormal numbers kept, no traps), and restores the former
// state when it is destroyed.
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
