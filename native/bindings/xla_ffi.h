// The custom calls for jax.ffi.
#pragma once

namespace glasscell {

struct JaxHandler {
    const char* name;
    void* function;
};

const JaxHandler* jax_handlers();  // an array that ends with a null name

}  // namespace glasscell
