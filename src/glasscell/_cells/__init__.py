"""The LSTM cell: its equations, activations and weights. Knows no other room."""
