// What the per-target kernels take and offer. Plain data only: this header is shared by every translation unit.
//
// B batch, T time, I input features, H units. Arrays are C-contiguous. "Processing order" is time as the cell sees it:
// step s reads x at t = s, or t = T-1-s going backwards. All sums are chains of fused multiply-adds in the order:
//   raw gates   bias, then inputs k = 0..I-1, then recurrent k = 0..H-1
//   dx, dh      for each gate i, f, g, o: units u = 0..H-1 from zero; the four results added in that order
//   weights     kept steps, rows b ascending, in each row s ascending, in chunks of 128 steps: each chunk from zero, the
//               chunks' sums added in that order
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace glasscell {

// The order is that of glasscell/activations.py.
enum class Activation : int {
    tanh, sigmoid, linear, relu, hard_sigmoid, leaky_relu, elu, selu, exponential, softplus, softsign, silu, gelu
};
constexpr int kActivations = 13;
constexpr double kSeluScale = 1.0507009873554805, kSeluAlpha = 1.6732632423543772, kLeakySlope = 0.2;

// Whether the derivative needs the raw gate beside the activated one.
constexpr bool needs_raw(Activation a) { return a == Activation::silu || a == Activation::gelu; }

// The value that glasscell.cell.Options is here.
struct Options {
    Activation activation;
    Activation recurrent_activation;
    bool go_backwards;
};

enum : uint8_t { kKeep = 1, kReset = 2 };  // the bits of `steps`; glasscell/sequence.py has the same

// What forward and backward share.
template <class T> struct Call {
    int64_t B, time, I, H;
    Options options;
    const T* x;                 // (B, T, I)
    const T* kernel;            // (I, 4H)
    const T* recurrent_kernel;  // (H, 4H)
    const T* bias;              // (4H), or null
    const T* h0;                // (B, H)
    const T* c0;                // (B, H)
    const uint8_t* steps;       // (B, T) in the order of x, or null: every step is kept
    const T* input_mask;        // (input_gates, B, I), or null
    const T* recurrent_mask;    // (recurrent_gates, B, H), or null
    int64_t input_gates, recurrent_gates;  // 1 or 4; 0 without a mask
};

template <class T> struct ForwardCall : Call<T> {
    T* h;      // (B, T, H) out, processing order; null: only the final state is kept
    T* c;      // (B, T, H) out, likewise
    T* gates;  // (B, T, 4, H) out, activated; null: not kept. Not written at steps that are not kept
    T* z;      // (B, T, 4, H) out, raw; likewise
    T* hT;     // (B, H) out
    T* cT;     // (B, H) out
    const T* packed;  // the weights as pack_forward laid them out
};

template <class T> struct BackwardCall : Call<T> {
    const T* h;       // (B, T, H), c, gates, z: what forward kept
    const T* c;
    const T* gates;
    const T* z;       // null unless needs_raw
    const T* dh_all;  // (B, T, H) gradient of every h, processing order; null: zero
    const T* dhT;     // (B, H)
    const T* dcT;     // (B, H)
    T* dz;            // (B, T, 4, H) scratch, out; may be `gates` itself. Not written at steps that are not kept
    T* dx;            // (B, T, I) out, in the order of x
    T* d_kernel;      // (I, 4H) out
    T* d_recurrent;   // (H, 4H) out
    T* d_bias;        // (4H) out, or null
    T* dh0;           // (B, H) out
    T* dc0;           // (B, H) out
    const T* packed_kernel;     // W transposed, as pack_backward laid it out
    const T* packed_recurrent;  // R transposed, likewise
};

// One kept step of one row, for the weight gradients: where its factors stand.
template <class T> struct KeptStep {
    const T* x;
    const T* h;   // the state before the step
    const T* dz;  // (4, H)
    int64_t b;
};

// The functions of one instruction set for one dtype. `scratch` is 64-byte aligned memory of the size asked for.
template <class T> struct Kernels {
    size_t (*pack_forward_size)(int64_t I, int64_t H);  // elements
    void (*pack_forward)(const Call<T>&, T* packed);
    size_t (*forward_scratch)(const ForwardCall<T>&, int64_t rows);  // bytes
    void (*forward)(const ForwardCall<T>&, int64_t begin, int64_t end, void* scratch);  // rows begin..end-1

    size_t (*pack_backward_size)(int64_t outputs, int64_t H);
    void (*pack_backward)(const T* matrix, int64_t outputs, int64_t H, T* packed);  // matrix: (outputs, 4H)
    size_t (*backward_scratch)(const BackwardCall<T>&, int64_t rows);
    void (*backward)(const BackwardCall<T>&, int64_t begin, int64_t end, void* scratch);  // all but the weights

    int64_t (*panels)(const BackwardCall<T>&);  // how many column panels the weight gradients fall into
    size_t (*weights_scratch)(const BackwardCall<T>&);
    // Panels begin..end-1 of d_kernel, d_recurrent and d_bias.
    void (*weights)(const BackwardCall<T>&, const KeptStep<T>* kept, int64_t count, int64_t begin, int64_t end,
                    void* scratch);
};

struct Target {
    const char* name;
    float (*peak)(int64_t rounds);  // does peak_flops float operations a round, from registers
    int peak_flops;
    Kernels<float> f32;
    Kernels<double> f64;
};

}  // namespace glasscell
