"""PyTorch modules that run the LSTM in one native call: the drop-in for those of `torch.nn`.

`from glasscell.torch import LSTM` where it said `from torch.nn import LSTM`. Same arguments, same parameters, same
checkpoints; and recurrent dropout, lengths, masks, resets and traces.
`accelerate(module)` does the same to a finished module. `LSTMCell` is that of `torch.nn` itself: one step is torch's.
"""

from torch.nn import LSTMCell

from glasscell.torch._accelerate import accelerate, restore
from glasscell.torch._lstm import LSTM

__all__ = ["LSTM", "LSTMCell", "accelerate", "restore"]
