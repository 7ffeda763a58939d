#include "engine/dispatch.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace glasscell {

#if defined(GLASSCELL_X86)
namespace avx512 { extern const Target target; }
namespace avx2 { extern const Target target; }
#endif
#if defined(GLASSCELL_NEON)
namespace neon { extern const Target target; }
#endif
namespace baseline { extern const Target target; }

const std::vector<const Target*>& available_targets() {
    static const std::vector<const Target*> targets = [] {
        std::vector<const Target*> found;
#if defined(GLASSCELL_X86)
        __builtin_cpu_init();  // its answers include the operating system's support
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
            found.push_back(&avx512::target);
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::target);
#endif
#if defined(GLASSCELL_NEON)
        found.push_back(&neon::target);
#endif
        found.push_back(&baseline::target);
        return found;
    }();
    return targets;
}

static const Target& choose_target() {
    const char* const name = std::getenv("GLASSCELL_TARGET");
    if (!name || !*name) return *available_targets().front();
    std::string known;
    for (const Target* target : available_targets()) {
        if (std::string(target->name) == name) return *target;
        known += (known.empty() ? "" : ", ") + std::string(target->name);
    }
    throw std::invalid_argument("GLASSCELL_TARGET: expected one of " + known + " on this machine, got '" + name + "'");
}

const Target& current_target() {
    static const Target& target = choose_target();
    return target;
}

template <> const Kernels<float>& current_kernels<float>() { return current_target().f32; }
template <> const Kernels<double>& current_kernels<double>() { return current_target().f64; }

}  // namespace glasscell
