"""glasscell: the LSTM cell as Keras defines it, open, fast and the same everywhere."""

from glasscell.engine import show_config
from glasscell.lstm_cell import LSTMCell
from glasscell.rnn import LSTM, RNN
from glasscell.stream import Stream
from glasscell.threads import num_threads, set_num_threads
from glasscell.trace import Trace

__all__ = ["LSTM", "RNN", "LSTMCell", "Stream", "Trace", "num_threads", "set_num_threads", "show_config"]
