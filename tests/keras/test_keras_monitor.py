"""`GateMonitor`: what it says of the gates, to whom, and that training does not notice it.

On one backend; test_keras_watched.py has what can differ on the others.
"""

import csv
import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import glasscell.keras as ours
from glasscell.keras._monitor import gate_statistics
from glasscell.keras._recorder import recording

B, T, I = 4, 6, 3
MEANS = ["input_mean", "forget_mean", "candidate_mean", "output_mean"]
SATURATED = ["input_saturated", "forget_saturated", "output_saturated"]


def keys(*names, saturated=True):
    return {f"{n}/{k}" for n in names for k in [*MEANS, *(SATURATED if saturated else []), "cell_rms"]}


@pytest.fixture
def x(rng):
    return rng.standard_normal((B, T, I)).astype("float32")


def small(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, I)), ours.LSTM(4, name="memory", **options), layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)  # one layer and a few rows: compiling takes longer
    return model


def fit(model, x, callbacks, epochs=1, **options):
    return model.fit(x, np.ones((len(x), 1)), epochs=epochs, verbose=0, callbacks=callbacks, **options).history


def test_the_values_are_those_of_the_trace(x):
    model = small()
    history = fit(model, x, [ours.GateMonitor(x, metrics="all")])
    assert set(history) == keys("memory") | {"loss"}
    trace = model.get_layer("memory").trace(x)
    for name, gate in zip(("input", "forget", "candidate", "output"), "ifgo", strict=True):
        values = getattr(trace, gate)
        # values of both signs cancel in the mean, which is float32's here
        np.testing.assert_allclose(history[f"memory/{name}_mean"], [values.mean()], rtol=1e-6, atol=1e-7)
        if gate != "g":
            share = np.mean([v < 0.1 or v > 0.9 for v in values.ravel()])
            assert history[f"memory/{name}_saturated"] == [share]
    assert history["memory/cell_rms"] == [pytest.approx(np.sqrt((trace.c**2).mean(-1)).mean(), rel=1e-6)]
    assert all(type(v) is float for values in history.values() for v in values)


def test_the_default_fits_the_progress_line(x, capsys):
    """One value for each layer; what else is wanted is chosen, in whatever order."""
    inputs = keras.Input((None, I))
    y = ours.LSTM(2, return_sequences=True, name="lstm")(inputs)
    y = ours.LSTM(2, return_sequences=True, name="lstm_1")(y)
    model = keras.Model(inputs, layers.Dense(1)(ours.LSTM(2, name="lstm_2")(y)))
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(x, np.ones((B, 1)), verbose=2, callbacks=[ours.GateMonitor(x)])
    line = re.sub(r"\d+ms\/step", "9ms/step", capsys.readouterr().out.strip().splitlines()[-1])
    shown = re.findall(r"(\S+): [\d.]+", line)
    assert set(shown) == {"loss", "lstm/forget_mean", "lstm_1/forget_mean", "lstm_2/forget_mean"}
    assert len(line) < 120, line
    for metrics, ends in (("cell_rms", ["cell_rms"]), (["output_mean", "input_saturated"],) * 2):
        values = gate_statistics(model, x, ours.GateMonitor(x, metrics=metrics).metrics)
        assert set(values) == {f"{name}/{end}" for name in ("lstm", "lstm_1", "lstm_2") for end in ends}


def test_known_gates():
    """No weights but a bias: i = 0.05, f = 0.5, g = tanh(1), o = 0.95; c = f c + i g, alike for all units."""
    model = small(unit_forget_bias=False)
    logit = np.log(0.95 / 0.05)
    bias = np.repeat([-logit, 0, 1, logit], 4)
    model.get_layer("memory").set_weights([np.zeros((I, 16)), np.zeros((4, 16)), bias])
    lstm = {name.removeprefix("memory/"): value for name, value in gate_statistics(model, np.zeros((1, 2, I))).items()}
    g = np.tanh(1)
    expected = {"input_mean": 0.05, "forget_mean": 0.5, "candidate_mean": g, "output_mean": 0.95}
    expected |= {"input_saturated": 1, "forget_saturated": 0, "output_saturated": 1}
    assert lstm == pytest.approx(expected | {"cell_rms": (0.05 * g + 0.075 * g) / 2}, rel=1e-6)


def test_only_kept_steps_count(x):
    inputs = keras.Input((None, I))
    model = keras.Model(inputs, ours.LSTM(4, name="memory")(layers.Masking()(inputs)))
    padded = np.concatenate([x[:1], np.zeros((1, 5, I), "float32")], axis=1)
    assert gate_statistics(model, padded) == pytest.approx(gate_statistics(model, x[:1]), rel=1e-6)
    nothing = gate_statistics(model, np.zeros_like(x))
    assert set(nothing) == keys("memory")
    assert all(np.isnan(value) for value in nothing.values())


def test_training_does_not_notice(rng):
    """The same model, from the same variables, with everything in it that has a state."""
    keras.utils.set_random_seed(2)
    x, y = rng.standard_normal((4, T, I)).astype("float32"), rng.standard_normal((4, 1))
    memory = ours.LSTM(3, dropout=0.3, recurrent_dropout=0.2, stateful=True, activity_regularizer="l2")
    model = keras.Sequential(
        [keras.Input((T, I), batch_size=2), memory, layers.BatchNormalization(), layers.Dropout(0.2), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    start, runs = [ops.convert_to_numpy(v).copy() for v in variables], []
    for callbacks in ([], [ours.GateMonitor(x[:2], metrics="all")], []):
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        history = model.fit(x, y, batch_size=2, epochs=3, verbose=0, shuffle=False, callbacks=callbacks).history
        assert len(history) == 1 + 8 * len(callbacks)
        runs.append((history["loss"], [ops.convert_to_numpy(v).copy() for v in variables]))
    for loss, end in runs[1:]:
        assert loss == runs[0][0]
        for a, b in zip(end, runs[0][1], strict=True):
            np.testing.assert_array_equal(a, b)
    assert sum((a != b).any() for a, b in zip(end, start, strict=True)) >= 10  # state, seeds, averages, weights moved


class Seen(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.keys = set(logs)


def test_later_callbacks_see_the_values_and_earlier_ones_do_not(x, tmp_path):
    before, after = Seen(), Seen()
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    stop = keras.callbacks.EarlyStopping("memory/forget_mean", mode="max", patience=9)
    history = fit(small(), x, [before, ours.GateMonitor(x, every=2, metrics="all"), after, log, stop], epochs=5)
    assert before.keys == {"loss"}
    assert after.keys == {"loss"} | keys("memory")
    forget = history["memory/forget_mean"]
    assert forget[0] == forget[1] != forget[2] == forget[3] != forget[4]
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [float(row["memory/forget_mean"]) for row in rows] == forget
    assert all(row[key] != "NA" for row in rows for key in keys("memory"))
    assert stop.best == max(forget)


def test_training_that_goes_on_has_the_keys_from_its_first_epoch(x):
    monitor, model = ours.GateMonitor(x, every=10), small()
    first = fit(model, x, [monitor], epochs=2)
    second = fit(model, x, [monitor], epochs=5, initial_epoch=3)
    assert len(second["memory/forget_mean"]) == 2
    assert second["memory/forget_mean"][0] != first["memory/forget_mean"][0]  # as it stood when training went on


def test_layers_are_found_wherever_they_run(x):
    def inner(name):
        memory = ours.LSTM(2, name="memory", return_sequences=True, recurrent_activation="softsign")
        return keras.Sequential([keras.Input((None, I)), memory], name=name)

    class Custom(layers.Layer):
        def __init__(self):
            super().__init__()
            self.parts = {"deep": [ours.LSTM(2, name="hidden")]}

        def build(self, shape):
            self.parts["deep"][0].build(shape)

        def call(self, x):
            return self.parts["deep"][0](x)

    inputs = keras.Input((T, I))
    y = layers.Concatenate()([inner("left")(inputs), inner("right")(inputs)])
    y = layers.Bidirectional(ours.LSTM(2, name="both", return_sequences=True))(y)
    y = ours.RNN([ours.LSTMCell(2), ours.LSTMCell(3, recurrent_activation="hard_sigmoid")], name="stack")(
        layers.RepeatVector(2)(Custom()(y))
    )
    y = ours.RNN(layers.GRUCell(2), name="other")(layers.RepeatVector(2)(y))
    model = keras.Model(inputs, y)
    values = gate_statistics(model, x)
    expected = keys("forward_both", "backward_both", "hidden", "stack/cell_0", "stack/cell_1")
    assert set(values) == expected | keys("memory", "memory_1", saturated=False)
    left = model.get_layer("left").get_layer("memory").trace(x)
    assert values["memory/forget_mean"] == pytest.approx(left.f.mean(), rel=1e-5)


def test_all_calls_of_a_layer_count(x):
    shared = ours.LSTM(4, name="shared")
    one, two = (keras.Input((None, I), name=name) for name in ("one", "two"))
    model = keras.Model({"one": one, "two": two}, shared(one) + shared(two))
    values = gate_statistics(model, {"one": x, "two": x[:, :2]})
    f = np.concatenate([shared.trace(x).f.ravel(), shared.trace(x[:, :2]).f.ravel()])
    assert values["shared/forget_mean"] == pytest.approx(f.mean(), rel=1e-6)
    frames = keras.Sequential([keras.Input((2, T, I)), layers.TimeDistributed(shared)])
    values = gate_statistics(frames, np.stack([x, -x], axis=1))
    assert values["shared/forget_mean"] == pytest.approx(shared.trace(np.concatenate([x, -x])).f.mean(), rel=1e-6)


def test_the_state_that_a_layer_is_given_counts(x):
    inputs, targets = keras.Input((None, I)), keras.Input((None, 1))
    _, *state = ours.LSTM(4, return_state=True, name="encoder")(inputs)
    decoder = ours.LSTM(4, name="decoder")
    model = keras.Model([inputs, targets], decoder(targets, initial_state=state))
    encoder, y = model.get_layer("encoder"), x[:, :2, :1]
    read = encoder.trace(x)
    expected = decoder.trace(y, initial_state=[read.h[:, -1], read.c[:, -1]])
    values = gate_statistics(model, [x, y])
    assert values["decoder/forget_mean"] == pytest.approx(expected.f.mean(), rel=1e-6)
    assert values["decoder/forget_mean"] != pytest.approx(decoder.trace(y).f.mean(), rel=1e-5)


def test_wrong_arguments_are_refused_before_the_first_step(x):
    for every in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match=r"every: expected a positive integer, got "):
            ours.GateMonitor(x, every)
    for metrics in ("forget", [], ["forget_mean", "loss"]):
        with pytest.raises(ValueError, match=r"metrics: expected some of input_mean, .*, got "):
            ours.GateMonitor(x, metrics=metrics)
    odd = small(recurrent_activation="softsign")
    with pytest.raises(ValueError, match=r"metrics: expected some that the model's LSTMs have, got forget_saturated"):
        fit(odd, x, [ours.GateMonitor(x, metrics="forget_saturated")])
    model = small()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, I\) = \(B, T, 3\), got \(4, 6, 2\)"):
        fit(model, x, [ours.GateMonitor(x[:, :, :2])])
    plain = keras.Sequential([keras.Input((None, I)), layers.LSTM(2)], name="plain")
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"model: expected glasscell LSTM layers, got 'plain'.*glasscell\.keras"):
        fit(plain, x, [ours.GateMonitor(x)])
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_recording_has_an_end(x):
    layer = ours.LSTM(2)
    with recording() as calls:
        layer(x)
        with recording() as inside:
            layer(x[:1])
    layer(x)
    assert [len(c.sequences) for c in calls] == [B]
    assert [len(c.sequences) for c in inside] == [1]


def test_a_layer_inside_a_compiled_function_is_named(x):
    import jax

    layer = ours.LSTM(2, name="inside")
    layer.build(x.shape)
    with recording(), pytest.raises(ValueError, match="layer: 'inside' runs inside a function that its framework"):
        jax.jit(layer)(x)
    jax.jit(layer)(x)


def test_a_loop_of_ones_own(x):
    model = small()
    monitor = ours.GateMonitor(x, metrics="all")
    monitor.set_model(model)
    monitor.on_train_begin()
    logs = {}
    monitor.on_epoch_end(0, logs)
    monitor.on_epoch_end(1)
    assert set(logs) == keys("memory")
