"""Who is speaking? Many recordings of any length, scored by the actors of Ray Data.

An LSTM learns to tell nine speakers apart from the 270 recordings to learn from that ship with glasscell, and then
scores the other 370, `--repeat` times over, as a large set would be: each actor loads the model once, and takes batches
of recordings, padded, with their `lengths`. Such a set may as well lie in a folder of Parquet files; then it is
`ray.data.read_parquet(folder)` in place of `ray.data.from_items`.

A recording's scores are the same bits whatever else is in its batch, and whichever actor has it.

    pip install ".[examples-torch]"
    python examples/ray_score.py
"""

import argparse
import os
import sys
import time

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # exceptions are raised all the same
os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")

try:
    import numpy as np
    import ray
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    import glasscell
    from glasscell.data import load_japanese_vowels
    from glasscell.torch import LSTM
except ImportError as error:
    sys.exit(f"{error}; all that this example needs: pip install '.[examples-torch]'")


class Speaker(torch.nn.Module):
    """Recordings in, the log-probability of each speaker, (B, speakers), out."""

    def __init__(self, coefficients, speakers, units=64):
        super().__init__()
        self.lstm, self.head = LSTM(coefficients, units, batch_first=True), torch.nn.Linear(units, speakers)

    def forward(self, recordings):
        """recordings: a list of (T, coefficients), each with its own T."""
        lengths = torch.tensor([len(r) for r in recordings])
        _, (h, _) = self.lstm(pad_sequence(recordings, batch_first=True), lengths=lengths)
        # Row by row: the rounding of one product for all rows would depend on how many there are.
        return torch.stack([self.head(row) for row in h[0]]).log_softmax(1)


class Scorer:
    """What an actor runs: the model is made once, and then scores one batch after the other."""

    def __init__(self, sizes, weights, threads):
        torch.set_num_threads(threads)
        glasscell.set_num_threads(threads)
        self.model = Speaker(*sizes).eval()
        self.model.load_state_dict(weights)

    @torch.inference_mode()
    def __call__(self, batch):
        """batch: "frames", of objects (T, coefficients); the rest is passed on."""
        scores = self.model([torch.tensor(frames) for frames in batch["frames"]])
        rows = len(scores)
        told = {"actor": np.full(rows, os.getpid()), "engine": np.full(rows, self.model.lstm.engine_used)}
        return {"speaker": batch["speaker"], "scores": scores.numpy(), **told}


def recordings(utterances):
    """One item each, at its own length."""
    parts = zip(utterances.x, utterances.lengths, utterances.labels, strict=True)
    return [{"frames": x[:length], "speaker": int(label)} for x, length, label in parts]


def train(model, items, epochs):
    """Adam on batches of 32."""
    frames = [torch.from_numpy(item["frames"]) for item in items]
    speakers = torch.tensor([item["speaker"] for item in items])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(epochs):
        for batch in torch.randperm(len(items)).split(32):
            optimizer.zero_grad()
            cross_entropy(model([frames[k] for k in batch]), speakers[batch]).backward()
            optimizer.step()


def score(items, options, *model):
    """Each item's row of `Scorer`, in the order of the items; the seconds until the first, and from it to the last."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.wait_for_min_actors_s = 60  # so that all of them take part
    data = ray.data.from_items(items, override_num_blocks=8 * options.actors)
    scored = data.map_batches(
        Scorer,
        fn_constructor_args=(*model, 1),
        batch_size=options.batch,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        num_cpus=1,
    )
    times, rows = [time.perf_counter()], []
    for row in scored.iter_rows():
        rows.append(row)
        times.append(time.perf_counter())
    return rows, times[1] - times[0], times[-1] - times[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, default=2, help="each with a processor of its own")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=20, help="how often to score the 370 recordings")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the model's state_dict and all scores")
    options = parser.parse_args()

    data = load_japanese_vowels()
    sizes = len(data.coefficients), len(data.speakers)
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # enough for a model this small
    model = Speaker(*sizes)
    train(model, recordings(data.train), options.epochs)

    local = {"address": "local", "num_cpus": options.actors, "include_dashboard": False}
    ray.init(**local, log_to_driver=False, logging_level="error")
    rows, wait, seconds = score(recordings(data.test) * options.repeat, options, sizes, model.state_dict())
    ray.shutdown()

    scores, speakers = (np.stack([row[name] for row in rows]) for name in ("scores", "speaker"))
    print(f"{'of the recordings held out':32}named rightly")
    print(f"{'always the most frequent':32}{np.bincount(speakers).max() / len(speakers):13.3f}")
    print(f"{'LSTM':32}{(scores.argmax(1) == speakers).mean():13.3f}")
    actors = len({row["actor"] for row in rows})
    print(f"{len(rows)} recordings by {actors} actors: {wait:.1f} s until the first, then {seconds:.1f} s")
    print(f"engine: {', '.join({row['engine'] for row in rows})}")
    if options.save:
        torch.save({"model": model.state_dict(), "scores": torch.from_numpy(scores)}, options.save)
        print(f"saved in {options.save}")


if __name__ == "__main__":
    main()
