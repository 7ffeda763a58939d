"""Keras 3 layers that run the LSTM in one native call: the drop-in for `keras.layers`.

`from glasscell.keras import LSTM, LSTMCell, RNN` where it said `from keras.layers import ...`. Same arguments, same
weights, same numbers, same files. Import this module before loading a `.keras` file that holds these layers.
`accelerate(model)` does the same to a finished model. `trace(layer, x)` opens a layer, and the callback `GateMonitor`
watches the gates while a model trains.
"""

# ruff: noqa: E402  what is missing is said before anything else is imported
from glasscell import _doors

_doors.choose_backend()
try:
    from keras.backend import backend
except ModuleNotFoundError as error:
    raise _doors.missing("glasscell.keras", error) from None

from glasscell.keras._accelerate import accelerate, restore
from glasscell.keras._bidirectional import Bidirectional
from glasscell.keras._layers import LSTM, RNN, LSTMCell, StackedRNNCells
from glasscell.keras._model_trace import trace
from glasscell.keras._monitor import GateMonitor

if backend() == "jax":
    import glasscell._ops.jax  # noqa: F401  registers the native calls, which serialized JAX executables name

__all__ = [
    "LSTM",
    "RNN",
    "Bidirectional",
    "GateMonitor",
    "LSTMCell",
    "StackedRNNCells",
    "accelerate",
    "restore",
    "trace",
]
