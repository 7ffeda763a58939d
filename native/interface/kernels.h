// What the per-target kernels take and offer. Plain data only: this header is shared by every translation unit.
//
// B batch, T time, I input features, H units. Arrays are C-contiguous. "Processing order" is time as the cell sees it:
// step s reads x at t = s, or t = T-1-s going backwards. All sums are chains of fused multiply-adds in the order:
//   raw gates   bias, then inputs k = 0..I-1, then recurrent k = 0..H-1
//   dx, dh      for each gate i, f, g, o: units u = 0..H-1 from zero; the four results added in that order
//   weights     spans of time (steps_per_time_block) from the last to the first; in each the kept steps, rows b ascending, in each row
//               s ascending, in chunks of 128 of them: each chunk from zero, the chunks' sums added in that order
// So all bits are promised, but for those of a NaN: it stands in the same places, and its sign and payload are those of
// whichever operand the processor takes, which differs between a tile of one row and one of many.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "interface/cancellation.h"

namespace glasscell {

// By Keras's names. Python reads them from the module.
enum class Activation : int {
    tanh, sigmoid, linear, relu, hard_sigmoid, leaky_relu, elu, selu, exponential, softplus, softsign, silu, gelu
};
constexpr int kActivations = 13;
constexpr const char* kActivationNames[kActivations] = {
    "tanh", "sigmoid", "linear",      "relu",     "hard_sigmoid", "leaky_relu", "elu",
    "selu", "exponential", "softplus", "softsign", "silu",         "gelu"};
constexpr double kSeluScale = 1.0507009873554805, kSeluAlpha = 1.6732632423543772, kLeakySlope = 0.2;

// Whether the derivative needs the raw gate beside the activated one.
constexpr bool needs_raw(Activation a) { return a == Activation::silu || a == Activation::gelu; }

// The value that glasscell.cell.Options is here.
struct Options {
    Activation activation;
    Activation recurrent_activation;
    bool go_backwards;
};

enum : uint8_t { kKeep = 1, kReset = 2 };  // the bits of `steps`; glasscell/_ops/call.py has the same

// What forward and backward share.
template <class T> struct Call {
    int64_t B, time, I, H;
    Options options;
    const T* x;                 // (B, T, I)
    bool transposed_weights;         // PyTorch's layout: the next two, and their gradients, are (4H, I) and (4H, H)
    const T* kernel;            // (I, 4H)
    const T* recurrent_kernel;  // (H, 4H)
    const T* bias;              // (4H), or null
    const T* h0;                // (B, H)
    const T* c0;                // (B, H)
    const uint8_t* step_flags;       // (B, T) in the order of x, or null: every step is kept
    const T* dropout_mask;        // (input_gates, B, I), or null
    const T* recurrent_dropout_mask;    // (recurrent_gates, B, H), or null
    int64_t input_gates, recurrent_gates;  // 1 or 4; 0 without a mask
    CancellationToken* cancellation;       // may end the call early; null: nothing does
};

// Whether each gate reads x or h through a mask of its own: then the gates are summed one after another, for side by side
// they would share no element of a row, and their weights are packed for that.
template <class T> constexpr bool per_gate_masks(const Call<T>& call) { return call.input_gates == 4 || call.recurrent_gates == 4; }

// The backward pass goes through time in spans of this many steps, whose gradients stay in a near cache. Without a kept
// tape it computes the gates of one span at a time anew, from the cell state before it.
inline constexpr int64_t kTimeBlock = 256;  // rows times steps
constexpr int64_t steps_per_time_block(int64_t B, int64_t time) {
    const int64_t steps = B > 0 ? (kTimeBlock + B - 1) / B : 1;
    return steps < time ? steps : time > 0 ? time : 1;
}

constexpr int64_t time_block_count(int64_t B, int64_t time) { return (time + steps_per_time_block(B, time) - 1) / steps_per_time_block(B, time); }

// Arrays of single steps hold `steps` of them a row, from step `first` on, in processing order: (B, steps, ...).
struct TimeBlock {
    int64_t first, steps;
    constexpr int64_t offset(int64_t b, int64_t s) const { return b * steps + s - first; }
};

template <class T> struct ForwardCall : Call<T> {
    TimeBlock time_block;  // the steps to run; h0, c0 are the state before them
    T* h;       // (B, span, H) out; null: only the final state is kept
    T* c;       // (B, span, H) out, likewise
    T* gates;   // (B, span, 4, H) out, activated; null: not kept. Not written at steps that are not kept
    T* z;       // (B, span, 4, H) out, raw; likewise
    T* cell_checkpoints; // (spans of the backward pass, B, H) out, the cell state before each; null: not kept
    T* hT;      // (B, H) out; may be h0
    T* cT;      // (B, H) out; may be c0
    const T* packed;  // the weights as pack_forward laid them out for a call like this one
};

template <class T> struct BackwardCall : Call<T> {
    const T* h;       // (B, T, H) as forward kept it
    TimeBlock tape;        // the steps of c, gates and z
    const T* c;       // (B, tape, H)
    const T* c_before;  // (B, H): the cell state before them
    const T* gates;   // (B, tape, 4, H)
    const T* z;       // (B, tape, 4, H); null unless needs_raw
    const T* dh_all;  // (B, T, H) gradient of every h, processing order; null: zero
    TimeBlock time_block;        // the steps to go back through
    T* dz;            // (B, span, 4, H) out. Not written at steps that are not kept
    T* dx;            // (B, T, I) out, in the order of x; or null: nobody wants it
    T* d_kernel;      // (I, 4H) in and out: sums are added
    T* d_recurrent;   // (H, 4H) likewise
    T* d_bias;        // (4H) likewise, or null
    T* dh;            // (B, H) in and out: the gradients of the state after the span, then before it
    T* dc;            // (B, H) likewise
    const T* packed_kernel;     // W transposed, as pack_backward laid it out
    const T* packed_recurrent;  // R transposed, likewise, in panels of panel_vectors
    int64_t panel_vectors;
};

// Threads that share the same rows meet after each step: all run at the same time, each with units of its own.
struct alignas(64) BarrierSlot {
    unsigned count;     // how often one of them has come
    unsigned sleepers;  // how many sleep until it comes
};
struct ThreadGroup {
    int size;
    BarrierSlot* members;  // [size]
};

// A thread's part of a pass.
struct WorkItem {
    const int64_t* rows;  // [count] which rows of the batch
    int64_t count;
    int64_t first, last;  // its units; `first` starts a block (forward) or a panel (backward)
    const ThreadGroup* group;     // null: alone with its rows
    int member;           // of the team
};

// One kept step of one row: where its factors stand.
template <class T> struct KeptStep {
    const T* x;
    const T* h;   // the state before the step
    const T* dz;  // (4, H)
    int64_t b;
};

// The functions of one instruction set for one dtype. Arena is 64-byte aligned memory of the size asked for.
template <class T> struct Kernels {
    int64_t lanes, tile_rows, tile_vectors;

    size_t (*pack_forward_size)(int64_t I, int64_t H);  // elements
    void (*pack_forward)(const Call<T>&, int64_t begin, int64_t end, T* packed);  // of the 1 + I + H rows
    size_t (*forward_scratch)(const ForwardCall<T>&, int64_t rows);  // bytes, for one part
    size_t (*forward_shared)(const ForwardCall<T>&, int64_t rows);   // bytes, for all parts of the same rows
    void (*forward)(const ForwardCall<T>&, const WorkItem&, void* scratch, void* shared);

    size_t (*pack_backward_size)(int64_t outputs, int64_t H);
    // One panel of matrix: (outputs, 4H), or (4H, outputs).
    void (*pack_backward)(const T* matrix, bool transposed_weights, int64_t outputs, int64_t H, int64_t vectors, int64_t panel,
                          T* packed);
    size_t (*backward_scratch)(const BackwardCall<T>&, int64_t rows);
    void (*backward)(const BackwardCall<T>&, const WorkItem&, void* scratch);  // dz, dh, dc

    size_t (*masked_operands_size)(const BackwardCall<T>&, int64_t count);
    // The part of `factors` of the kept steps begin..end-1, of `count`.
    void (*masked_operands)(const BackwardCall<T>&, const KeptStep<T>* kept, int64_t count, int64_t begin, int64_t end, T* factors);
    void (*input_gradients)(const BackwardCall<T>&, const KeptStep<T>* kept, int64_t begin, int64_t end);  // their dx
    int64_t (*panels)(const BackwardCall<T>&);  // how many column panels the weight gradients fall into
    void (*weight_gradients)(const BackwardCall<T>&, const KeptStep<T>* kept, int64_t count, int64_t panel, const T* factors);
    // Rows begin..end-1 of from: (rows, columns) into to: (columns, rows).
    void (*transpose)(const T* from, int64_t rows, int64_t columns, int64_t begin, int64_t end, T* to);
};

struct Target {
    const char* name;
    float (*peak)(int64_t rounds);  // does peak_flops float operations a round, from registers
    int peak_flops;
    float (*read)(const float* from, int64_t count);  // their sum; count: a multiple of 128
    Kernels<float> f32;
    Kernels<double> f64;
};

}  // namespace glasscell
