"""PyTorch modules that run the LSTM in one native call: the drop-in for those of `torch.nn`.

`from glasscell.torch import LSTM` where it said `from torch.nn import LSTM`. Same arguments, same parameters, same
checkpoints; and recurrent dropout, lengths, masks, resets and traces.
`accelerate(module)` does the same to a finished module. `LSTMCell` is that of `torch.nn` itself: one step is torch's.
"""

from glasscell import _doors

try:
    from torch.nn import LSTMCell
except ModuleNotFoundError as error:
    raise _doors.missing("glasscell.torch", error) from None

from glasscell.torch._accelerate import accelerate, restore
from glasscell.torch._convert import from_layer
from glasscell.torch._lstm import LSTM

__all__ = ["LSTM", "LSTMCell", "accelerate", "from_layer", "restore"]
