#include "stream.h"

#include <nanobind/stl/shared_ptr.h>

#include <atomic>
#include <memory>

#include "arrays.h"
#include "engine.h"

namespace glasscell {
namespace {

// Everything a step needs, made once: a step checks the array it is given, computes, and allocates nothing.
template <class T> class Stream {
  public:
    // h, c: (B, H), the state, kept up to date in place. y: what `step` returns, an array of the caller's over h; y_row:
    // the same for an input of one row, (I,).
    Stream(std::shared_ptr<Packed<T>> packed, Out<T> h, Out<T> c, nb::object y, nb::object y_row, int a, int s)
        : packed_(std::move(packed)), h_(h), c_(c), y_(std::move(y)), y_row_(std::move(y_row)) {
        if (h.ndim() != 2) throw std::invalid_argument("h: expected shape (B, H), got another rank");
        call_.B = int64_t(h.shape(0)), call_.time = 1, call_.I = packed_->I, call_.H = packed_->H, call_.span = {0, 1};
        call_.options = {activation("activation", a), activation("recurrent_activation", s), false};
        call_.hT = checked("h", h, {call_.B, call_.H}), call_.cT = checked("c", c, {call_.B, call_.H});
        call_.h0 = call_.hT, call_.c0 = call_.cT;
        call_.packed = packed_->block.template as<T>();
        work_ = double(call_.B) * double(call_.H) * double(call_.I + call_.H);
        pass_ = std::make_unique<ForwardPass<T>>(call_);
    }

    // x: (B, I), or (I,) where B is 1, C-contiguous. None for anything else: the caller says what is wrong with it.
    nb::object step(nb::handle x) {
        Py_buffer view;
        if (PyObject_GetBuffer(x.ptr(), &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0) {
            PyErr_Clear();
            return nb::none();
        }
        const bool row = view.ndim == 1 && call_.B == 1 && view.shape[0] == call_.I;
        const bool rows = view.ndim == 2 && view.shape[0] == call_.B && view.shape[1] == call_.I;
        const char* const format = view.format;
        const bool fits = (row || rows) && format && format[0] == (sizeof(T) == 4 ? 'f' : 'd') && !format[1];
        const bool free = fits && !busy_.exchange(true);
        if (free) {
            call_.x = static_cast<const T*>(view.buf);
            run();
            busy_.store(false);
        }
        PyBuffer_Release(&view);
        if (fits && !free) throw std::runtime_error("stream: another thread is in the middle of a step");
        return !fits ? nb::none() : row ? y_row_ : y_;
    }

  private:
    void run() {
        if (call_.B == 0) return;
        constexpr double kWorthReleasing = 50e3;  // multiply-adds; others wait no longer than some microseconds
        if (work_ < kWorthReleasing) return pass_->run(call_);
        nb::gil_scoped_release release;
        pass_->run(call_);
    }

    ForwardCall<T> call_{};
    std::shared_ptr<Packed<T>> packed_;
    Out<T> h_, c_;
    nb::object y_, y_row_;
    std::unique_ptr<ForwardPass<T>> pass_;
    double work_;
    std::atomic<bool> busy_{false};
};

template <class T> void bind(nb::module_& m, const char* name) {
    nb::class_<Stream<T>>(m, name)
        .def(nb::init<std::shared_ptr<Packed<T>>, Out<T>, Out<T>, nb::object, nb::object, int, int>(), nb::arg("packed"),
             nb::arg("h").noconvert(), nb::arg("c").noconvert(), nb::arg("y"), nb::arg("y_row").none(), nb::kw_only(),
             nb::arg("activation"), nb::arg("recurrent_activation"))
        .def("step", &Stream<T>::step, nb::arg("x").none());
}

}  // namespace

void bind_streams(nanobind::module_& m) {
    bind<float>(m, "StreamFloat");
    bind<double>(m, "StreamDouble");
}

}  // namespace glasscell
