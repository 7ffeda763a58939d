"""glasscell: the LSTM cell as Keras defines it, open, fast and the same everywhere."""

from glasscell._cells.layouts import LSTMWeights
from glasscell._config import show_config
from glasscell._layers.bidirectional import Bidirectional
from glasscell._layers.lstm import LSTM
from glasscell._layers.lstm_cell import LSTMCell
from glasscell._layers.rnn import RNN
from glasscell._layers.stacked import StackedRNNCells
from glasscell._layers.stream import Stream
from glasscell._trace import Trace
from glasscell.threads import num_threads, set_num_threads

__all__ = [
    "LSTM", "RNN", "Bidirectional", "LSTMCell", "LSTMWeights", "StackedRNNCells", "Stream", "Trace", "num_threads",
    "set_num_threads", "show_config",
]  # fmt: skip


def __getattr__(name: str) -> str:
    """`__version__`, read from the installed package when it is asked for: `import glasscell` need not pay for it."""
    if name != "__version__":
        raise AttributeError(f"module 'glasscell' has no attribute {name!r}")
    from importlib.metadata import version

    return version("glasscell")
