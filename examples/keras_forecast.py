"""How many sunspots will there be next year? An LSTM on the yearly counts since 1700, which statsmodels has at hand.

The model sees a window of years and says the next one. It learns from the years before `--test-from` and is tested on
the rest, one year ahead each time. The scale, too, comes from the years to learn from alone.

    pip install ".[examples]"
    python examples/keras_forecast.py --plot forecast.svg
"""

import argparse
import sys

try:
    from glasscell.keras import LSTM  # isort: skip  # before Keras: it chooses a backend that is installed
    import keras
    import numpy as np
    from keras import layers
    from statsmodels.datasets import sunspots
except ImportError as error:
    sys.exit(f"{error}; all that this example needs: pip install '.[examples]'")

CYCLE = 11  # years from one maximum to the next, more or less
STYLES = [(":", "tab:gray"), ("--", "tab:gray"), ("-", "tab:orange"), ("-", "tab:blue")]  # of the four forecasts


def split(options):
    """Windows (N, window, 1), scaled, and the year after each: of the years to learn from and of those held out."""
    data = sunspots.load_pandas().data
    years, counts = data["YEAR"].to_numpy(int), data["SUNACTIVITY"].to_numpy()
    known = counts[years < options.test_from]
    mean, spread = known.mean(), known.std()
    windows = np.lib.stride_tricks.sliding_window_view((counts - mean) / spread, options.window)[:-1, :, None]
    next_years, next_counts = years[options.window :], counts[options.window :]
    parts = [
        (next_years[part], windows[part], next_counts[part])
        for part in (next_years < options.test_from, next_years >= options.test_from)
    ]
    return *parts, mean, spread


def linear(windows, targets, held_out):
    """Least squares on the same windows: what a forecast has to be measured by, beside the naive ones."""
    windows, held_out = (np.pad(w[..., 0], ((0, 0), (0, 1)), constant_values=1) for w in (windows, held_out))
    return held_out @ np.linalg.lstsq(windows, targets)[0]


def plot(path, years, truth, forecasts):
    """The held-out years: what was observed, and each forecast."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(years, truth, color="black", linewidth=2, label="observed")
    for (name, values), (style, color) in zip(forecasts.items(), STYLES, strict=True):
        axes.plot(years, values, style, color=color, label=name)
    axes.set(title="Sunspots, forecast one year ahead", xlabel="year", ylabel="sunspot number", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--window", type=int, default=CYCLE, help=f"years the model sees, {CYCLE} or more")
    parser.add_argument("--test-from", type=int, default=1960, help="the first year held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", metavar="FILE", help="draw the held-out years, as .svg, .png or .pdf")
    options = parser.parse_args()
    if options.window < CYCLE:
        parser.error(f"--window: expected {CYCLE} or more, got {options.window}")

    (_, x, target), (years, x_test, truth), mean, spread = split(options)
    keras.utils.set_random_seed(options.seed)
    lstm = LSTM(options.units)
    model = keras.Sequential([lstm, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(5e-3), "mae")
    model.fit(x, (target - mean) / spread, epochs=options.epochs)

    forecasts = {
        "last value": x_test[:, -1, 0] * spread + mean,
        f"value {CYCLE} years before": x_test[:, -CYCLE, 0] * spread + mean,
        "linear regression": linear(x, target, x_test),
        "LSTM": model.predict(x_test, verbose=0)[:, 0] * spread + mean,
    }
    print(f"\n{f'{years[0]} to {years[-1]}, one year ahead':32}mean absolute error")
    for name, values in forecasts.items():
        print(f"{name:32}{np.abs(values - truth).mean():19.1f}")
    print(f"engine: {lstm.engine_used}")
    if options.plot:
        plot(options.plot, years, truth, forecasts)
        print(f"drawn in {options.plot}")


if __name__ == "__main__":
    main()
