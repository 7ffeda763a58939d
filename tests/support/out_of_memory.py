"""Run as a script, with tests/support/failing_allocations.cpp in front: every allocation of a call fails in turn.

python out_of_memory.py CALL WHOSE: WHOSE is "ours", of the native module's own code, or "any", of the whole process.
"""

import ctypes
import sys
import time
from pathlib import Path

import numpy as np

import glasscell as gc
from glasscell import _native
from glasscell._ops import operands
from glasscell._ops.operands import Operands, flatten
from native_call import two_directions

_native.set_teams("always")  # whatever else runs on the machine
B, T, I, H = 2, 50, 16, 32  # work for two threads: in one direction by rows, in two each on a thread
rng = np.random.default_rng(0)
x = rng.standard_normal((B, T, I)).astype(np.float32)
dy = rng.standard_normal((B, T, H)).astype(np.float32)
mask, gates = rng.random((B, T)) < 0.9, [rng.random((4, B, n)).astype(np.float32) for n in (I, H)]

# Each makes a call. With a `scale` so small that products are subnormal numbers there is no bias to hide them.


def layer(scale=1.0, inputs=I, units=H, **options):
    made = gc.LSTM(units, return_sequences=True, engine="native", use_bias=scale == 1, **options)
    return made.build(inputs, seed=0)


def gradients(pullback, dy=dy):
    return [value for value in vars(pullback(dy)).values() if value is not None]


def forward(scale=1.0):
    rnn, inputs = layer(scale), [np.float32(s) * x for s in {1.0, scale}]
    return lambda: [rnn(x) for x in inputs]


def forward_without_packed_weights():
    rnn = layer()
    return lambda: [rnn(x, mask=mask, dropout_mask=gates[0], recurrent_dropout_mask=gates[1])]


def pack(scale=1.0):
    rnn, small = layer(scale), np.float32(scale) * x
    weights = rnn.cell.get_weights()

    def call():
        rnn.cell.set_weights(weights)
        return [rnn(small)]

    return call


def vjp(scale=1.0, recompute=False, activation="silu"):
    rnn, small = layer(scale, activation=activation), np.float32(scale) * dy
    return lambda: gradients(rnn.vjp(x, recompute=recompute)[1], small)


def vjp_from_checkpoints(scale=1.0):
    return vjp(scale, True, "tanh")


def vjp_with_masks():
    rnn = layer()
    masks = {"mask": mask, "dropout_mask": gates[0], "recurrent_dropout_mask": gates[1]}
    return lambda: gradients(rnn.vjp(x, **masks)[1])


def team(scale=1.0):
    wide, row = layer(scale, 512, 512), np.float32(scale) * rng.standard_normal((1, 3, 512)).astype(np.float32)

    def call():
        y, pullback = wide.vjp(row)
        found = pullback(y)
        return [y, found.x, found.kernel]

    return call


def both(scale=1.0, transposed_weights=False):
    return two_directions((B, T, I, H), np.float32, int(scale == 1), transposed_weights, scale, flags=scale == 1)


def both_transposed(scale=1.0):
    return both(scale, True)


def unaligned():
    cell, states = layer().cell, np.zeros((2, B, H), np.float32)
    own, codes = flatten([Operands(cell.options(), *cell.weights, *states)], np.empty(0, np.float32))
    odd = np.frombuffer(b"." + x.tobytes(), np.float32, offset=1).reshape(x.shape)
    return lambda: operands.forward(odd, np.empty(0, np.uint8), own, codes, True, False)[:3]


def stream(scale=1.0):
    rnn, small = layer(scale, units=512), np.float32(scale) * x
    rnn(small)

    def call():
        one = gc.Stream(rnn, B)
        return [one.step(small[:, t]).copy() for t in range(3)]

    return call


def torch():
    import torch

    import glasscell.torch

    torch.manual_seed(0)
    torch.set_num_threads(2)
    assert gc.show_config()["threads_of"] == "PyTorch (OpenMP)"
    stack = glasscell.torch.LSTM(I, H, 2, batch_first=True, bidirectional=True)
    inputs = torch.from_numpy(x)

    def call():
        y, _ = stack(inputs)
        stack.zero_grad()
        (y * y).sum().backward()
        return [y.detach().numpy(), *(p.grad.numpy().copy() for p in stack.parameters())]

    return call


def jax():
    import jax
    import jax.numpy as jnp

    from glasscell._ops import jax as jax_op

    own = [
        Operands(rnn.cell.options(back), *map(jnp.asarray, rnn.cell.weights), *jnp.zeros((2, B, H)))
        for rnn, back in ((layer(), False), (layer(), True))
    ]

    @jax.jit
    @jax.value_and_grad
    def loss(x):
        return sum((h * h).sum() for h, _, _ in jax_op.run(x, None, own, True, True))

    loss(x)

    def call():
        try:
            return [np.asarray(a) for a in jax.block_until_ready(loss(x))]
        except jax.errors.JaxRuntimeError as error:
            raise MemoryError if "RESOURCE_EXHAUSTED" in str(error) else error from error

    return call


def nanoseconds_of_others():
    """How long all threads but this one have run."""
    tasks = Path("/proc/self/task")
    own = str(ctypes.CDLL(None).gettid())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir() if task.name != own)


def runs_on_all_threads(call):
    """Now and then the caller has done all before the worker wakes. The system counts when a thread goes to sleep."""
    for _ in range(50):
        before = nanoseconds_of_others()
        call()
        time.sleep(0.003)
        if nanoseconds_of_others() - before > 50_000:
            return True
    return False


def ours():
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "/_native." in line]
    code = [line[0].split("-") for line in lines if "x" in line[1]]
    return min(int(begin, 16) for begin, _ in code), max(int(end, 16) for _, end in code)


def main(name, whose):
    preloaded = ctypes.CDLL(None)
    if whose == "ours":
        preloaded.count_those_of(*map(ctypes.c_size_t, ours()))
    _native.set_teams("always")  # not as the load of the machine has it
    gc.set_num_threads(1)
    call = globals()[name]()
    expected = [value.tobytes() for value in call()]
    gc.set_num_threads(2)
    assert runs_on_all_threads(call) or name == "pack"
    failures = 0
    for after in (0, 1):
        reached, n = True, 0
        while reached:
            n += 1
            result = None
            preloaded.begin_to_fail(ctypes.c_long(n), after)
            try:
                result = call()
            except MemoryError:
                pass
            finally:
                reached = preloaded.end_failing()
            failures += result is None
            assert result is not None or reached, "MemoryError, and no allocation failed"
            for got in (result, call()):
                assert got is None or [value.tobytes() for value in got] == expected, f"other bits after allocation {n}"
            if n % 8 == 0 or not reached:
                assert runs_on_all_threads(call) or name == "pack", f"one thread alone after allocation {n}"
    print(failures)


if __name__ == "__main__":
    main(*sys.argv[1:])
