"""Keras's own tests, shipped in its wheel, run against our layers.

The test modules reach the layers as `layers.LSTM` and so on; each module gets a namespace in which ours stand in their
place. None is left out. tests/keras/test_keras_backends.py runs this file on the other backends.
"""

import importlib
import types

import keras
import pytest

import glasscell.keras

pytestmark = pytest.mark.filterwarnings("default")  # Keras warns its own tests of its own generators

MODULES = ("lstm_test", "rnn_test", "stacked_rnn_cells_test", "bidirectional_test", "dropout_rnn_cell_test")


def _with_ours(name: str) -> types.ModuleType:
    module = importlib.import_module(f"keras.src.layers.rnn.{name}")
    named = {public: getattr(glasscell.keras, public) for public in glasscell.keras.__all__}
    ours = {public: cls for public, cls in named.items() if hasattr(keras.layers, public)}
    if hasattr(module, "layers"):
        module.layers = types.SimpleNamespace(**{**vars(module.layers), **ours})
    for public, cls in ours.items():
        if hasattr(module, public):
            setattr(module, public, cls)
    return module


def _collect() -> None:
    for name in MODULES:
        module = _with_ours(name)
        for attribute, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, keras.src.testing.TestCase) and attribute.endswith("Test"):
                globals()[f"Keras{attribute}"] = value


_collect()


def test_ours_took_their_place():
    lstm_test = importlib.import_module("keras.src.layers.rnn.lstm_test")
    assert lstm_test.layers.LSTM is glasscell.keras.LSTM
    assert sum(name.startswith("Keras") for name in globals()) >= len(MODULES)
