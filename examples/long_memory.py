"""How far back can a recurrent network learn? A plain RNN and an LSTM on two tasks that need a long memory.

    adding   random numbers, two of them marked: say the sum of the marked ones (Hochreiter & Schmidhuber 1997, in the
             form of Le, Jaitly & Hinton 2015). The first mark is in the first half, the second in the second half
    recall   the first step shows one of eight symbols, all others noise: name the symbol after the last step

Each is learned at several lengths T and from several seeds, in float64:

    plain RNN  h' = tanh(x W + h R + b), R orthogonal at first, differentiated by JAX; with gradient descent with
               momentum and with Adam, of which the better one counts, seed by seed
    LSTM       glasscell.LSTM, with half the units and so as many recurrent weights; with Adam at one learning rate. Its
               forget biases begin at 0, at 1, or "spread": log u for u from 1 to T - 1, and the negative of it for the
               input gate (Tallec & Ollivier 2018)

At the shortest length the plain RNN and the LSTM with spread biases are trained once more, without clipping.

It prints two tables and writes results.json, with every run, and two figures: how the norm of the gradient changes over
the steps, before and after training, and the errors by update. Every run has one thread, and the same numbers whatever
else runs. All of it takes ten to twenty minutes on two cores.

    pip install ".[examples]"
    python examples/long_memory.py
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")  # read when JAX starts

try:
    import jax
    import numpy as np
    from jax import numpy as jnp
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    import glasscell as gc
    from glasscell.insight import gradient_flow
except ImportError as error:
    sys.exit(f"{error}; all that this example needs: pip install '.[examples]'")

jax.config.update("jax_enable_x64", True)  # a gradient that vanishes over 400 steps is below what float32 can hold
SYMBOLS = 8
EVERY = 100  # updates between two tests
STRIDE = 3  # steps between two norms that are kept
COLOURS = {"plain RNN": "#d1495b", "LSTM 0": "#9aa5b1", "LSTM 1": "#1768ac", "LSTM spread": "#2a8c5a"}
DASHES = {"plain RNN": "--", "LSTM 0": ":", "LSTM 1": "-", "LSTM spread": "-."}


# The tasks: a batch of them, the loss with its gradient, and the error that counts.


def adding(rng, B, T):
    """x: (B, T, 2), numbers from 0 to 1 and marks; y: (B, 1), the sum of the two marked numbers."""
    x, rows = np.zeros((B, T, 2)), np.arange(B)
    x[..., 0] = rng.random((B, T))
    x[rows, rng.integers(T // 2, size=B), 1] = 1
    x[rows, rng.integers(T // 2, T, size=B), 1] = 1
    return x, (x[..., 0] * x[..., 1]).sum(1, keepdims=True)


def squared(z, y):
    """The mean squared error, and its gradient."""
    return ((z - y) ** 2).mean(), 2 * (z - y) / z.size


def recall(rng, B, T):
    """x: (B, T, SYMBOLS + 1), the symbol at the first step and noise at the others; y: (B,), the symbol."""
    x, y = np.zeros((B, T, SYMBOLS + 1)), rng.integers(SYMBOLS, size=B)
    x[:, 1:, SYMBOLS] = rng.standard_normal((B, T - 1))
    x[np.arange(B), 0, y] = 1
    return x, y


def cross_entropy(z, y):
    """The mean cross-entropy of the softmax of z, and its gradient."""
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    right = y[:, None] == np.arange(z.shape[1])
    return -np.log(p[right]).mean(), (p - right) / len(z)


class Task(NamedTuple):
    inputs: int
    outputs: int
    draw: object
    loss: object
    error: object
    solved: float  # an error below it
    guess: float  # the error of the best constant answer
    unit: str


TASKS = {
    "adding": Task(2, 1, adding, squared, lambda z, y: squared(z, y)[0], 0.01, 1 / 6, "mean squared error"),
    "recall": Task(
        SYMBOLS + 1, SYMBOLS, recall, cross_entropy, lambda z, y: (z.argmax(1) != y).mean(),
        0.01, 1 - 1 / SYMBOLS, "share of wrong symbols",
    ),
}  # fmt: skip


# The networks: their weights, h of the last step with its pullback, and the gradient of every step.


def rnn(weights, x, shifts=None):
    """h of the last step, (B, H), of a plain RNN. shifts: (T, B, H) are added to h, and so have its gradients."""
    W, R, b = weights

    def step(h, inputs):
        x_t, shift = inputs
        return jnp.tanh(x_t @ W + h @ R + b) + shift, None

    shifts = jnp.zeros(x.shape[1]) if shifts is None else shifts
    return jax.lax.scan(step, jnp.zeros((len(x), len(R))), (x.swapaxes(0, 1), shifts))[0]


last_of_rnn = jax.jit(rnn)


@jax.jit
def weight_gradients_of_rnn(weights, x, dh):
    return jax.vjp(lambda w: rnn(w, x), weights)[1](dh)[0]


@jax.jit
def step_gradients_of_rnn(weights, x, dh):
    """dL/dh_t of all steps, (T, B, H), of a loss with the gradient dh of the last h."""
    return jax.vjp(lambda s: rnn(weights, x, s), jnp.zeros((x.shape[1], *dh.shape)))[1](dh)[0]


class PlainRNN:
    """h' = tanh(x W + h R + b); W glorot_uniform and R orthogonal at first, as Keras's SimpleRNN."""

    def __init__(self, inputs, units, rng):
        q, r = np.linalg.qr(rng.standard_normal((units, units)))
        self.weights = [glorot(rng, inputs, units), q * np.sign(np.diag(r)), np.zeros(units)]

    def __call__(self, x):
        return np.asarray(last_of_rnn(self.weights, x))

    def vjp(self, x):
        return self(x), lambda dh: [np.asarray(g) for g in weight_gradients_of_rnn(self.weights, x, dh)]

    def flow(self, x, dh):
        """The norms of dL/dh_t, (T,), over rows and units."""
        return {"h": np.linalg.norm(step_gradients_of_rnn(self.weights, x, dh), axis=(1, 2))}


class LSTM:
    """glasscell.LSTM; forget_bias: a number, or None to spread it for sequences of T steps."""

    def __init__(self, inputs, units, rng, forget_bias, T):
        self.layer = gc.LSTM(units, dtype="float64").build(inputs, seed=int(rng.integers(2**31)))
        self.weights = self.layer.get_weights()
        i, f = (self.weights[2][k * units : (k + 1) * units] for k in (0, 1))
        f[:] = np.log(rng.uniform(1, T - 1, units)) if forget_bias is None else forget_bias
        i[:] = -f if forget_bias is None else 0

    def __call__(self, x):
        self.layer.set_weights(self.weights)
        return self.layer(x)

    def vjp(self, x):
        self.layer.set_weights(self.weights)
        h, pullback = self.layer.vjp(x)

        def gradients(dh):
            found = pullback(dh)
            return [found.kernel, found.recurrent_kernel, found.bias]

        return h, gradients

    def flow(self, x, dh):
        """The norms of dL/dh_t, dL/dc_t and the carousel, (T,) each, over rows and units."""
        self.layer.set_weights(self.weights)
        found = gradient_flow(self.layer, x, dh)
        return {name: found.in_all(name) for name in ("h", "c", "carousel")}


def glorot(rng, inputs, outputs):
    bound = np.sqrt(6 / (inputs + outputs))
    return rng.uniform(-bound, bound, (inputs, outputs))


# Training.


class Adam:
    def __init__(self, rate):
        self.rate, self.moments, self.updates = rate, None, 0

    def step(self, weights, gradients):
        """Changes the weights in place."""
        self.moments, self.updates = self.moments or [(0 * w, 0 * w) for w in weights], self.updates + 1
        scale = self.rate * np.sqrt(1 - 0.999**self.updates) / (1 - 0.9**self.updates)
        for w, g, (mean, square) in zip(weights, gradients, self.moments, strict=True):
            mean += 0.1 * (g - mean)
            square += 0.001 * (g * g - square)
            w -= scale * mean / (np.sqrt(square) + 1e-7)


class Momentum:
    def __init__(self, rate):
        self.rate, self.velocities = rate, None

    def step(self, weights, gradients):
        """Changes the weights in place."""
        self.velocities = self.velocities or [0 * w for w in weights]
        for w, g, velocity in zip(weights, gradients, self.velocities, strict=True):
            velocity *= 0.9
            velocity += g
            w -= self.rate * velocity


OPTIMIZERS = {"Adam": Adam, "momentum": Momentum}


class Job(NamedTuple):
    """One run: everything that its numbers depend on."""

    task: str
    cell: str
    T: int
    seed: int
    optimizer: str
    rate: float
    clip: float  # the largest norm of a gradient; 0 for any
    updates: int
    batch: int
    units: int  # of the LSTM; the plain RNN has twice as many
    flow: bool  # whether the gradients of every step are measured


def network(job, rng):
    inputs = TASKS[job.task].inputs
    if job.cell == "plain RNN":
        return PlainRNN(inputs, 2 * job.units, rng)
    bias = job.cell.removeprefix("LSTM ")
    return LSTM(inputs, job.units, rng, None if bias == "spread" else float(bias), job.T)


def train(job):
    """Trains one network until its error on 500 held-out sequences is that of a solved task, or the updates are over.

    Returns the job, by name, with `solved`, the `updates` made, the `best` error, the `largest_norm` of a gradient,
    the `curve` of the errors, and with `flow` the norms of the gradients before and after, see `flow_of`.
    """
    gc.set_num_threads(1)
    task, rng = TASKS[job.task], np.random.default_rng([job.seed, job.T])
    net = network(job, rng)
    V, d = glorot(rng, len(net.weights[1]), task.outputs), np.zeros(task.outputs)
    weights, optimizer = [*net.weights, V, d], OPTIMIZERS[job.optimizer](job.rate)
    x_test, y_test = task.draw(np.random.default_rng(2**32), 500, job.T)
    curve, norms, flow = [], [], {}
    if job.flow:
        flow["before"] = flow_of(net, x_test, V)
    while len(norms) < job.updates and not (curve and curve[-1] < task.solved):
        x, y = task.draw(rng, job.batch, job.T)
        h, pullback = net.vjp(x)
        _, dz = task.loss(h @ V + d, y)
        gradients = [*pullback(dz @ V.T), h.T @ dz, dz.sum(0)]
        norms.append(np.sqrt(sum((g * g).sum() for g in gradients)))
        factor = min(1, job.clip / norms[-1]) if job.clip else 1
        optimizer.step(weights, [factor * g for g in gradients])
        if len(norms) % EVERY == 0:
            curve.append(float(task.error(net(x_test) @ V + d, y_test)))
    if job.flow:
        flow["after"] = flow_of(net, x_test, V)
    found = {"solved": curve[-1] < task.solved, "best": min(curve), "largest_norm": max(norms)}
    rounded = {name: float(f"{value:.3g}") for name, value in found.items() if name != "solved"}
    done = {"updates": len(norms), "solved": bool(found["solved"]), **rounded}
    return {**job._asdict(), **done, "curve": [float(f"{e:.3g}") for e in curve], "flow": flow}


def flow_of(net, x, V):
    """The norms of the gradients of a loss, the first output of the head, by name of the state.

    As powers of ten of the norm at the last step, from there back, for every STRIDE-th step.
    """
    norms = net.flow(x, np.repeat(V[:, :1].T, len(x), 0))
    with np.errstate(divide="ignore"):
        return {name: np.log10(n[::-STRIDE] / n[-1]).clip(-300).round(1).tolist() for name, n in norms.items()}


def jobs_of(options):
    """All runs: of every task, cell, length and seed, and those without clipping to compare with."""
    cells = ["plain RNN", *(f"LSTM {bias}" for bias in options.forget_bias)]
    measured = 100 if 100 in options.lengths else options.lengths[-1]
    jobs = [
        Job(
            task, cell, T, seed, optimizer, rate, options.clip, options.updates, options.batch, options.units,
            flow=(task, T) == ("adding", measured),
        )
        for task, cell, T in product(options.tasks, cells, options.lengths)
        for optimizer, rate in recipes(cell)
        for seed in range(options.seeds)
    ]  # fmt: skip
    if not options.clip:
        return jobs
    compared = [job for job in jobs if (job.T, job.cell) in product(options.lengths[:1], ("plain RNN", "LSTM spread"))]
    return jobs + [job._replace(clip=0.0, flow=False) for job in compared]


def recipes(cell):
    """The optimizers that a cell is trained with, and their learning rates."""
    return [("momentum", 0.01), ("Adam", 0.001)] if cell == "plain RNN" else [("Adam", 0.01)]


def run_all(jobs, processes, console):
    """The results of all jobs, in their order, in so many processes, the longest first.

    With a bar of progress on a terminal, and a line for each tenth of the way elsewhere.
    """
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    order = sorted(range(len(jobs)), key=lambda k: -jobs[k].T)
    results = [None] * len(jobs)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("compiling", total=len(jobs))
        for done, (k, result) in enumerate(results_of(jobs, order, processes), 1):
            results[k] = result
            last = f"{jobs[k].task}, {jobs[k].cell}, T = {jobs[k].T}, {result['updates']} updates"
            progress.update(bar, completed=done, description=last)
            if progress.disable and done * 10 // len(jobs) > (done - 1) * 10 // len(jobs):
                console.print(f"{done} of {len(jobs)} runs: {last}", highlight=False)
    return results


def results_of(jobs, order, processes):
    """Yields the number of a job and its result, as they come."""
    if processes == 1:
        yield from ((k, train(jobs[k])) for k in order)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(train, jobs[k]): k for k in order}
        yield from ((futures[done], done.result()) for done in as_completed(futures))


# What was found: a table and three figures, from results.json alone.


def chosen(runs):
    """One run for each task, cell, length and seed: of those with two optimizers the better one."""
    best, clip = {}, max(run["clip"] for run in runs)  # those without are to compare with
    for run in runs:
        key = run["task"], run["cell"], run["T"], run["seed"]
        if run["clip"] == clip and (key not in best or rank(run) < rank(best[key])):
            best[key] = run
    return best


def rank(run):
    return (not run["solved"], run["updates"] if run["solved"] else run["best"])


def entry(runs):
    """A cell of the table: how many of the runs solved the task, after how many updates, or the best error."""
    solved = sorted(run["updates"] for run in runs if run["solved"])
    failed = sorted(run["best"] for run in runs if not run["solved"])
    words = [" ".join(map(str, solved))] if solved else []
    words += ["best error " + " ".join(f"{e:.2g}" for e in failed)] if failed else []
    return f"{len(solved)} of {len(runs)}: {'; '.join(words)}"


def rows_of(runs):
    """The rows of the table: the task and the cell, and an entry for each length."""
    best = chosen(runs)
    lengths = sorted({T for _, _, T, _ in best})
    for task, cell in dict.fromkeys((task, cell) for task, cell, *_ in best):
        by_length = [[run for key, run in best.items() if key[:3] == (task, cell, T)] for T in lengths]
        yield task, cell, *(entry(found) if found else "" for found in by_length)


def clipping_rows_of(runs):
    """The rows of the second table: task, cell and optimizer, and an entry with and one without clipping."""
    shortest, names = min(run["T"] for run in runs), ("task", "cell", "optimizer")
    found = {}
    for run in (run for run in runs if run["T"] == shortest):
        found.setdefault(tuple(run[name] for name in names), {}).setdefault(run["clip"] > 0, []).append(run)
    for key, by_clip in found.items():
        if len(by_clip) == 2:
            yield *key, entry(by_clip[True]), entry(by_clip[False])


def print_tables(runs, console):
    lengths = sorted({run["T"] for run in runs})
    for head, rows in (
        (("task", "cell", *(f"T = {T}" for T in lengths)), list(rows_of(runs))),
        (("task", "cell", "optimizer", f"T = {lengths[0]}, clipped", "not clipped"), list(clipping_rows_of(runs))),
    ):
        table = Table(*head, title="seeds that solved the task: after so many updates")
        for row in rows:
            table.add_row(*row)
        if rows:
            console.print(table)


def draw_errors(runs):
    """Held-out errors by update: a row for each task, a column for each length, a line for each seed."""
    best = chosen(runs)
    tasks, lengths = (list(dict.fromkeys(key[k] for key in best)) for k in (0, 2))
    figure = Figure(figsize=(10, 2.6 * len(tasks) + 0.5), layout="constrained")
    axes = figure.subplots(len(tasks), len(lengths), sharex=True, sharey="row", squeeze=False)
    for (task, _, T, _), run in best.items():
        panel = axes[tasks.index(task), lengths.index(T)]
        plot_curve(panel, run)
    for task, row in zip(tasks, axes, strict=True):
        row[0].set(ylabel=f"{task}: {TASKS[task].unit}", ylim=(0, 1.5 * TASKS[task].guess))
        for T, panel in zip(lengths, row, strict=True):
            panel.axhline(TASKS[task].guess, color="#dfe3e8", zorder=0)
            panel.set_title(f"T = {T}", fontsize=10)
    for panel in axes[-1]:
        panel.set_xlabel("updates")
    legend(figure, axes)
    return figure


def draw_norms(runs):
    """How the norm of the gradient changes from the last step back: before and after training, a line for each seed."""
    runs = [run for run in chosen(runs).values() if run["flow"]]
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for (row, name), (column, stage) in product(enumerate("hc"), enumerate(("before", "after"))):
        panel = axes[row, column]
        for run in runs:
            norms = run["flow"][stage].get(name) or run["flow"][stage]["h"]
            plot(panel, run["cell"], STRIDE * np.arange(len(norms)), norms)
        panel.set_title(f"{stage} training, {'h' if name == 'h' else 'c (of the plain RNN: h)'}", fontsize=10)
        panel.axhline(0, color="#dfe3e8", zorder=0)
    for panel in axes[:, 0]:
        panel.set_ylabel("powers of ten, the last step is 0")
    for panel in axes[-1]:
        panel.set_xlabel("steps before the last")
    legend(figure, axes)
    return figure


def plot(panel, cell, x, y):
    panel.plot(x, y, DASHES[cell], color=COLOURS[cell], linewidth=1.3, label=cell)


def plot_curve(panel, run):
    """The errors of a run by update, with a dot where it solved the task."""
    updates = EVERY * np.arange(1, len(run["curve"]) + 1)
    plot(panel, run["cell"], updates, run["curve"])
    if run["solved"]:
        panel.plot(updates[-1], run["curve"][-1], "o", color=COLOURS[run["cell"]], markersize=4)


def legend(figure, axes):
    """One for all panels, of each cell once."""
    lines = {}
    for panel in axes.flat:
        panel.spines[["right", "top"]].set_visible(False)
        handles, labels = panel.get_legend_handles_labels()
        lines |= dict(zip(labels, handles, strict=True))
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=len(lines), frameon=False)


def write(found, folder):
    """results.json, a line for each run, and the figures drawn from it."""
    folder.mkdir(parents=True, exist_ok=True)
    head = json.dumps({name: value for name, value in found.items() if name != "runs"})
    lines = ",\n".join(json.dumps(run, separators=(",", ":")) for run in found["runs"])
    (folder / "results.json").write_text(f'{head[:-1]}, "runs": [\n{lines}\n]}}\n')
    draw(found, folder)


def draw(found, folder):
    style = {"svg.fonttype": "none", "svg.hashsalt": "glasscell", "font.size": 10}
    with rc_context(style):
        for name, function in (("errors", draw_errors), ("norms", draw_norms)):
            figure = function(found["runs"])
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--lengths", nargs="+", type=int, default=[50, 100, 200, 400], help="T, from short to long")
    parser.add_argument("--forget-bias", nargs="*", default=["0", "1", "spread"], choices=["0", "1", "spread"])
    parser.add_argument("--clip", type=float, default=1.0, help="the largest norm of a gradient; 0 for any")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("runs/long-memory"), help="a folder")
    parser.add_argument("--quick", action="store_true", help="20 steps, one seed, some hundred updates: seconds")
    parser.add_argument("--draw", action="store_true", help="draw the figures of the results.json that is there")
    options = parser.parse_args()
    if options.quick:
        options.lengths, options.seeds, options.updates, options.processes = [20], 1, 300, 1
    console = Console(width=None if sys.stdout.isatty() else 160)
    file = options.output / "results.json"
    if options.draw:
        found = json.loads(file.read_text())
        draw(found, options.output)
    else:
        runs = run_all(jobs_of(options), options.processes, console)
        found = {"command": " ".join(["python examples/long_memory.py", *sys.argv[1:]]), "runs": runs}
        write(found, options.output)
    print_tables(found["runs"], console)
    console.print(f"{file} and the figures beside it", highlight=False)


if __name__ == "__main__":
    main()
