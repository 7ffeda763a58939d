"""A life of layers and streams, for `test_situations.py`, which says how it runs.

A layer, its copies and their streams are called, traced, differentiated, copied, given new weights, run by threads, and
fed arrays of every layout; everything that goes in or comes out is written over afterwards.
"""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from cases import cast
from compare import arrays_of, assert_close, assert_same_bits, assert_same_results
from drawn import LAYOUTS, spoil
from glasscell import LSTM, RNN, LSTMCell, Stream

# Against float64: sums of some ten products and five steps of elementwise functions, in float32 and in float64 of
# another order of summation; gradients sum over rows and steps as well.
FAR = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-13}


class Counting(LSTM):
    """A layer of somebody's own: a subclass with a state of its own that changes what goes in."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.calls = 0

    def __call__(self, x, *arguments, **options):
        self.calls += 1
        return super().__call__(x, *arguments, **options)


class Named(Stream):
    """A stream of somebody's own."""

    def __init__(self, rnn, batch):
        super().__init__(rnn, batch)
        self.name = "mine"


@dataclass
class Cell:
    """Weights and options that a cell should have; layers that share a cell share this."""

    weights: list
    options: dict

    def fresh(self, dtype, engine, **flags):
        cell = LSTMCell(len(self.weights[1]), engine=engine, dtype=dtype, **self.options)
        cell.set_weights([w.astype(dtype) for w in self.weights])
        return RNN(cell, return_state=True, engine=engine, **flags)


@dataclass
class Layer:
    """A layer under test, and what it should be."""

    rnn: RNN
    cell: Cell
    flags: dict
    state: tuple | None = None


@dataclass
class Fed:
    """A stream under test, and where it should be."""

    stream: Stream
    cell: Cell
    state: tuple


@dataclass
class Pending:
    """A pullback that waits, and what it should give."""

    pullback: object
    dy: np.ndarray
    dstate: tuple | None
    expected: dict


@dataclass
class Life:
    rng: np.random.Generator
    dtype: np.dtype
    engine: str
    inputs: int
    units: int
    layers: list = field(default_factory=list)
    streams: list = field(default_factory=list)
    pending: list = field(default_factory=list)

    def normal(self, *shape):
        return self.rng.standard_normal(shape).astype(self.dtype)

    def pick(self, things):
        return things[self.rng.integers(len(things))]

    def odd(self, array):
        """Gives the same numbers in a layout of its own."""
        return self.pick(list(LAYOUTS.values()))(array)

    def start(self):
        options = {
            "activation": self.pick(("tanh", "tanh", "softsign", "silu")),
            "recurrent_activation": self.pick(("sigmoid", "sigmoid", "hard_sigmoid")),
            "use_bias": bool(self.rng.integers(4)),
        }
        flags = {name: bool(self.rng.integers(2)) for name in ("return_sequences", "go_backwards", "stateful")}
        flags["zero_output_for_mask"] = bool(self.rng.integers(4) == 0)
        made = {"return_state": True, "engine": self.engine, "dtype": self.dtype, **options, **flags}
        rnn = self.pick((LSTM, Counting))(self.units, **made)
        cell = Cell(self.weights(options["use_bias"]), options)
        rnn.cell.set_weights([self.odd(w) for w in cell.weights])
        self.layers.append(Layer(rnn, cell, flags))

    def weights(self, bias):
        shapes = [(self.inputs, 4 * self.units), (self.units, 4 * self.units), (4 * self.units,)]
        return [0.7 * self.normal(*shape) for shape in shapes[: 2 + bias]]

    def arguments(self, layer):
        B, T = int(self.rng.integers(1, 4)), int(self.rng.integers(0, 6))
        if layer.state is not None:
            B = len(layer.state[0])
        given = {"x": self.normal(B, T, self.inputs)}
        for name, value in {
            "initial_state": (self.normal(B, self.units), self.normal(B, self.units)),
            "mask": self.rng.uniform(size=(B, T)) < 0.6,
            "lengths": self.rng.integers(0, T + 1, B),
            "reset": self.rng.uniform(size=(B, T)) < 0.2,
            "dropout_mask": self.normal(*self.pick(((B, self.inputs), (4, B, self.inputs)))),
            "recurrent_dropout_mask": self.normal(*self.pick(((B, self.units), (4, B, self.units)))),
        }.items():
            if self.rng.integers(3) == 0:
                given[name] = value
        return given

    def dressed(self, given):
        """The arguments as the user has them, each in a layout of its own."""
        return {n: tuple(map(self.odd, v)) if isinstance(v, tuple) else self.odd(v) for n, v in given.items()}

    def expected(self, layer, given, dtype, engine, method="__call__", **more):
        """Asks a fresh layer, which has done nothing before."""
        flags = {name: value for name, value in layer.flags.items() if name != "stateful"}
        given = {n: cast(v, dtype) for n, v in given.items()}
        if layer.state is not None and "initial_state" not in given:
            given["initial_state"] = cast(layer.state, dtype)
        return getattr(layer.cell.fresh(dtype, engine, **flags), method)(**given, **more)

    def check(self, got, layer, given):
        """Outputs: the bits of a fresh layer, and near the reference."""
        assert_same_results(got, self.expected(layer, given, self.dtype, self.engine))
        for value, near in zip(got, self.expected(layer, given, np.float64, "reference"), strict=True):
            assert_close(value, near, FAR[self.dtype])

    def moved(self, layer, given):
        if layer.flags["stateful"]:
            layer.state = tuple(s.copy() for s in self.expected(layer, given, self.dtype, self.engine)[1:])

    # What people do.

    def call(self):
        layer = self.pick(self.layers)
        given = self.arguments(layer)
        dressed = self.dressed(given)
        before = copy.deepcopy(dressed)
        got = layer.rnn(**dressed)
        assert layer.rnn.engine_used == self.engine
        self.check(got, layer, given)
        assert_same_results(dressed, before)
        self.moved(layer, given)
        spoil(got, dressed)

    def differentiate(self):
        layer = self.pick(self.layers)
        given, less = self.arguments(layer), bool(self.rng.integers(2))
        dressed = self.dressed(given)
        output, pullback = layer.rnn.vjp(**dressed, recompute=less)
        same, fresh = self.expected(layer, given, self.dtype, self.engine, "vjp", recompute=less)
        assert_same_bits(output, same)
        dy, dstate = self.normal(*output.shape), None
        if self.rng.integers(2):
            dstate = (self.normal(len(output), self.units), self.normal(len(output), self.units))
        exact = self.expected(layer, given, np.float64, "reference", "vjp")[1](
            cast(dy, np.float64), cast(dstate, np.float64)
        )
        expected, near = fresh(dy, dstate), arrays_of(exact)
        for name, value in arrays_of(expected).items():
            assert_close(value, near[name], 4 * FAR[self.dtype], name)
        self.pending.append(Pending(pullback, dy, dstate, expected))
        self.moved(layer, given)
        spoil(output, dressed)

    def pull(self):
        if not self.pending:
            return
        waiting = self.pick(self.pending)
        dy, dstate = self.odd(waiting.dy), waiting.dstate and tuple(map(self.odd, waiting.dstate))
        got = waiting.pullback(dy, dstate)
        assert_same_results(got, waiting.expected)
        spoil(dy, dstate, got)

    def trace(self):
        layer = self.pick(self.layers)
        given = self.arguments(layer)
        dressed = self.dressed(given)
        got = layer.rnn.trace(**dressed)
        assert_same_results(got, self.expected(layer, given, self.dtype, self.engine, "trace"))
        self.moved(layer, given)
        spoil(got, dressed)

    def set_weights(self):
        layer = self.pick(self.layers)
        taken = layer.rnn.cell.get_weights()
        assert_same_results(taken, layer.cell.weights)
        layer.cell.weights = self.weights(layer.cell.options["use_bias"])
        given = [self.odd(w) for w in layer.cell.weights]
        layer.rnn.cell.set_weights(given)
        spoil(taken, given)

    def copy(self):
        layer = self.pick(self.layers)
        way = self.pick((copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))))
        cell = layer.cell if way is copy.copy else copy.deepcopy(layer.cell)
        self.layers.append(Layer(way(layer.rnn), cell, layer.flags, layer.state))
        assert vars(self.layers[-1].rnn).keys() == vars(layer.rnn).keys()
        if self.streams:
            fed = self.pick(self.streams)
            self.streams.append(Fed(way(fed.stream), fed.cell, fed.state))
            assert type(self.streams[-1].stream) is type(fed.stream)

    def keep_state(self):
        layer = self.pick(self.layers)
        if not layer.flags["stateful"]:
            return
        if layer.state is not None:
            taken = layer.rnn.state
            assert_same_results(taken, layer.state)
            spoil(taken)
        if self.rng.integers(2):
            layer.rnn.reset_state()
            layer.state = None
        else:
            layer.state = (self.normal(2, self.units), self.normal(2, self.units))
            given = tuple(map(self.odd, layer.state))
            layer.rnn.state = given
            spoil(given)

    def step_of_a_cell(self):
        layer = self.pick(self.layers)
        x, state = self.normal(2, self.inputs), (self.normal(2, self.units), self.normal(2, self.units))
        given = self.odd(x), tuple(map(self.odd, state))
        h, final = layer.rnn.cell(*given)
        _, *expected = layer.cell.fresh(self.dtype, self.engine)(x[:, None], state)
        h *= 1
        assert_same_results((h, *final), (expected[0], *expected))
        spoil(h, given)
        assert_same_bits(final.h, expected[0])

    def threads(self):
        layer = self.pick(self.layers)
        if layer.flags["stateful"]:
            return
        given = [self.arguments(layer) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            for got, one in zip(pool.map(lambda one: layer.rnn(**one), given), given, strict=True):
                assert_same_results(got, self.expected(layer, one, self.dtype, self.engine))

    def begin_a_stream(self):
        layer, batch = self.pick(self.layers), int(self.rng.integers(1, 4))
        if layer.flags["go_backwards"]:
            return
        zeros = np.zeros((batch, self.units), self.dtype)
        kept = Cell(list(layer.cell.weights), layer.cell.options)  # as they are now
        self.streams.append(Fed(self.pick((Stream, Named))(layer.rnn, batch), kept, (zeros, zeros)))

    def feed(self):
        if not self.streams:
            return
        fed = self.pick(self.streams)
        stream, B = fed.stream, fed.stream.batch
        assert_same_results(stream.state, fed.state)
        time = int(self.rng.integers(0, 4))
        x = self.normal(B, time, self.inputs)
        y, *state = fed.cell.fresh(self.dtype, self.engine, return_sequences=True)(x, fed.state)
        if self.rng.integers(2):
            given = self.odd(x)
            got = stream.push(given)
            assert_same_bits(got, y)
            spoil(got, given)
        else:
            for t in range(time):
                given = self.odd(x[:, t])
                assert_same_bits(stream.step(given), y[:, t])
                spoil(given)
        fed.state = tuple(s.copy() for s in state)
        if self.rng.integers(3) == 0:
            rows = self.rng.uniform(size=B) < 0.5
            stream.reset(self.odd(rows))
            fed.state = tuple(np.where(rows[:, None], self.dtype.type(0), s) for s in fed.state)
        elif self.rng.integers(3) == 0:
            fed.state = (self.normal(B, self.units), self.normal(B, self.units))
            given = tuple(map(self.odd, fed.state))
            stream.state = given
            spoil(given, stream.state)
