"""A drop-in for `torch.nn.LSTM` that runs a whole sequence in one native call.

Replace `from torch.nn import LSTM` with `from glasscell.torch import LSTM`. Arguments, parameters and checkpoints are
the same; recurrent dropout, lengths, masks, resets and traces are added.
`accelerate(module)` makes the LSTMs inside a finished module run natively. `LSTMCell` is `torch.nn.LSTMCell` itself,
unchanged: PyTorch runs single steps.
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
