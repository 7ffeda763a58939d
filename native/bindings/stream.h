// One step at a time: the Python classes StreamFloat and StreamDouble.
#pragma once

#include <nanobind/nanobind.h>

namespace glasscell {

void bind_streams(nanobind::module_& m);

}  // namespace glasscell
