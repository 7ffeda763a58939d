"""The NumPy layers: `LSTMCell`, `RNN`, `LSTM` and `Stream`."""
