"""Drop-ins for the LSTM layers of Keras 3 that run a whole sequence in one native call.

Replace `from keras.layers import LSTM, LSTMCell, RNN` with `from glasscell.keras import LSTM, LSTMCell, RNN`.
Arguments, weights, numbers and files are the same. Import this module before you load a `.keras` file that holds these
layers. `accelerate(model)` makes the LSTMs inside a finished model run natively. `trace(layer, x)` returns every gate
and state of a layer, and the callback `GateMonitor` records the gates while a model trains.
"""

# ruff: noqa: E402  a missing package is reported before anything else is imported
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
