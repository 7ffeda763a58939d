// One call: its sizes, options and arrays, forward and backward. Plain data, which bindings, engine and the kernels of
// every instruction set share.
//
// B batch, T time, I input features, H units. Arrays are C-contiguous. Steps are counted in processing order: step s
// reads x at t = s, or at t = T-1-s going backwards. Every sum is a chain of fused multiply-adds in this order:
//   raw gates   bias, then inputs k = 0..I-1, then recurrent k = 0..H-1
//   dx, dh      for each gate i, f, g, o: units u = 0..H-1 from zero; the four results added in that order
//   weights     time blocks from the last to the first; in each block the kept steps, rows b ascending, in each row s
//               ascending, in chunks of 128 steps: each chunk from zero, the chunks' sums added in that order
// So all bits are promised, except those of a NaN. NaNs stand in the same places. But the processor takes a NaN's sign
// and payload from one of the operands, and from which one differs between a tile of one row and a tile of many.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "interface/cancellation.h"

namespace glasscell {

// The activations, by Keras's names. Python reads the names from the module.
enum class Activation : int {
    tanh, sigmoid, linear, relu, hard_sigmoid, leaky_relu, elu, selu, exponential, softplus, softsign, silu, gelu,
    celu, relu6, hard_silu, hard_tanh, hard_shrink, soft_shrink, log_sigmoid, mish, sparse_plus, sparse_sigmoid,
    squareplus, tanh_shrink
};
constexpr int kActivations = 25;
constexpr const char* kActivationNames[kActivations] = {
    "tanh", "sigmoid", "linear", "relu", "hard_sigmoid", "leaky_relu", "elu",
    "selu", "exponential", "softplus", "softsign", "silu", "gelu",
    "celu", "relu6", "hard_silu", "hard_tanh", "hard_shrink", "soft_shrink", "log_sigmoid",
    "mish", "sparse_plus", "sparse_sigmoid", "squareplus", "tanh_shrink"};
constexpr double kSeluScale = 1.0507009873554805, kSeluAlpha = 1.6732632423543772, kLeakySlope = 0.2, kShrink = 0.5;

// Whether the derivative needs the raw gate beside the activated one: because the function falls and rises again,
// because the derivative has no closed form in the activated gate, or because it has a value of its own where the
// function reaches its bounds.
static constexpr bool needs_raw(Activation a) {
    switch (a) {
        case Activation::silu:
        case Activation::gelu:
        case Activation::hard_silu:
        case Activation::hard_tanh:
        case Activation::mish:
        case Activation::sparse_sigmoid:
        case Activation::tanh_shrink: return true;
        default: return false;
    }
}

// The options of the cell. In Python: glasscell._cells.lstm.Options.
struct Options {
    Activation activation;
    Activation recurrent_activation;
    bool go_backwards;
};

static constexpr bool needs_raw(const Options& options) {
    return needs_raw(options.activation) || needs_raw(options.recurrent_activation);
}

// Whether the activations are tanh and sigmoid, for which the kernels have code of their own.
static constexpr bool has_default_activations(const Options& options) {
    return options.activation == Activation::tanh && options.recurrent_activation == Activation::sigmoid;
}

enum : uint8_t { kKeep = 1, kReset = 2 };  // the bits of `step_flags`; glasscell/_ops/call.py has the same

// The members that forward and backward calls share.
template <class T> struct Call {
    int64_t B, time, I, H;
    Options options;
    const T* x;                       // (B, T, I)
    bool transposed_weights;          // PyTorch's layout: the weights and their gradients are (4H, I) and (4H, H)
    const T* kernel;                  // (I, 4H)
    const T* recurrent_kernel;        // (H, 4H)
    const T* bias;                    // (4H), or null
    const T* h0;                      // (B, H)
    const T* c0;                      // (B, H)
    const uint8_t* step_flags;        // (B, T) in the order of x; null: every step is kept
    const T* dropout_mask;            // (dropout_gates, B, I), or null
    const T* recurrent_dropout_mask;  // (recurrent_dropout_gates, B, H), or null
    int64_t dropout_gates, recurrent_dropout_gates;  // 1 or 4; 0 without a mask
    CancellationToken* cancellation;  // null: nothing ends the call early
};

// Whether the gates read x or h through masks of their own. Each gate then multiplies masked rows of its own, so the
// gates are summed one after another, and the weights are packed for that.
template <class T> static constexpr bool per_gate_masks(const Call<T>& call) {
    return call.dropout_gates == 4 || call.recurrent_dropout_gates == 4;
}

// The time index in x of step s.
template <class T> static constexpr int64_t time_of(const Call<T>& call, int64_t s) {
    return call.options.go_backwards ? call.time - 1 - s : s;
}

// The flags of row b at time index t.
template <class T> static constexpr uint8_t flags_of(const Call<T>& call, int64_t b, int64_t t) {
    return call.step_flags ? call.step_flags[b * call.time + t] : uint8_t(kKeep);
}

// The backward pass goes through time in blocks of steps, whose gradients stay in a near cache. Without a kept tape it
// recomputes the gates of one block at a time from the cell state before the block.
static constexpr int64_t kTimeBlock = 256;  // rows times steps
static constexpr int64_t steps_per_time_block(int64_t B, int64_t time) {
    const int64_t steps = B > 0 ? (kTimeBlock + B - 1) / B : 1;
    return steps < time ? steps : time > 0 ? time : 1;
}
static constexpr int64_t time_block_count(int64_t B, int64_t time) {
    return (time + steps_per_time_block(B, time) - 1) / steps_per_time_block(B, time);
}

// The steps first..first + steps - 1. An array of a time block has the shape (B, steps, ...).
struct TimeBlock {
    int64_t first, steps;
};

// The index of step s of row b in an array of the block.
static constexpr int64_t offset_in(const TimeBlock& block, int64_t b, int64_t s) {
    return b * block.steps + s - block.first;
}

template <class T> struct ForwardCall : Call<T> {
    TimeBlock time_block;  // the steps to run; h0 and c0 are the state before them
    T* h;                  // (B, steps, H) out; null: only the final state is kept
    T* c;                  // (B, steps, H) out, likewise
    T* gates;              // (B, steps, 4, H) out, activated; null: not kept. Not written at steps that are not kept
    T* z;                  // (B, steps, 4, H) out, raw; likewise
    T* cell_checkpoints;   // (time blocks, B, H) out, the cell state before each block; null: not kept
    T* hT;                 // (B, H) out; may be h0
    T* cT;                 // (B, H) out; may be c0
    const T* packed;       // the weights as pack_forward laid them out for a call like this one
};

template <class T> struct BackwardCall : Call<T> {
    const T* h;                 // (B, T, H) as forward kept it
    TimeBlock tape;             // the steps of c, gates and z
    const T* c;                 // (B, tape.steps, H)
    const T* c_before;          // (B, H): the cell state before the tape
    const T* gates;             // (B, tape.steps, 4, H)
    const T* z;                 // (B, tape.steps, 4, H); null unless needs_raw
    const T* dh_all;            // (B, T, H) gradient of every h, processing order; null: zero
    TimeBlock time_block;       // the steps to go back through
    T* dz;                      // (B, time_block.steps, 4, H) out. Not written at steps that are not kept
    T* dx;                      // (B, T, I) out, in the order of x; null: not computed
    T* d_kernel;                // (I, 4H) in and out: sums are added
    T* d_recurrent;             // (H, 4H) likewise
    T* d_bias;                  // (4H) likewise, or null
    T* dh;                      // (B, H) in and out: the gradient of the state after the time block, then before it
    T* dc;                      // (B, H) likewise
    const T* packed_kernel;     // the transposed kernel as pack_backward laid it out
    const T* packed_recurrent;  // the transposed recurrent kernel, likewise, in panels of panel_vectors
    int64_t panel_vectors;
};

// The hidden state of row b before step s.
template <class T> static constexpr const T* hidden_before(const BackwardCall<T>& call, int64_t b, int64_t s) {
    return s ? call.h + (b * call.time + s - 1) * call.H : call.h0 + b * call.H;
}

}  // namespace glasscell
