"""One forecasting model trained by several processes: `glasscell.torch.LSTM` under DistributedDataParallel.

The sunspots of `keras_forecast.py`: a window of years in, the next one out, tested on the years from `--test-from` on.
Each process takes its part of every batch, and the gradients of all parts are those of the whole batch: any number of
processes learn the same parameters, up to the order of the sums. They share the processors that there are.

    pip install ".[examples-torch]"
    torchrun --nproc-per-node 2 examples/ddp_forecast.py
    python examples/ddp_forecast.py                         # the same, in one process
"""

import argparse
import os
import sys

try:
    import torch
    from statsmodels.datasets import sunspots
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    import glasscell
    from glasscell.torch import LSTM
except ImportError as error:
    sys.exit(f"{error}; all that this example needs: pip install '.[examples-torch]'")

CYCLE = 11  # years from one maximum to the next, more or less


class Forecast(torch.nn.Module):
    """Windows (B, T, 1) in, the value after each, (B,), out."""

    def __init__(self, units):
        super().__init__()
        self.lstm, self.head = LSTM(1, units, batch_first=True), torch.nn.Linear(units, 1)

    def forward(self, windows):
        _, (h, _) = self.lstm(windows)
        return self.head(h[0])[:, 0]


def split(options):
    """Windows (N, window, 1) and what comes after, scaled: of the years to learn from and of those held out."""
    data = sunspots.load_pandas().data
    years, counts = data["YEAR"].to_numpy(int), data["SUNACTIVITY"].to_numpy()
    known = counts[years < options.test_from]
    scaled = torch.tensor((counts - known.mean()) / known.std(), dtype=torch.get_default_dtype())
    windows, following = scaled.unfold(0, options.window, 1)[:-1, :, None], scaled[options.window :]
    learn = torch.from_numpy(years[options.window :] < options.test_from)
    return (windows[learn], following[learn]), (windows[~learn], following[~learn]), known.std()


def join():
    """This process's number, how many there are, and its share of the processors, for torch and for glasscell."""
    if "RANK" in os.environ:  # set by torchrun
        distributed.init_process_group("gloo")
    else:
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    threads = max(1, glasscell.num_threads() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    torch.set_num_threads(threads)
    glasscell.set_num_threads(threads)
    return distributed.get_rank(), distributed.get_world_size()


def train(model, windows, following, options):
    """Each process computes its part of every batch; DistributedDataParallel takes the mean of their gradients."""
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    order = torch.Generator().manual_seed(options.seed)  # the same in all processes
    for _ in range(options.epochs):
        for batch in torch.randperm(len(windows), generator=order).split(options.batch):
            part = batch[rank::processes]
            errors = (model(windows[part]) - following[part]).square()
            optimizer.zero_grad()
            (errors.sum() * processes / len(batch)).backward()  # so that the mean over processes is the batch's
            optimizer.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32, help="windows in a batch, all processes together")
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--window", type=int, default=CYCLE, help=f"years the model sees, {CYCLE} or more")
    parser.add_argument("--test-from", type=int, default=1960, help="the first year held out")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the state_dict")
    options = parser.parse_args()
    if options.window < CYCLE:
        parser.error(f"--window: expected {CYCLE} or more, got {options.window}")

    torch.set_default_dtype(getattr(torch, options.dtype))
    rank, processes = join()
    learn, (windows, following), spread = split(options)
    torch.manual_seed(options.seed)
    model = DistributedDataParallel(Forecast(options.units))
    train(model, *learn, options)
    if rank == 0:
        with torch.no_grad():
            forecasts = {
                "last value": windows[:, -1, 0],
                f"value {CYCLE} years before": windows[:, -CYCLE, 0],
                "LSTM": model.module(windows),
            }
        print(f"{f'from {options.test_from}, one year ahead':32}mean absolute error")
        for name, values in forecasts.items():
            print(f"{name:32}{spread * float((values - following).abs().mean()):19.1f}")
        threads = f"threads in each: {torch.get_num_threads()}"
        print(f"engine: {model.module.lstm.engine_used}; processes: {processes}; {threads}")
        if options.save:
            torch.save(model.module.state_dict(), options.save)
            print(f"saved in {options.save}")
    distributed.barrier()  # whoever is done first must not take the group from under the other
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
