"""`glasscell train`: trains a model on the recordings that ship with the package."""
