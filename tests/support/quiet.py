"""`glasscell train` that prints nothing."""

import io

from rich.console import Console

from glasscell._training.train import train


def train_quietly(folder, **settings):
    """The metrics, and the text that it would have printed."""
    console = Console(file=io.StringIO(), width=100)
    return train(folder, **settings, console=console), console.file.getvalue()
