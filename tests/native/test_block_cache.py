"""Large blocks of memory, kept from call to call: whose they are, how many there may be, and when they go back."""

import contextlib
import os
import pickle
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fresh import output_of, run_python
from glasscell import LSTM, _native

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
MB = 1 << 20


KEPT, SOON, AT_ONCE = (
    2000,
    400,
    20,
)  # milliseconds for which idle blocks stay; a busy machine stops a test for some tens


@pytest.fixture
def cache():
    """Sets the limit in megabytes and the milliseconds for which idle blocks stay; sets both back in the end."""
    yield lambda limit, idle: _native.set_block_cache(limit * MB, idle)
    _native.set_block_cache(512 * MB, KEPT)


def timers():
    """How many threads wait to give blocks back: one that is new has no name yet."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            names.append((task / "comm").read_text())
    return names.count("glasscell-idle\n")


def wait_until_empty():
    """Waits until all blocks have gone back, and the thread that did it too."""
    for _ in range(500):
        if not _native.block_cache_bytes() and not timers():
            return
        time.sleep(0.01)
    raise AssertionError(f"{_native.block_cache_bytes()} bytes are still kept, and {timers()} threads live for it")


def block(megabytes=4):
    return np.frombuffer(_native.AlignedBuffer(megabytes * MB), np.uint8)


def written(blocks):
    """How many blocks hold what `mark` has written: the system gives cleared memory."""
    return sum(bool(b.all()) for b in blocks)


def mark(*megabytes):
    blocks = [block(m) for m in megabytes]
    for one in blocks:
        one[:] = 1


STOPS = """
import resource, sys, time
import numpy as np
import test_block_cache as own
from glasscell import LSTM, _native

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def numpy_calls():
    layer = LSTM(256, return_sequences=True, engine="native").build(256, seed=0)
    def call(x):
        y, pullback = layer.vjp(x)
        return pullback(y)
    return call, lambda B: np.ones((B, 100, 256), np.float32)

def torch_calls():
    import torch, glasscell.torch
    layer = glasscell.torch.LSTM(256, 256, batch_first=True)
    def call(x):
        layer.zero_grad()
        layer(x)[0].backward(x)
        layer.zero_grad()
    return call, lambda B: torch.ones(B, 100, 256)

_native.set_block_cache(512 << 20, own.SOON)
call, rows = globals()[sys.argv[1]]()
for B in (1, 2):
    call(rows(B))
x = rows(32)
own.wait_until_empty()
before = resident()
for _ in range(3):
    call(x)
kept = resident() - before
own.wait_until_empty()
print(kept, resident() - before)
"""


@pytest.mark.parametrize("calls", ["numpy_calls", "torch_calls"])
def test_a_process_that_stops_calling_keeps_no_more_than_it_had(calls):
    if calls == "torch_calls":
        pytest.importorskip("torch")
    kept, left = map(int, output_of("-c", STOPS, calls).split())
    assert kept > 16 * MB  # the tape alone has 20
    assert left < kept / 4  # small arrays, stacks of threads, and what the framework keeps


def test_blocks_are_kept_within_the_limit(cache):
    cache(64, KEPT)
    mark(4, 4, 4)
    blocks = [block() for _ in range(3)]
    assert written(blocks) == 3
    del blocks
    cache(9, KEPT)  # forgets all
    mark(4, 4, 4)
    blocks = [block() for _ in range(4)]
    assert written(blocks) == 2
    del blocks
    mark(4, 4)
    assert written([block(3)]) == 0  # a small array does not hold a large block
    assert written([np.frombuffer(_native.AlignedBuffer(4 * MB - 9), np.uint8)]) == 1  # one of nearly its size may
    mark(10)
    assert written([block(10)]) == 0  # more than the limit
    cache(0, AT_ONCE)
    mark(4)
    wait_until_empty()


def test_no_more_is_kept_than_was_in_use(cache):
    cache(64, AT_ONCE)
    wait_until_empty()
    cache(64, KEPT)
    for megabytes in (8, 10, 12, 14, 16):  # one after another
        mark(megabytes)
    blocks = [block(m) for m in (8, 10, 12, 14, 16)]
    assert written(blocks) == 1


def test_idle_blocks_go_back_though_others_are_used(cache):
    cache(64, SOON)
    wait_until_empty()  # the thread of an earlier test sleeps for longer
    mark(8)
    until = time.monotonic() + 3 * SOON / 1000
    while time.monotonic() < until:
        mark(2)
    assert _native.block_cache_bytes() == 2 * MB
    assert written([block(2)]) == 1
    assert written([block(8)]) == 0
    wait_until_empty()
    assert written([block(2)]) == 0


VIEWS = {
    "slice": lambda y: y[1:],
    "bytes": lambda y: y.reshape(-1).view(np.uint8),
    "memoryview": memoryview,
    "pickle": lambda y: pickle.loads(pickle.dumps(y)),
    "torch": lambda y: pytest.importorskip("torch").from_numpy(y)[:, 1],
    "torch.dlpack": lambda y: pytest.importorskip("torch").from_dlpack(y),
    "jax": lambda y: pytest.importorskip("jax").numpy.asarray(y),
    "jax.dlpack": lambda y: pytest.importorskip("jax").numpy.from_dlpack(y),
}


@pytest.mark.parametrize("name", VIEWS)
def test_nobody_gets_what_somebody_holds(name):
    """Each view of an output keeps its memory, while later calls are given what nobody holds."""
    layer = LSTM(128, return_sequences=True, engine="native").build(4, seed=0)
    x = np.random.default_rng(0).standard_normal((8, 400, 4)).astype(np.float32)
    y = layer(x)
    assert y.nbytes > _native.LARGE_BLOCK
    view = VIEWS[name](y)
    expected = np.asarray(view).copy()
    del y
    for _ in range(3):
        layer(-x)
    np.testing.assert_array_equal(np.asarray(view), expected)


def test_threads_share_blocks(cache):
    cache(64, AT_ONCE)

    def use(n):
        for k in range(100):
            one = block(1 + (n + k) % 3)
            one[::4096] = n
            assert (one[::4096] == n).all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    wait_until_empty()


FORKS = """
import os
import test_block_cache as own
from glasscell import _native

held = own.block()
held[:] = 7
own.mark(4, 4)
child = os.fork()
blocks = [own.block(), own.block()]
if child == 0:
    fresh = own.written(blocks) == 0 and own.timers() == 0  # the parent's thread and blocks are the parent's
    _native.set_block_cache(64 << 20, 1000)
    del blocks
    works = _native.block_cache_bytes() == 8 << 20
    own.wait_until_empty()
    os._exit(0 if fresh and works and (held == 7).all() else 1)
assert own.written(blocks) == 2
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_starts_without_blocks():
    output_of("-c", FORKS)


LIMITED = """
import resource
import test_block_cache as own

own.mark(40)
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), -1))
own.block(30)
try:
    own.block(200)
except MemoryError:
    print("refused")
"""


def test_memory_runs_out_only_without_blocks():
    assert output_of("-c", LIMITED) == "refused\n"


@pytest.mark.parametrize("text", ["much", "-1", "1.5", "99999999999999999999"])
def test_bad_limit(text):
    done = run_python("-c", "import glasscell", GLASSCELL_BLOCK_CACHE_MB=text)
    assert done.returncode != 0
    assert f"GLASSCELL_BLOCK_CACHE_MB: expected a number of megabytes, 0 for none, got '{text}'" in done.stderr


def test_limit_from_the_environment():
    script = "import glasscell; print(glasscell.show_config()['block_cache_mb'])"
    for given, limit in ((None, "512"), ("", "512"), ("0", "0"), ("96", "96")):
        environment = {} if given is None else {"GLASSCELL_BLOCK_CACHE_MB": given}
        assert output_of("-c", script, **environment) == f"{limit}\n"
    assert os.environ.get("GLASSCELL_BLOCK_CACHE_MB") is None  # the tests above count on the default
