"""A layer in other processes, each of them started as the argument says; exits with 1 where one has other bits."""

import sys

import torch
from torch.utils.data import DataLoader, Dataset

import glasscell
from glasscell.torch import LSTM

B, T, I, H = 8, 50, 32, 64  # enough work for several threads


class Encoded(Dataset):
    """Item k is what the layer makes of k's own draws."""

    def __init__(self):
        torch.manual_seed(0)
        self.lstm = LSTM(I, H, batch_first=True, engine="native")

    def __len__(self):
        return 6

    @torch.no_grad()
    def __getitem__(self, k):
        x = torch.randn(B, T, I, generator=torch.Generator().manual_seed(k))
        return self.lstm(x)[0]


def collate(items):
    """Every batch through a layer in the worker, too."""
    torch.manual_seed(1)
    with torch.no_grad():
        return LSTM(H, H, batch_first=True, engine="native")(torch.cat(items))[0]


def loader(start):
    """A DataLoader's workers, when the pool of the parent has run."""
    data = Encoded()
    settings = {"batch_size": 2, "collate_fn": collate}
    expected = list(DataLoader(data, **settings))
    workers = DataLoader(data, **settings, num_workers=2, multiprocessing_context=start, timeout=60)
    return all(torch.equal(g, e) for g, e in zip(workers, expected, strict=True))


def answer(lstm, pipe):
    """Its output, each time that it is asked."""
    with torch.no_grad():
        while (x := pipe.recv()) is not None:
            pipe.send(lstm(torch.from_numpy(x))[0].numpy())


def shared(start):
    """A child answers with the parameters as the parent has changed them."""
    context = torch.multiprocessing.get_context(start)
    lstm, x, (ours, theirs) = LSTM(I, H, engine="native").share_memory(), torch.randn(T, B, I), context.Pipe()
    parameters, same = list(lstm.parameters()), []
    child = context.Process(target=answer, args=(lstm, theirs))
    child.start()
    for _ in range(3):
        y = lstm(x)[0]
        ours.send(x.numpy())
        same.append(ours.poll(60) and torch.equal(torch.from_numpy(ours.recv()), y))
        gradients = torch.autograd.grad(y.square().sum(), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.1 * gradient
    same.append(not torch.equal(lstm(x)[0], y))
    ours.send(None)
    child.join()
    return all(same)


if __name__ == "__main__":
    glasscell.set_num_threads(2)
    sys.exit(not {"loader": loader, "shared": shared}[sys.argv[1]](sys.argv[2]))
