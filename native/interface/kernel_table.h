// The functions that a target (an instruction set) offers, and the data that the engine hands to them. Engine and
// kernels meet only here.
#pragma once

#include "interface/call.h"

namespace glasscell {

// What one thread of a group shows the others. The threads of a group have the same rows, each has units of its own,
// and they wait for each other after each step.
struct alignas(64) BarrierSlot {
    unsigned count;     // how often this thread has arrived
    unsigned sleepers;  // how many threads sleep until it arrives
    int64_t first;      // its first unit
    const void* cells;  // its cell states, for member 0 to take over where the call keeps none
};

// A group of threads that have the same rows. Member 0 can end the group: before it arrives at a barrier it names that
// barrier as the last. After this barrier the other members leave, and member 0 goes on with the units of all. So no
// thread still writes when the call returns, and the bits are the same.
struct alignas(64) ThreadGroup {
    int size;
    BarrierSlot* members;  // [size]
    unsigned last;         // the count of the last barrier
    int64_t patience;      // nanoseconds of waiting after which member 0 ends the group
    int64_t waited;        // nanoseconds that member 0 has waited, without its spins
};

// One thread's share of a pass: some rows, and some or all of their units.
struct WorkItem {
    const int64_t* rows;       // [count] indices into the batch
    int64_t count;
    int64_t first, last;       // units; `first` starts a unit block (forward) or a panel (backward)
    ThreadGroup* group;        // null: no other thread has these rows
    int member;                // of the group
};

// One kept step of one row, and the operands of its weight gradients.
template <class T> struct KeptStep {
    const T* x;
    const T* h;   // the state before the step
    const T* dz;  // (4, H)
    int64_t b;
};

// The bytes that a work item needs for itself (`scratch`), and those that all items of the same rows need together
// (`shared`).
struct WorkspaceBytes {
    size_t scratch, shared;
};

// The functions of one instruction set for one dtype. `scratch` and `shared` are 64-byte aligned memory.
template <class T> struct Kernels {
    int64_t lanes, tile_rows, tile_vectors;

    size_t (*pack_forward_size)(int64_t I, int64_t H);  // elements
    // Packs the rows begin..end-1 of the 1 + I + H rows of bias, kernel and recurrent kernel.
    void (*pack_forward)(const Call<T>&, int64_t begin, int64_t end, T* packed);
    WorkspaceBytes (*forward_workspace)(const ForwardCall<T>&, int64_t rows);
    void (*forward)(const ForwardCall<T>&, const WorkItem&, void* scratch, void* shared);

    size_t (*pack_backward_size)(int64_t outputs, int64_t H);  // elements
    // Packs one panel of the matrix: (outputs, 4H), or (4H, outputs) where it is transposed.
    void (*pack_backward)(const T* matrix, bool transposed, int64_t outputs, int64_t H, int64_t vectors, int64_t panel,
                          T* packed);
    size_t (*backward_scratch)(const BackwardCall<T>&, int64_t rows);            // bytes
    void (*backward)(const BackwardCall<T>&, WorkItem, void* scratch);    // computes dz, dh and dc

    size_t (*masked_operands_size)(const BackwardCall<T>&, int64_t count);  // elements
    // Multiplies x and h of the kept steps begin..end-1, of `count`, by their masks.
    void (*masked_operands)(const BackwardCall<T>&, const KeptStep<T>* kept, int64_t count, int64_t begin, int64_t end,
                            T* masked);
    // Computes dx of the kept steps begin..end-1.
    void (*input_gradients)(const BackwardCall<T>&, const KeptStep<T>* kept, int64_t begin, int64_t end);
    int64_t (*weight_panels)(const BackwardCall<T>&);  // how many column panels the weight gradients have
    // Adds the sums over `count` kept steps to one panel of d_kernel, d_recurrent and d_bias.
    void (*weight_gradients)(const BackwardCall<T>&, const KeptStep<T>* kept, int64_t count, int64_t panel,
                             const T* masked);
    // Transposes rows begin..end-1 of from: (rows, columns) into to: (columns, rows).
    void (*transpose)(const T* from, int64_t rows, int64_t columns, int64_t begin, int64_t end, T* to);
};

struct Target {
    const char* name;
    float (*peak)(int64_t rounds);  // runs peak_flops float operations a round, from registers
    int peak_flops;
    float (*read)(const float* from, int64_t count);  // returns the sum of `count` floats, a multiple of 128
    Kernels<float> f32;
    Kernels<double> f64;
};

}  // namespace glasscell
