"""The arrays that native code is given: nothing beyond them is touched, and they may stand at any address."""

import sys

import numpy as np
import pytest

from compare import assert_same_bits
from fresh import HERE, run_python
from glasscell import LSTM, Stream, _native
from glasscell._ops import operands
from glasscell._ops.operands import Operands, flatten
from native_call import SHAPES, backward, forward, native_arguments


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
@pytest.mark.parametrize("target", _native.targets())
def test_nothing_beyond_an_array_is_touched(target):
    done = run_python(HERE / "guarded.py", GLASSCELL_TARGET=target)
    assert done.returncode == 0, done.stderr  # -11: a segmentation fault
    assert done.stdout.strip() == target


def unaligned(array, off=1):
    """The same numbers `off` bytes further on than elements should start."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64 + off
    odd = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    odd[...] = array
    assert not odd.flags.aligned
    return odd


RESULTS = {forward: ("h", "c", "gates", "z", "cell_checkpoints", "hT", "cT"),
           backward: ("dx", "d_kernel", "d_recurrent_kernel", "d_bias", "d_h0", "d_c0")}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("call", SHAPES)
def test_native_functions_read_unaligned_arrays_and_write_none(call, dtype):
    good = native_arguments(SHAPES[call], dtype)
    call(good)
    expected = {name: good[name].copy() for name in RESULTS[call]}
    for off in (1, 2, np.dtype(dtype).itemsize // 2):
        inputs = {n: a for n, a in good.items() if n not in RESULTS[call] and a.dtype == dtype}
        call({**good, **{n: unaligned(a, off) for n, a in inputs.items()}})
        for name, value in expected.items():
            assert_same_bits(good[name], value, name)
        for name in RESULTS[call]:
            with pytest.raises(TypeError):
                call({**good, name: unaligned(good[name], off)})


@pytest.mark.parametrize("transposed_weights", [False, True])
def test_directions_read_unaligned_arrays(transposed_weights):
    rng = np.random.default_rng(0)
    B, T, I, H = 3, 5, 7, 9
    shapes = [(4 * H, I), (4 * H, H)] if transposed_weights else [(I, 4 * H), (H, 4 * H)]
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in (*shapes, (4 * H,), (B, H), (B, H))]
    x, dy, absent = (rng.standard_normal((B, T, n)).astype(np.float32) for n in (I, H, 0))
    absent = absent[0, 0]
    results = []
    for give in (lambda array: array, unaligned):
        options = LSTM(H).build(I).cell.options()
        own, codes = flatten([Operands(options, *map(give, arrays), transposed_weights=transposed_weights)], absent)
        kept = operands.forward(give(x), np.empty(0, np.uint8), own, codes, True, True)
        kept = [give(array) if array.size else array for array in kept]
        given = [absent, absent, give(dy)]
        results.append(kept + operands.backward(give(x), np.empty(0, np.uint8), own, codes, kept, given))
    for one, other in zip(*results, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_streams_and_layers_read_unaligned_arrays(dtype):
    rnn = LSTM(9, return_sequences=True, engine="native").build(7, seed=0, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((1, 4, 7)).astype(dtype)
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
        lstm.zero_grad()
        y, _ = lstm(given)
        y.sum().backward()
        results.append([y.detach(), *(p.grad.clone() for p in lstm.parameters())])
    for one, other in zip(*results, strict=True):
        assert_same_bits(one.numpy(), other.numpy())
