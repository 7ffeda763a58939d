"""The NumPy layers: `LSTMCell`, `RNN`, `LSTM`, stacks, both directions, and `Stream`."""
