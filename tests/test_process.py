"""The engine as a guest in its process: threads, their number, affinity, fork, other libraries' threads."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cases import make_case, run
from compare import assert_same_bits
from fresh import HERE, run_python
from glasscell import LSTM, _native

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def threads():
    """Sets the number of threads, and sets it back in the end."""
    before = _native.num_threads()
    yield _native.set_num_threads
    _native.set_num_threads(before)


def multiplications(case):
    B, T, I = case.x.shape
    H = len(case.weights.recurrent_kernel)
    return 4 * B * T * H * (I + H)


LARGE = [seed for seed in range(200) if multiplications(make_case(seed)) > 3e6][:8]  # work for several threads


def assert_same_results(got, expected, case):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert_same_bits(got[name], value, f"{name} of {case}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", LARGE)
def test_any_number_of_threads_gives_the_same_bits(threads, seed, dtype):
    case, results = make_case(seed), []
    for n in (1, 2, 3, 7):
        threads(n)
        results.append(run(case, "native", dtype))
    for other in results[1:]:
        assert_same_results(other, results[0], case)


def test_calls_from_many_python_threads(threads):
    """The pool serves one call at a time; calls beside it run on their own threads, with the same bits."""
    threads(2)
    cases = [make_case(seed) for seed in LARGE[:4]]
    expected = [run(case, "native", np.float32) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda case: run(case, "native", np.float32), cases * 4))
    for got, wanted, case in zip(results, expected * 4, cases * 4, strict=True):
        assert_same_results(got, wanted, case)


def test_number_of_threads_from_the_environment():
    script = "import glasscell; print(glasscell.show_config()['threads'])"
    assert run_python("-c", script, GLASSCELL_NUM_THREADS="3").stdout.strip() == "3"
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert run_python("-c", script).stdout.strip() == str(processors)
    done = run_python("-c", script, GLASSCELL_NUM_THREADS="many")
    assert done.returncode != 0
    assert "GLASSCELL_NUM_THREADS: expected a positive integer, got 'many'" in done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_number_of_threads_from_the_affinity():
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import glasscell; print(glasscell.show_config()['threads'])"
    )
    assert run_python("-c", script).stdout.strip() == "1"


def test_after_fork():
    """A forked child has none of its parent's worker threads, and still computes."""
    script = f"""
import os
import numpy as np
from cases import make_case, run
from glasscell import _native
_native.set_num_threads(2)
case = make_case({LARGE[0]})
before = run(case, "native", np.float32)
child = os.fork()
after = run(case, "native", np.float32)
same = all(before[name].tobytes() == after[name].tobytes() for name in before)
if child == 0:
    os._exit(0 if same else 1)
assert same and os.waitpid(child, 0)[1] == 0
"""
    done = run_python("-c", script)
    assert done.returncode == 0, done.stderr


def threaded_call():
    """A call that has work for several threads."""
    layer = LSTM(64, return_sequences=True, engine="native").build(64, seed=0)
    return lambda: layer(np.ones((8, 50, 64), np.float32))


def workers():
    """The state, 'S' asleep, 'R' running, of each thread of the pool."""
    states = []
    for task in Path("/proc/self/task").iterdir():
        name, state = (task / "stat").read_text().split("(", 1)[1].rsplit(") ", 1)
        if name == "glasscell":
            states.append(state[0])
    return states


@linux
def test_idle_workers_sleep(threads):
    threads(3)
    call = threaded_call()
    for _ in range(5):
        call()
        time.sleep(0.05)
        assert len(workers()) >= 2
        assert set(workers()) == {"S"}


def test_others_are_not_slowed_by_an_idle_pool(threads):
    """PyTorch's threads right after a threaded call of ours, against before. Workers that spun on would take the
    processors away from them: six such workers on two processors make this loop twelve times slower."""
    torch = pytest.importorskip("torch")
    threads(7)
    call, matrix = threaded_call(), torch.ones(256, 256)

    def fastest(before):
        times = []
        for _ in range(5):
            before()
            start = time.perf_counter()
            for _ in range(200):
                matrix @ matrix
            times.append(time.perf_counter() - start)
        return min(times)

    alone = fastest(lambda: None)
    assert fastest(call) < 3 * alone


@pytest.fixture(scope="module")
def native_pool(tmp_path_factory):
    """tests/native_pool.cpp, compiled."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = tmp_path_factory.mktemp("native") / "pool"
    sources = [HERE / "native_pool.cpp", HERE.parent / "native" / "pool.cpp"]
    subprocess.run(
        [*compiler.split(), "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", *sources, "-o", program, "-pthread"],
        check=True,
    )
    return program


@linux
@pytest.mark.parametrize("check", ["tasks", "together", "no_threads"])
def test_pool(native_pool, check):
    done = subprocess.run([native_pool, check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@linux
def test_a_call_wakes_nobody_while_the_workers_are_awake(native_pool):
    """Two tasks that meet, call after call: under 1 us where the other thread still looks for work, 4 us and more where
    it must be woken each time. The best samples, for a busy machine takes the processors away now and then."""
    assert min(float(subprocess.check_output([native_pool, "cost"], timeout=60)) for _ in range(3)) < 3
