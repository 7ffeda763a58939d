// The way into the engine for every array library: flat lists of arrays, one part of a list for each direction over the
// same input. The order of the arrays is defined here. Python reads the names from the module
// (src/glasscell/_ops/operands.py).
//
// A placeholder, an array of shape (0), stands for an absent array. All arrays may have more axes in front. Each index
// into these axes is then a call of its own. An input has size 1 there where all calls share it; outputs are never
// shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/aligned_buffer.h"
#include "interface/call.h"

namespace glasscell {

// The arrays that one direction reads. The first kWeights have gradients.
enum Input : size_t { kKernel, kRecurrentKernel, kBias, kH0, kC0, kDropoutMask, kRecurrentDropoutMask, kInputs };
constexpr const char* kInputNames[kInputs] = {
    "kernel", "recurrent_kernel", "bias", "h0", "c0", "dropout_mask", "recurrent_dropout_mask"};
constexpr size_t kWeights = 5;

// The arrays that one direction leaves. The first kOutputs have cotangents.
enum Residual : size_t { kFinalH, kFinalC, kH, kC, kGates, kZ, kCellCheckpoints, kResiduals };
constexpr const char* kResidualNames[kResiduals] = {"hT", "cT", "h", "c", "gates", "z", "cell_checkpoints"};
constexpr size_t kOutputs = 3;

// The numbers that encode the options of a direction.
enum OptionCode : size_t { kActivation, kRecurrentActivation, kGoBackwards, kTransposedWeights, kOptionCodes };
constexpr const char* kOptionNames[kOptionCodes] = {
    "activation", "recurrent_activation", "go_backwards", "transposed_weights"};

// Decodes the numbers of a direction. Throws std::invalid_argument for an unknown activation.
Options options_of(const int64_t* option_codes);

// A view of a C-contiguous array that someone else owns.
template <class T> struct View {
    T* elements;
    size_t rank;
    const int64_t* dimensions;

    size_t ndim() const { return rank; }
    int64_t shape(size_t axis) const { return dimensions[axis]; }
    T* data() const { return elements; }
};
template <class T> using Views = std::vector<View<T>>;

// Weights as the kernels read them, packed once for many calls. They stay right as long as the unpacked weights do not
// change.
template <class T> struct PackedWeights {
    AlignedBuffer buffer;
    int64_t I, H;
};

template <class T> struct Operands {
    View<const T> x;
    View<const uint8_t> step_flags;
    Views<const T> inputs;              // kInputs for each direction
    std::vector<int64_t> option_codes;  // kOptionCodes for each direction
    const PackedWeights<T>* packed = nullptr;  // the weights of the only direction; null: the call packs them
    CancellationToken* cancellation = nullptr;
};

// Both functions below throw std::invalid_argument for arrays that do not fit, naming them.
// residuals: kResiduals for each direction, out.
template <class T> void run_forward(const Operands<T>& operands, const Views<T>& residuals);
// cotangents: kOutputs for each direction. gradients, out: dx, summed over the directions, or a placeholder; then
// kWeights for each direction.
template <class T>
void run_backward(const Operands<T>& operands, const Views<const T>& residuals, const Views<const T>& cotangents,
                  const Views<T>& gradients);

}  // namespace glasscell
