// One instruction set's kernels. Compiled once for each, with GLASSCELL_TARGET naming the namespace.
#include "backward.h"
#include "forward.h"
#include "weights.h"

#define GLASSCELL_STRING(name) GLASSCELL_QUOTE(name)
#define GLASSCELL_QUOTE(name) #name

namespace glasscell {
namespace GLASSCELL_TARGET {

template <class T> constexpr Kernels<T> kernels() {
    return {pack_forward_size<T>,  pack_forward<T>,     forward_scratch<T>,  forward<T>, pack_backward_size<T>,
            pack_backward<T>,      backward_scratch<T>, backward<T>,         panels<T>,  weights_scratch<T>,
            weights<T>};
}

extern const Target target;
const Target target = {GLASSCELL_STRING(GLASSCELL_TARGET), kernels<float>(), kernels<double>()};

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
