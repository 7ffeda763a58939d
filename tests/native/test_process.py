"""The engine as a guest in its process: threads, their number, affinity, fork, other libraries' threads."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cases import assert_same_on_threads, make_case, run
from compare import assert_same_results
from fresh import output_of, run_python
from glasscell import LSTM, _native, num_threads, set_num_threads
from preload import program

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def multiplications(case):
    B, T, I = case.x.shape
    H = len(case.weights.recurrent_kernel)
    return 4 * B * T * H * (I + H)


LARGE = [seed for seed in range(200) if multiplications(make_case(seed)) > 3e6][:8]  # work for several threads


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", LARGE)
def test_any_number_of_threads_gives_the_same_bits(seed, dtype):
    case = make_case(seed)
    assert_same_on_threads(lambda: run(case, "native", dtype), what=case)


ODD = np.array([0x7FC00123, 0xFFC00456, 0x7F800000, 0xFF800000, 0x7F7FFFFF], np.uint32).view(np.float32)


@pytest.mark.parametrize("where", ["x", "dy", "kernel", "recurrent_kernel"])
@pytest.mark.parametrize("seed", LARGE[1:4:2])
def test_nan_is_nan_with_any_number_of_threads(seed, where):
    """NaN of both signs, and made of infinities: in the same places, and the same bits elsewhere."""
    case, rng = make_case(seed), np.random.default_rng(seed)
    array = (getattr(case.weights, where) if where.endswith("kernel") else getattr(case, where)).copy()
    array.flat[rng.integers(0, array.size, 5)] = ODD
    if where.endswith("kernel"):
        case = dataclasses.replace(case, weights=case.weights._replace(**{where: array}))
    else:
        case = dataclasses.replace(case, **{where: array})
    results = assert_same_on_threads(lambda: run(case, "native", np.float32), (2, 3), case)
    assert np.isnan(results["d_kernel"]).any()


def test_calls_from_many_python_threads(threads):
    """The pool serves one call at a time; calls beside it run on their own threads, with the same bits."""
    threads(2)
    cases = [make_case(seed) for seed in LARGE[:4]]
    expected = [run(case, "native", np.float32) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda case: run(case, "native", np.float32), cases * 4))
    assert_same_results(results, expected * 4)


def test_number_of_threads_from_the_environment():
    script = "import glasscell; print(glasscell.show_config()['threads'])"
    assert output_of("-c", script, GLASSCELL_NUM_THREADS="3") == "3\n"
    done = run_python("-c", script, GLASSCELL_NUM_THREADS="many")
    assert done.returncode != 0
    assert "GLASSCELL_NUM_THREADS: expected a positive integer, got 'many'" in done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_number_of_threads_from_the_affinity():
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import glasscell; print(glasscell.show_config()['threads'])"
    )
    assert output_of("-c", script) == "1\n"


LIMITED = """
import os, subprocess, sys
folder = "/sys/fs/cgroup"
subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
os.makedirs(f"{folder}/cpu")
for pair in sys.argv[1:]:
    name, text = pair.split("=")
    with open(f"{folder}/{name}", "w") as file:
        file.write(text + "\\n")
import glasscell
print(glasscell.num_threads(), len(os.sched_getaffinity(0)))
"""


def may_mount():
    return shutil.which("unshare") and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs a mount namespace of its own")
@pytest.mark.parametrize(
    ("files", "granted"),
    [
        ({}, 4096),
        ({"cpu.max": "max 100000"}, 4096),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4096),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "50000"}, 1),
    ],
)
def test_number_of_threads_from_the_limits_of_a_container(files, granted):
    pairs = [f"{name}={text}" for name, text in files.items()]
    command = ["unshare", "-m", sys.executable, "-c", LIMITED, *pairs]
    environment = {name: value for name, value in os.environ.items() if name != "GLASSCELL_NUM_THREADS"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found, processors = map(int, done.stdout.split())
    assert found == min(processors, granted)


@pytest.mark.parametrize(
    ("threads", "error"),
    [*((n, ValueError) for n in (0, -1, 4097, 2**40)), *((n, TypeError) for n in (2.0, 1.5, "2", None))],
)
def test_bad_number_of_threads(threads, error):
    before = num_threads()
    with pytest.raises(error, match=rf"^threads: expected (an integer|1 to 4096), got {threads!r}$"):
        set_num_threads(threads)
    with pytest.raises((ValueError, TypeError)):
        _native.set_num_threads(threads)
    assert num_threads() == before


def test_number_of_threads_from_threadpoolctl():
    """threadpoolctl limits ours within its block, beside other libraries or alone, whichever is imported first."""
    script = """
import {0}
import {1}
import glasscell.threads
glasscell.threads.register_threadpoolctl()
glasscell.threads.register_threadpoolctl()
assert [i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "glasscell"] == [3]
with threadpoolctl.threadpool_limits(limits=1, user_api="glasscell"):
    assert glasscell.num_threads() == 1
assert glasscell.num_threads() == 3
with threadpoolctl.threadpool_limits(limits=2):
    assert glasscell.num_threads() == 2
with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
    assert glasscell.num_threads() == 3
glasscell.set_num_threads(5)
assert glasscell.num_threads() == 5 == glasscell.show_config()["threads"]
"""
    pytest.importorskip("threadpoolctl")
    for order in (("threadpoolctl", "glasscell"), ("glasscell", "threadpoolctl")):
        output_of("-c", script.format(*order), GLASSCELL_NUM_THREADS="3")
    script = script.replace("glasscell.threads.register_threadpoolctl()\n", "")
    output_of("-c", script.format("threadpoolctl", "glasscell"), GLASSCELL_NUM_THREADS="3")


# Native calls run on PyTorch's threads from here on.
BORROW = """
import torch, glasscell, glasscell.torch
torch.set_num_threads(2)
assert glasscell.show_config()["threads_of"] == "PyTorch (OpenMP)"
"""


@pytest.mark.parametrize("first", ["", BORROW], ids=["own", "borrowed"])
def test_after_fork(first):
    """A forked child has none of its parent's worker threads, and still computes."""
    script = f"""{first}
import glasscell, os
import numpy as np
from cases import make_case, run
glasscell.set_num_threads(2)
case = make_case({LARGE[0]})
before = run(case, "native", np.float32)
child = os.fork()
after = run(case, "native", np.float32)
same = all(before[name].tobytes() == after[name].tobytes() for name in before)
if child == 0:
    os._exit(0 if same else 1)
assert same and os.waitpid(child, 0)[1] == 0
"""
    output_of("-c", script)


@pytest.fixture
def own_pool():
    """Native calls on threads of the pool's own, whatever this process has imported."""
    _native.use_openmp_threads(0, 0, 0)
    yield
    if "glasscell.torch" in sys.modules:
        sys.modules["glasscell._ops.torch_threads"].use_openmp_threads()


def test_borrowed_threads_give_the_same_bits():
    """On PyTorch's threads: rows and teams, from many Python threads, and where torch has too few of them."""
    script = f"""{BORROW}
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from cases import make_case, run
layer = glasscell.LSTM(512, return_sequences=True, engine="native").build(512, seed=0)  # a team of two for one row
row = np.random.default_rng(0).standard_normal((1, 40, 512)).astype(np.float32)
both = lambda seed: [layer(row)] if seed is None else run(make_case(seed), "native", np.float32).values()
call = lambda seed: [np.asarray(array).tobytes() for array in both(seed)]
seeds = [None, {LARGE[0]}, {LARGE[1]}, {LARGE[2]}]
glasscell.set_num_threads(1)
expected = list(map(call, seeds))
for ours, theirs in ((2, 2), (2, 1), (2, 3), (5, 2)):
    torch.set_num_threads(theirs), glasscell.set_num_threads(ours)
    assert list(map(call, seeds)) == expected, (ours, theirs)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, seeds * 3)) == expected * 3
    torch.ones(1000, 1000) @ torch.ones(1000, 1000)
"""
    output_of("-c", script)


def threaded_call():
    """A call that has work for several threads."""
    layer = LSTM(64, return_sequences=True, engine="native").build(64, seed=0)
    return lambda: layer(np.ones((8, 50, 64), np.float32))


def workers():
    """The threads of the pool: for each its state, 'S' asleep, 'R' running, and its processor time in seconds."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        name, state = (task / "stat").read_text().split("(", 1)[1].rsplit(") ", 1)
        if name == "glasscell":
            found.append((state[0], int((task / "schedstat").read_text().split()[0]) / 1e9))
    return found


@linux
def test_idle_workers_sleep(threads, own_pool):
    threads(3)
    call = threaded_call()
    for _ in range(5):
        call()
        time.sleep(0.05)
        assert len(workers()) >= 2
        assert {state for state, _ in workers()} == {"S"}


@linux
def test_workers_leave_the_processors_to_others(threads, own_pool):
    """After a call a worker is awake for a millisecond. Longer, it would slow down the other threads of the process."""
    threads(3)
    call = threaded_call()
    call()
    time.sleep(0.05)
    before = [seconds for _, seconds in workers()]
    for _ in range(20):
        call()
        time.sleep(0.02)
    for then, (_, now) in zip(before, workers(), strict=True):
        assert now - then < 20 * 0.004  # the call itself takes it less than a millisecond


@linux
@pytest.mark.parametrize("check", ["tasks", "together", "no_threads", "errors", "openmp", "late", "sharing"])
def test_pool(check):
    _, pool = program("thread_pool.cpp", "engine/cpu_count.cpp", "engine/team.cpp", "engine/thread_pool.cpp")
    done = subprocess.run([pool, check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
