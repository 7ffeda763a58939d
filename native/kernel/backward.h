// The backward pass over a time block, for the rows and units of one work item. It computes the gradients of the raw
// gates and of the state. The gradients of x and of the weights do not feed back: they are computed after this loop, as
// large products (weight_gradients.h).
#pragma once

#include "kernel/arena.h"
#include "kernel/barrier.h"
#include "kernel/lstm.h"
#include "kernel/masks.h"
#include "kernel/projection.h"

namespace glasscell::GLASSCELL_TARGET {

// The memory of a work item. The active rows of a step are the rows whose flags keep the step (kKeep).
template <class T> struct BackwardWorkspace {
    Arena& scratch;
    const int64_t rows, H;
    const T** const dz = scratch.allocate<const T*>(rows);    // for each active row: the gradients of its raw gates
    const T** const mask = scratch.allocate<const T*>(rows);  // its recurrent mask
    T** const dh_out = scratch.allocate<T*>(rows);            // where its product dz R^T goes
    T* const zeros = scratch.allocate<T>(H);
};

template <class T> size_t backward_scratch(const BackwardCall<T>& call, int64_t rows) {
    Arena counter{nullptr};
    (void)BackwardWorkspace<T>{counter, rows, call.H};
    return counter.used;
}

// Loads n units of the four gates of a row (4, H).
template <class T> GLASSCELL_INLINE Gates<T> load_gates(const T* from, int64_t H, int64_t n) {
    return {load_n<T>(from, n), load_n<T>(from + H, n), load_n<T>(from + 2 * H, n), load_n<T>(from + 3 * H, n)};
}

// Computes the gradients of one row's raw gates at one step, for the item's units. dc becomes the gradient of the cell
// state before the step. `at`: the index of the step in the tape.
template <class T, bool Default>
void row_gradient(const BackwardCall<T>& call, const WorkItem& item, int64_t at, const T* c, const T* dh, T* dc,
                  T* dz) {
    const Activation a = Default ? Activation::tanh : call.options.activation;
    const Activation s = Default ? Activation::sigmoid : call.options.recurrent_activation;
    const int64_t H = call.H;
    for (int64_t unit = item.first; unit < item.last; unit += kLanes<T>) {
        const int64_t n = minimum(kLanes<T>, item.last - unit), i = at * 4 * H + unit;
        const Gates<T> gates = load_gates<T>(call.gates + i, H, n);
        for (int gate = 0; gate < 4; ++gate) __builtin_prefetch(call.gates + i + (gate - 4) * H);  // the step before
        const Gates<T> z = !Default && call.z ? load_gates<T>(call.z + i, H, n) : gates;
        const StepGradient<T> d =
            step_gradient<T>(z, gates, load_n<T>(c + unit, n), load_n<T>(call.c + at * H + unit, n),
                             load_n<T>(dh + unit, n), load_n<T>(dc + unit, n), a, s);
        store_n<T>(dz + unit, d.dz.i, n);
        store_n<T>(dz + H + unit, d.dz.f, n);
        store_n<T>(dz + 2 * H + unit, d.dz.g, n);
        store_n<T>(dz + 3 * H + unit, d.dz.o, n);
        store_n<T>(dc + unit, d.dc, n);
    }
}

// Computes the gradients of the raw gates of all rows at step s, and lists the active rows. Returns how many are
// active, or -1 where the call was cancelled.
template <class T, bool Default>
int64_t gate_gradients(const BackwardCall<T>& call, const BackwardWorkspace<T>& work, const WorkItem& item, int64_t s,
                       CancelPoll& poll) {
    constexpr int64_t kUnitWork = 64;  // what row_gradient costs for one unit, about, in multiply-adds
    const int64_t H = call.H, t = time_of(call, s);
    int64_t count = 0;
    for (int64_t row = 0; row < item.count; ++row) {
        if (poll.cancelled(kUnitWork * (item.last - item.first))) return -1;
        const int64_t b = item.rows[row], at = offset_in(call.tape, b, s);
        const uint8_t flags = flags_of(call, b, t);
        T* const dh = call.dh + b * H;
        if (call.dh_all) {
            const T* const outer = call.dh_all + (b * call.time + s) * H;
            for (int64_t u = item.first; u < item.last; ++u) dh[u] += outer[u];
        }
        if (!(flags & kKeep)) continue;
        const T* const c = flags & kReset        ? work.zeros
                           : s > call.tape.first ? call.c + (at - 1) * H
                                                 : call.c_before + b * H;
        T* const dz = call.dz + offset_in(call.time_block, b, s) * 4 * H;
        row_gradient<T, Default>(call, item, at, c, dh, call.dc + b * H, dz);
        work.dz[count] = dz, work.dh_out[count] = dh;
        if (call.recurrent_dropout_gates) work.mask[count] = call.recurrent_dropout_mask + b * H;
        ++count;
    }
    return count;
}

// Clears the gradients of the state before step s in the rows whose state is reset there.
template <class T> GLASSCELL_INLINE void clear_at_resets(const BackwardCall<T>& call, const WorkItem& item, int64_t s) {
    const size_t bytes = size_t(item.last - item.first) * sizeof(T);
    const int64_t t = time_of(call, s);
    for (int64_t row = 0; call.step_flags && row < item.count; ++row) {
        const int64_t b = item.rows[row], at = b * call.H + item.first;
        if (!(flags_of(call, b, t) & kReset)) continue;
        memset(call.dh + at, 0, bytes);
        memset(call.dc + at, 0, bytes);
    }
}

template <class T> void backward(const BackwardCall<T>& call, WorkItem item, void* memory) {
    const int64_t H = call.H, first = call.time_block.first;
    Arena scratch{static_cast<char*>(memory)};
    const BackwardWorkspace<T> work{scratch, item.count, H};
    memset(work.zeros, 0, size_t(H) * sizeof(T));
    const ProjectionMask<T> mask = {call.recurrent_dropout_gates ? work.mask : nullptr,
                                    gate_stride(call.recurrent_dropout_gates, call.B * H)};
    const auto gradients = has_default_activations(call.options) ? gate_gradients<T, true> : gate_gradients<T, false>;
    CancelPoll poll(call.cancellation);
    for (int64_t s = first + call.time_block.steps - 1; s >= first; --s) {
        const int64_t active = gradients(call, work, item, s, poll);
        if (active < 0) return;
        if (item.group) {
            const bool goes_on = barrier_wait(item, call.cancellation);
            if (!goes_on && item.member) return;
            for (int64_t n = 0; n < active; ++n) prefetch<T, false>(work.dz[n], 4 * H);
            if (!goes_on) take_over(item, H);
        }
        project<T>(work.dz, active, H, call.packed_recurrent, call.panel_vectors, item.first, item.last, mask,
                   work.dh_out, poll);
        clear_at_resets(call, item, s);
    }
}

}  // namespace glasscell::GLASSCELL_TARGET
