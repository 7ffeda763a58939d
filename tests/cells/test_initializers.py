"""Initialisers against `keras.initializers`: their distributions, rules and refusals; the draws are NumPy's own."""

import keras
import numpy as np
import pytest

from compare import assert_same_bits
from glasscell import LSTMCell
from glasscell._cells.initializers import get_initializer

KERAS = keras.initializers
SHAPES = [(60, 240), (240, 60), (1, 4000), (2000,)]
SCALED = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal")
EVERY = {
    **{name: KERAS.get(name) for name in SCALED},
    **{f"{mode} {distribution}": KERAS.VarianceScaling(2.5, mode, distribution)
       for mode in ("fan_in", "fan_out", "fan_avg")
       for distribution in ("uniform", "truncated_normal", "untruncated_normal", "normal", "Uniform")},
    "axes": KERAS.VarianceScaling(1.0, "fan_out", "uniform", input_axes=[0, -1], output_axes=[0]),
    "one axis": KERAS.VarianceScaling(1.0, "fan_in", "uniform", input_axes=[-1]),
    "glorot axes": KERAS.GlorotUniform(input_axes=[-1], output_axes=[-1]),
    "random_normal": KERAS.RandomNormal(0.3, 0.7),
    "truncated_normal": KERAS.TruncatedNormal(-0.3, 0.7),
    "random_uniform": KERAS.RandomUniform(-0.2, 1.3),
    "zeros": KERAS.Zeros(), "ones": KERAS.Ones(), "constant": KERAS.Constant(-1.5),
}  # fmt: skip


def ours(theirs, shape, rng):
    return get_initializer(KERAS.serialize(theirs), "kernel_initializer")(shape, np.float64, rng)


def moments(sample):
    """Mean, deviation and the quantiles that tell a uniform from a cut and from a whole normal distribution."""
    return np.array([sample.mean(), sample.std(), *np.quantile(sample, [0.005, 0.25, 0.5, 0.75, 0.995])])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", EVERY)
def test_distributions(name, shape):
    """Two samples, one of each side. Their moments differ by less than six standard errors, that of the outer quantiles
    being some ten times the mean's; and none of ours lies further out than what bounds theirs."""
    theirs = EVERY[name]
    keras.utils.set_random_seed(1)
    expected = np.asarray(theirs(shape), np.float64)
    draws = ours(theirs, shape, np.random.default_rng(1))
    error = expected.std() / np.sqrt(expected.size) * np.sqrt(2)
    far = np.abs(moments(draws) - moments(expected))
    assert (far <= 6 * error * np.array([1, 1, 10, 2, 2, 2, 10]) + 1e-12).all(), far / error
    if "untruncated" not in name and name != "random_normal":  # the others end somewhere
        spread = np.abs(expected - expected.mean()).max()
        assert np.abs(draws - expected.mean()).max() <= 1.05 * spread + 6 * error


@pytest.mark.parametrize("stddev", [0.05, 2.0])
def test_a_cut_normal_ends_at_two_deviations(stddev):
    theirs = KERAS.TruncatedNormal(1.0, stddev)
    for sample in (ours(theirs, (200, 400), np.random.default_rng(0)), np.asarray(theirs((200, 400)), np.float64)):
        assert 1.98 < np.abs(sample - 1).max() / stddev <= 2 + 1e-6


@pytest.mark.parametrize("shape", [(4, 4), (3, 12), (12, 3), (1, 4)])
def test_orthogonal_matrices_are_drawn_evenly(shape):
    """Draws 400, and 400 of Keras: orthogonal of the gain's length, no sign and no direction before another. QR
    alone, without the correction of its signs, gives first elements that are never positive."""
    theirs, n = KERAS.Orthogonal(gain=1.5), 400
    rng, seeds = np.random.default_rng(0), keras.random.SeedGenerator(0)
    both = {
        "ours": np.stack([ours(theirs, shape, rng) for _ in range(n)]),
        "theirs": np.stack([np.asarray(KERAS.Orthogonal(1.5, seed=seeds)(shape), np.float64) for _ in range(n)]),
    }
    for who, matrices in both.items():
        less = min(shape)
        square = matrices @ matrices.mT if shape[0] <= shape[1] else matrices.mT @ matrices
        np.testing.assert_allclose(square, np.broadcast_to(1.5**2 * np.eye(less), square.shape), atol=1e-5, err_msg=who)
        unit = matrices / 1.5  # each element: mean 0, mean square 1 over the longer side
        assert np.abs(unit.mean(0)).max() <= 5 / np.sqrt(n * max(shape)), who
        assert np.abs((unit**2).mean(0) - 1 / max(shape)).max() <= 5 * np.sqrt(2 / n) / max(shape), who
        diagonal = np.stack([unit[:, k, k] for k in range(less)], 1)
        assert (np.abs((diagonal > 0).mean(0) - 0.5) <= 2.5 / np.sqrt(n)).all(), who  # five deviations of n coins
        if shape[0] == shape[1]:
            assert abs((np.linalg.det(matrices) > 0).mean() - 0.5) <= 2.5 / np.sqrt(n), who


OTHERS = ("zeros", "ones", "random_normal", "truncated_normal", "random_uniform", "variance_scaling", "orthogonal")


@pytest.mark.parametrize("name", [*SCALED, *OTHERS, "identity"])
def test_names_stand_for_the_configurations_of_keras(name):
    """A name, a class and what Keras writes out, with its defaults, give one configuration and one draw."""
    theirs = KERAS.get(name)
    found = [get_initializer(i, "k") for i in (name, type(theirs).__name__, KERAS.serialize(theirs))]
    draws = [one((6, 24), np.float32, np.random.default_rng(0)) for one in found]
    for one, drawn in zip(found, draws, strict=True):
        assert one == found[0]
        assert {"gain": 1.0, **theirs.get_config()} == {"gain": 1.0, **one.config}  # Keras's Identity leaves it out
        assert_same_bits(drawn, draws[0])
    assert draws[0].dtype == np.float32


def test_identity():
    for gain, shape in ((1.0, (3, 12)), (0.5, (4, 4)), (2.0, (5, 2))):
        config = {"class_name": "Identity", "config": {"gain": gain}}  # Keras's own `get_config` leaves the gain out
        drawn = get_initializer(config, "kernel_initializer")(shape, np.float32, np.random.default_rng(0))
        np.testing.assert_array_equal(drawn, np.asarray(KERAS.deserialize(config)(shape)))


@pytest.mark.parametrize("seed", [7, keras.random.SeedGenerator(7)])
def test_a_seed_of_its_own_repeats(seed):
    initializer = get_initializer(KERAS.serialize(KERAS.HeNormal(seed=seed)), "kernel_initializer")
    one, other = (initializer((3, 4), np.float32, np.random.default_rng(n)) for n in range(2))
    np.testing.assert_array_equal(one, other)


def test_a_cell_draws_as_keras_does():
    """Each of its three weights by the fans of the whole matrix."""
    arguments = {"kernel_initializer": "he_normal", "recurrent_initializer": "lecun_uniform",
                 "bias_initializer": "random_normal", "unit_forget_bias": False}  # fmt: skip
    theirs = keras.layers.LSTMCell(64, **arguments)
    theirs.build((None, 48))
    cell = LSTMCell.from_config(theirs.get_config()).build(48, seed=0)
    for got, expected in zip(cell.get_weights(), theirs.get_weights(), strict=True):
        assert got.shape == expected.shape
        assert abs(got.std() / expected.std() - 1) <= 5 / np.sqrt(got.size)


REFUSED = [
    ("RandomNormal", {"std": 1.0}, r"RandomNormal has no 'std', expected mean, stddev, seed"),
    ("Zeros", {"value": 1.0}, r"Zeros has no 'value', expected nothing"),
    ("GlorotUniform", {"scale": 3.0}, r"GlorotUniform has no 'scale', expected seed, input_axes, output_axes"),
    ("VarianceScaling", {"scale": 0.0}, r"VarianceScaling: scale: expected a positive number, got 0\.0"),
    ("VarianceScaling", {"mode": "fan"}, r"VarianceScaling: mode: expected one of \('fan_in', .*, got 'fan'"),
    ("VarianceScaling", {"distribution": "cauchy"}, r"VarianceScaling: distribution: expected one of .*got 'cauchy'"),
]


@pytest.mark.parametrize(("name", "config", "message"), REFUSED)
def test_what_keras_refuses(name, config, message):
    with pytest.raises((ValueError, TypeError)):
        KERAS.deserialize({"class_name": name, "config": config})
    with pytest.raises(ValueError, match=f"^bias_initializer: {message}"):
        LSTMCell(3, bias_initializer={"class_name": name, "config": config})


def test_names_of_distributions():
    for name in ("Uniform", "NORMAL", "untruncated_normal"):
        config = {"class_name": "VarianceScaling", "config": {"distribution": name}}
        expected = KERAS.deserialize(config).get_config()["distribution"]
        assert get_initializer(config, "kernel_initializer").config["distribution"] == expected


def test_numbers_are_numbers():
    for value in ("3", None, True, [1.0]):
        with pytest.raises(ValueError, match=r"^kernel_initializer: Constant: value: expected a number, got "):
            get_initializer({"class_name": "Constant", "config": {"value": value}}, "kernel_initializer")
    two = get_initializer({"class_name": "Constant", "config": {"value": np.float32(2)}}, "k")
    np.testing.assert_array_equal(two((2,), "f4", None), [2, 2])


@pytest.mark.parametrize("name", ["orthogonal", "identity"])
def test_a_bias_is_no_matrix(name):
    theirs = keras.layers.LSTMCell(3, bias_initializer=name)
    with pytest.raises(ValueError, match=r"rank|2D|two-dimensional"):
        theirs.build((None, 2))
    with pytest.raises(ValueError, match=r"^initializer: (Orthogonal|Identity) makes matrices, and cannot make a bias"):
        LSTMCell(3, bias_initializer=name).build(2)
