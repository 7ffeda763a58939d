"""Random lives of layers and streams, held against a fresh layer bit for bit, and against the float64 reference."""

import numpy as np
import pytest

from lives import Life

CASES, ACTIONS = 5, 40

DEEDS = [
    Life.call, Life.call, Life.differentiate, Life.pull, Life.pull, Life.trace, Life.set_weights, Life.copy,
    Life.keep_state, Life.step_of_a_cell, Life.threads, Life.begin_a_stream, Life.feed, Life.feed,
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk", range(12))
def test_lives(engine_name, chunk, dtype):
    for seed in range(chunk * CASES, (chunk + 1) * CASES):
        rng = np.random.default_rng([seed, np.dtype(dtype).itemsize])
        life = Life(rng, np.dtype(dtype), engine_name, *(int(n) for n in rng.integers(1, 9, 2)))
        life.start()
        done = []
        for _ in range(ACTIONS):
            deed = life.pick(DEEDS)
            done.append(deed.__name__)
            try:
                deed(life)
            except Exception as error:
                error.add_note(f"seed {seed}: {', '.join(done)}")
                raise
