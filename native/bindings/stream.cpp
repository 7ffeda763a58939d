#include "bindings/stream.h"

#include <atomic>
#include <memory>

#include "bindings/arguments.h"
#include "bindings/checks.h"
#include "engine/forward.h"
#include "bindings/gil.h"

namespace glasscell {
namespace {

// Everything that a step needs, made once. A step checks the array it is given, computes, and allocates nothing.
template <class T> class Stream {
  public:
    // h, c: (B, H), the state, updated in place. y: what `step` returns, an array of the caller's over the memory of h.
    // y_row: what `step` returns for an input of one row, (I,).
    Stream(nb::object packed, Out<T> h, Out<T> c, nb::object y, nb::object y_row, nb::list option_codes)
        : packed_(std::move(packed)), y_(std::move(y)), y_row_(std::move(y_row)) {
        const PackedWeights<T>* const weights = packed_weights<T>(packed_);
        if (!weights) throw nb::type_error("packed: expected what pack gave for weights of this dtype");
        if (h.ndim() != 2) throw std::invalid_argument("h: expected shape (B, H), got another rank");
        call_.B = int64_t(h.shape(0)), call_.time = 1, call_.I = weights->I, call_.H = weights->H, call_.time_block = {0, 1};
        const std::vector<int64_t> codes = numbers(option_codes);
        if (codes.size() != kOptionCodes) throw std::invalid_argument("option_codes: expected those of one direction");
        call_.options = options_of(codes.data());
        if (call_.options.go_backwards) throw std::invalid_argument("option_codes: a stream cannot go backwards");
        call_.hT = checked("h", h, {call_.B, call_.H}), call_.cT = checked("c", c, {call_.B, call_.H});
        call_.h0 = call_.hT, call_.c0 = call_.cT;
        call_.packed = weights->buffer.template as<T>();
        work_ = double(call_.B) * double(call_.H) * double(call_.I + call_.H);
        pass_ = std::make_unique<ForwardPass<T>>(call_);
        h_ = std::move(h), c_ = std::move(c);
    }

    // x: (B, I), or (I,) where B is 1, C-contiguous. Returns None for any other x: the caller says what is wrong with
    // it.
    nb::object step(nb::handle x) {
        In<T> array;
        if (!array.take(x.ptr())) return nb::none();
        const size_t rank = array.ndim();
        const bool row = rank == 1 && call_.B == 1 && array.shape(0) == call_.I;
        const bool rows = rank == 2 && array.shape(0) == call_.B && array.shape(1) == call_.I;
        if (!row && !rows) return nb::none();
        if (busy_.exchange(true)) throw std::runtime_error("stream: another thread is in the middle of a step");
        call_.x = array.data();
        run();
        busy_.store(false);
        return row ? y_row_ : y_;
    }

  private:
    // Must not throw: `busy_` would stay set.
    void run() {
        if (call_.B == 0) return;
        if (work_ < kWorthReleasing) return pass_->run(call_);
        const WithoutGil released;
        pass_->run(call_);
    }

    ForwardCall<T> call_{};
    nb::object packed_;
    Out<T> h_, c_;
    nb::object y_, y_row_;
    std::unique_ptr<ForwardPass<T>> pass_;
    double work_;
    std::atomic<bool> busy_{false};
};

template <class T> void bind(nb::module_& m, const char* name) {
    nb::class_<Stream<T>>(m, name)
        .def(nb::init<nb::object, Out<T>, Out<T>, nb::object, nb::object, nb::list>(), nb::arg("packed"),
             nb::arg("h").noconvert(), nb::arg("c").noconvert(), nb::arg("y"), nb::arg("y_row").none(),
             nb::arg("option_codes"))
        .def("step", &Stream<T>::step, nb::arg("x").none());
}

}  // namespace

void bind_streams(nanobind::module_& m) {
    bind<float>(m, "StreamFloat");
    bind<double>(m, "StreamDouble");
}

}  // namespace glasscell
