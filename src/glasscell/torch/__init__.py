"""PyTorch: the native engine as operators (`glasscell.torch.op`), which `glasscell.keras` runs on the torch backend."""
