"""The arrays that native code is given: nothing beyond them is touched, and they may stand at any address."""

import sys

import numpy as np
import pytest

from compare import assert_same_bits, assert_same_results
from drawn import draw, layer, unaligned
from fresh import HERE, run_python
from glasscell import Stream, _native
from native_call import SHAPES, backward, forward, native_arguments, two_directions


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
@pytest.mark.parametrize("target", _native.targets())
def test_nothing_beyond_an_array_is_touched(target):
    done = run_python(HERE / "guarded.py", GLASSCELL_TARGET=target)
    assert done.returncode == 0, done.stderr  # -11: a segmentation fault
    assert done.stdout.strip() == target


RESULTS = {forward: ("h", "c", "gates", "z", "cell_checkpoints", "hT", "cT"),
           backward: ("dx", "d_kernel", "d_recurrent_kernel", "d_bias", "d_h0", "d_c0")}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("call", SHAPES)
def test_native_functions_read_unaligned_arrays_and_write_none(call, dtype):
    good = native_arguments(SHAPES[call], dtype)
    call(good)
    expected = {name: good[name].copy() for name in RESULTS[call]}
    for off in (1, 2, np.dtype(dtype).itemsize // 2):
        odd = {n: unaligned(a, off) for n, a in good.items() if n not in RESULTS[call] and a.dtype == dtype}
        assert not any(array.flags.aligned for array in odd.values())
        call({**good, **odd})
        assert_same_results({name: good[name] for name in expected}, expected)
        for name in RESULTS[call]:
            with pytest.raises(TypeError):
                call({**good, name: unaligned(good[name], off)})


@pytest.mark.parametrize("transposed_weights", [False, True])
def test_directions_read_unaligned_arrays(transposed_weights):
    call = two_directions((3, 5, 7, 9), transposed_weights=transposed_weights)
    assert_same_results(call(unaligned), call())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_streams_and_layers_read_unaligned_arrays(dtype):
    rnn, x = layer(7, 9, dtype, engine="native"), draw(1, 4, 7, dtype=dtype)
    expected = rnn(x)
    assert_same_bits(rnn(unaligned(x)), expected)
    stream, format = Stream(rnn), "f" if dtype == np.float32 else "d"
    for t in range(4):
        row = x[0, t]
        odd = memoryview(bytearray(b"." + row.tobytes()))[1:].cast(format)
        assert_same_bits(stream.step((row, unaligned(row), odd, unaligned(x[:, t]))[t]).reshape(-1), expected[0, t])


def test_torch_reads_unaligned_tensors():
    torch = pytest.importorskip("torch")
    import glasscell.torch

    lstm, x = glasscell.torch.LSTM(7, 9, bidirectional=True), torch.randn(5, 3, 7)
    odd = torch.frombuffer(bytearray(b"." + x.numpy().tobytes()), dtype=torch.float32, offset=1).reshape(x.shape)
    assert odd.data_ptr() % 4
    results = []
    for given in (x, odd):
        y, _ = lstm(given)
        results.append([y, torch.autograd.grad(y.sum(), list(lstm.parameters()))])
    assert_same_results(*results)
