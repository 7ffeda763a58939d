// The Python classes StreamFloat and StreamDouble, which run one step at a time.
#pragma once

#include <nanobind/nanobind.h>

namespace glasscell {

void bind_streams(nanobind::module_& m);

}  // namespace glasscell
