"""examples/long_memory.py runs, its gradients are right, and docs/gradient.md shows what it found."""

import json
from pathlib import Path

from fresh import output_of

ROOT = Path(__file__).parent.parent

# In a process of its own, for it makes JAX compute in float64. The gradients are compared with differences.
SCRIPT = """
import json, runpy, sys
import numpy as np

example, folder, kept = sys.argv[1:]
sys.argv = [example, "--quick", "--forget-bias", "spread", "--output", folder]
names = runpy.run_path(example, run_name="__main__")

rng = np.random.default_rng(0)
x, dh = rng.standard_normal((2, 6, 3)), rng.standard_normal((2, 8))
for net in (names["PlainRNN"](3, 8, rng), names["LSTM"](3, 8, rng, None, 6)):
    h, pullback = net.vjp(x)
    for weights, gradient in zip(net.weights, pullback(dh), strict=True):
        place = tuple(np.array(weights.shape) // 2)
        weights[place] += 1e-6
        more = (net(x) * dh).sum()
        weights[place] -= 2e-6
        np.testing.assert_allclose(gradient[place], (more - (net(x) * dh).sum()) / 2e-6, rtol=1e-6)
        weights[place] += 1e-6

net = names["PlainRNN"](3, 8, rng)
gradients = names["step_gradients_of_rnn"](net.weights, x, dh)
np.testing.assert_array_equal(gradients[-1], dh)
np.testing.assert_allclose(gradients[-2], (dh * (1 - net(x) ** 2)) @ net.weights[1].T, rtol=1e-12)
np.testing.assert_allclose(net.flow(x, dh)["h"], np.linalg.norm(gradients, axis=(1, 2)), rtol=1e-12)

runs = json.load(open(kept))["runs"]
print(json.dumps([row for rows in ("rows_of", "clipping_rows_of") for row in names[rows](runs)]))
"""


def test_the_example_runs_and_the_page_shows_its_numbers(tmp_path):
    kept = ROOT / "docs" / "long_memory" / "results.json"
    printed = output_of("-c", SCRIPT, ROOT / "examples" / "long_memory.py", tmp_path, kept)
    found = [run for run in json.loads((tmp_path / "results.json").read_text())["runs"] if run["clip"]]
    runs = {(run["task"], run["cell"], run["optimizer"]): run for run in found}
    assert runs["recall", "LSTM spread", "Adam"]["solved"]
    before = runs["adding", "plain RNN", "Adam"]["flow"]["before"]["h"]
    assert before[0] == 0 > before[-1]  # it vanishes
    for name in ("errors", "norms"):
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()

    page = (ROOT / "docs" / "gradient.md").read_text(encoding="utf-8")
    rows = json.loads(printed.splitlines()[-1])
    assert len(rows) == 14
    for row in rows:
        assert " | ".join(["", *row, ""]).strip() in page.splitlines()
