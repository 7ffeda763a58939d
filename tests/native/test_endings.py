"""Ends of calls before their time: Ctrl-C, and threads that are inside one when Python exits."""

import signal
import subprocess
import time

import pytest
from test_process import BORROW

from fresh import run_python, running_python
from preload import program

LEFT = """
import os, sys, threading, time
import numpy as np
from glasscell import LSTM, Stream, _native, set_num_threads
which, count, threads = sys.argv[1], *map(int, sys.argv[2:])
set_num_threads(threads)
layer = LSTM(32, return_sequences=True, engine="native").build(32, seed=0)
x, rows = np.ones((4, 50, 32), np.float32), np.ones((64, 32), np.float32)

def call():
    (y, pullback), stream = layer.vjp(x), Stream(layer, 64)
    return {
        "forward": lambda: layer(x),
        "backward": lambda: pullback(y),
        "pack": lambda: _native.pack(*layer.cell.weights),
        "stream": lambda: stream.step(rows),
        "peak": lambda: _native.peak_flops(1),
    }[which]

def forever(call):
    call()
    begun.release()
    while True:
        call()

begun = threading.Semaphore(0)
for _ in range(count):
    threading.Thread(target=forever, args=[call()], daemon=True).start()
for _ in range(count):
    begun.acquire()
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("which", ["forward", "backward", "pack", "stream", "peak"])
def test_daemon_threads_inside_a_call_while_python_exits(which, threads):
    """The exit is that of the script: 0, or what it says."""
    for attempt in range(8):
        done = run_python("-c", f"{LEFT}sys.exit({attempt})", which, 1 + attempt % 3, threads)
        assert (done.returncode, done.stderr) == (attempt, "")


# PyTorch ends the process itself where a thread of Python's leaves one of its own operations meanwhile: here the thread
# is inside ours from before the exit until it takes the GIL back.
LEFT_IN_TORCH = """
import sys, threading, time, torch, glasscell.torch

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(3)

def leave():
    y = layer(x)[0].sum()
    begun.set()
    y.backward() if sys.argv[1] == "backward" else layer(x)
    ended.append(1)

layer, x, slow, ended = glasscell.torch.LSTM(256, 256), torch.ones(250, 64, 256), Slow(), []
begun = threading.Event()
threading.Thread(target=leave, daemon=True).start()
begun.wait()
time.sleep(0.05)
assert not ended
"""


@pytest.mark.parametrize("which", ["forward", "backward"])
def test_daemon_threads_inside_a_call_from_torch_while_python_exits(which):
    pytest.importorskip("torch")
    for _ in range(2):
        done = run_python("-c", LEFT_IN_TORCH, which)
        assert (done.returncode, done.stderr) == (0, "")


LONG_CALL = """
import signal, sys, time
import numpy as np
from glasscell import LSTM, set_num_threads

which, (threads, B, T, H) = sys.argv[1], map(int, sys.argv[2:])
set_num_threads(threads)
layer = LSTM(H, engine="native").build(1, seed=0)
x = np.ones((B, T, 1), np.float32)
expected = layer(x[:2, :3])
if which == "backward":
    y, call = layer.vjp(x)
elif which == "uneven":  # the thread that hears signals has next to nothing to do
    call, y = lambda x: layer(x, lengths=[1] * (B - 1) + [T]), x
else:
    call, y = layer, x
alarms = []
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it otherwise
signal.signal(signal.SIGUSR1, lambda *_: alarms.append(time.perf_counter()))
print("begin", flush=True)
try:
    call(y)
except KeyboardInterrupt:
    print(alarms[0], time.perf_counter(), flush=True)
    np.testing.assert_array_equal(layer(x[:2, :3]), expected)
    raise
"""


@pytest.mark.parametrize(
    ("which", "target", "sizes", "first"),
    [
        ("forward", None, (1, 16, 60_000, 512), ""),
        ("forward", None, (2, 64, 60_000, 512), ""),
        ("uneven", None, (2, 2, 500_000, 512), ""),
        ("uneven", None, (2, 2, 500_000, 512), BORROW),
        ("forward", "baseline", (2, 1000, 4, 768), ""),  # each step takes seconds
        ("backward", "baseline", (2, 8, 600, 256), ""),  # a slow target, so that few steps, and a small tape, take long
    ],
)
def test_ctrl_c_ends_a_long_call(which, target, sizes, first):
    """KeyboardInterrupt within a second, also inside a step; other handlers run meanwhile; the next call is right."""
    environment = {"GLASSCELL_TARGET": target} if target else {}
    with running_python("-c", first + LONG_CALL, which, *sizes, **environment) as child:
        assert child.stdout.readline() == "begin\n", child.stderr.read()
        sent = []
        for number in (signal.SIGUSR1, signal.SIGINT):
            time.sleep(0.2)
            sent.append(time.perf_counter())
            child.send_signal(number)
            time.sleep(0.5)
        out, err = child.communicate()
    heard = map(float, out.split())
    assert all(0 < h - s < 1 for h, s in zip(heard, sent, strict=True)), (out, sent, err)
    assert err.strip().endswith("KeyboardInterrupt"), err
    assert child.returncode == -signal.SIGINT


@pytest.mark.parametrize("transposed_weights", [0, 1])
@pytest.mark.parametrize(
    ("which", "sizes", "threads"),
    [
        ("forward", (300, 1, 8, 256), 1),
        ("forward", (300, 1, 8, 256), 2),
        ("forward", (2, 40, 4096, 64), 1),  # the inputs of some steps together
        ("backward", (300, 1, 8, 256), 1),
        ("backward", (300, 1, 8, 256), 2),
        ("backward", (300, 1, 2048, 32), 1),  # most of it products for x and the kernel
        ("weights", (20_000, 1, 256, 4), 1),  # one panel of many steps
        ("pack", (1, 1, 4096, 1024), 1),
        ("pack", (1, 1, 4096, 1024), 2),
    ],
)
def test_a_call_polls_within_a_step(which, sizes, threads, transposed_weights):
    """A call polls every four million multiply-adds of the thread that made it, a millisecond or so, and every four
    million numbers that are packed. Told to stop, it does nothing more."""
    engine = ("backward", "block_cache", "cpu_count", "dispatch", "forward", "partition", "team", "thread_pool")
    files = [*(f"engine/{name}.cpp" for name in engine), "kernel/target.cpp"]
    _, polls = program("cancellation.cpp", *files, options=("-DGLASSCELL_TARGET=baseline", "-O1"))
    command = [polls, which, threads, *sizes, transposed_weights]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    polled, polls_until_cancelled = map(int, done.stdout.split())
    B, T, I, H = sizes
    work = 4 * H * (I + H) * {"forward": B * T, "backward": 2 * B * T, "weights": B * T, "pack": 1}[which]
    assert polled >= work / 2**22 / threads / 2
    assert polled > 4 // threads
    assert polls_until_cancelled <= 12


def test_a_child_that_outlives_its_time_is_killed():
    deaf = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('begin', flush=True); time.sleep(99)"
    )
    start = time.perf_counter()
    with running_python("-c", deaf, seconds=2) as child:
        assert child.stdout.readline() == "begin\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == ""
    with pytest.raises(ValueError, match="left"), running_python("-c", deaf) as child:
        raise ValueError("left")
    assert child.returncode == -signal.SIGKILL
    assert time.perf_counter() - start < 60
