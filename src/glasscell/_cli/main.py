"""Defines the command line: each command reads its arguments and makes one call.

Exit codes: 0 done; 1 the work failed; 2 bad arguments or a missing package; 130 interrupted.
"""

# No `from __future__ import annotations` here: typer reads the annotations of functions that are made inside another.

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import glasscell
from glasscell import _doors
from glasscell._training.train import LARGEST_SEED, Engine, train

if TYPE_CHECKING:
    from typer import Typer

DEFAULT = SimpleNamespace(**{name: p.default for name, p in inspect.signature(train).parameters.items()})


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script: run one command and exit. arguments: default, those of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        import typer

        # Click's UsageError has no public name in typer, but its subclass BadParameter has.
        usage_error: Any = typer.BadParameter.__base__
        try:
            code = build_app()(args=given or ["--help"], prog_name="glasscell", standalone_mode=False)
        except usage_error as error:
            _stop(_usage(error, given), 2)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "glasscell":
            raise
        _stop(str(_doors.missing("glasscell train" if "train" in given else "glasscell", error)), 2)
    except ImportError as error:
        if not str(error).startswith(tuple(_doors.NEEDS)):  # the error is not from `_doors.missing`
            raise
        _stop(str(error), 2)
    sys.exit(code)


def _usage(error: Any, given: Sequence[str]) -> str:
    """Words an error in the arguments in one line: the command, the option, its value, and the known commands."""
    command = error.ctx.command_path if error.ctx else "glasscell"
    message = error.format_message().rstrip(".")
    names = error.param.opts if getattr(error, "param", None) else ()
    for name, value in zip(given, [*given[1:], ""], strict=True):
        name, equals, inside = name.partition("=")
        came = inside if equals else value
        if name in names and repr(came) not in message and came not in message.split():
            message += f", got {came!r}"
    known = error.ctx.command.commands if error.ctx and hasattr(error.ctx.command, "commands") else ()
    hint = f" The commands are {', '.join(known)}; glasscell --help says more." if known else ""
    return f"{command}: {message}{'' if message.endswith('?') else '.'}{hint}"


def build_app() -> "Typer":
    """The typer application. Raises: ModuleNotFoundError where typer is missing."""
    import typer

    def option(text: str, panel: str, **details: Any) -> Any:
        return typer.Option(help=text, rich_help_panel=panel, **details)

    app = typer.Typer(
        help="The LSTM cell as Keras defines it: open, fast and the same everywhere.",
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def print_version(wanted: bool) -> None:
        if wanted:
            print(f"glasscell {metadata.version('glasscell')}")
            raise typer.Exit

    @app.callback()
    def common(
        version: Annotated[
            bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
        ] = False,
    ) -> None: ...

    @app.command("train", epilog="Example: glasscell train --units 64 --epochs 40 --output runs/small")
    def train_command(
        output: Annotated[
            Path, option("Folder for model.keras, metrics.json and report.html; other files in it stay.", "Result")
        ] = DEFAULT.output,
        units: Annotated[int, option("Width of the LSTM.", "Model", min=1)] = DEFAULT.units,
        dropout: Annotated[float, option("Share of the inputs dropped, from 0 to below 1.", "Model")] = DEFAULT.dropout,
        recurrent_dropout: Annotated[
            float,
            option("Share of the hidden state dropped on its way back into the cell, from 0 to below 1.", "Model"),
        ] = DEFAULT.recurrent_dropout,
        epochs: Annotated[int, option("Passes over the recordings.", "Training", min=1)] = DEFAULT.epochs,
        batch_size: Annotated[int, option("Recordings a step.", "Training", min=1)] = DEFAULT.batch_size,
        learning_rate: Annotated[
            float, option("Peak of Adam's learning rate, above 0: warm-up, then a cosine towards zero.", "Training")
        ] = DEFAULT.learning_rate,
        seed: Annotated[
            int, option("The same seed gives the same model.", "Training", min=0, max=LARGEST_SEED)
        ] = DEFAULT.seed,
        engine: Annotated[Engine, option("Who runs the LSTM.", "Training")] = DEFAULT.engine,
    ) -> None:
        """Train an LSTM to tell nine speakers apart, on the recordings that ship with glasscell.

        Shows the accuracy on recordings it never heard beside two simple baselines, and writes the model, the
        numbers and a page that shows what every gate did.
        """
        arguments = dict(locals())
        interrupted = f"interrupted; nothing was written, {output} is as it was"
        _run("train", lambda: train(**arguments), arguments, OSError, interrupted)

    @app.command("trace", epilog="Example: glasscell trace model.keras sentences.npy --layer lstm -o report.html")
    def trace_command(
        model: Annotated[Path, typer.Argument(help="A .keras file that holds an LSTM.", metavar="MODEL")],
        data: Annotated[
            Path,
            typer.Argument(
                help="What the model receives: .npy; .npz with one array, or one named x; or .csv, a line for each "
                "step of one sequence, or, for a model of tokens, for each sequence; its first line may be names.",
                metavar="DATA",
            ),
        ],
        output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
        layer: Annotated[str | None, typer.Option(help="The LSTM's name, where the model has several.")] = None,
    ) -> None:
        """Show what an LSTM of a saved Keras model did with some data, step by step, and why.

        Writes one page that opens offline. Nothing in the files is executed.
        """
        from glasscell._cli import trace

        call = functools.partial(trace.main, model, data, output, layer)
        _run("trace", call, (), (trace.Refusal, OSError, MemoryError), f"interrupted; {output} is as it was")

    @app.command("bench", epilog="Example: glasscell bench --shape 1,100,64,64 --shape 64,50,512,512 --infer")
    def bench_command(
        shape: Annotated[
            list[str] | None,
            typer.Option(help="Rows, steps, features, units; can be given several times.", metavar="B,T,I,H"),
        ] = None,
        train: Annotated[bool | None, typer.Option("--train/--infer", help="Only one of the two.")] = None,
    ) -> None:
        """Time the LSTMs that are installed here, in turn, with equal threads, each result checked first.

        glasscell's in NumPy, PyTorch and Keras, torch.nn.LSTM, keras.layers.LSTM, and ONNX Runtime. Close everything
        else first.
        """
        from glasscell._cli import bench

        modes = {None: ("infer", "train"), True: ("train",), False: ("infer",)}[train]
        call = functools.partial(bench.main, shape or bench.SHAPES, modes)
        # RuntimeError: a wrong result. MemoryError: a shape beyond this machine.
        _run("bench", call, ["shape"], (RuntimeError, MemoryError), "interrupted")

    @app.command()
    def info() -> None:
        """Print what this installation is and can do: versions, instruction sets, threads, frameworks."""
        config = glasscell.show_config()
        width = max(map(len, config))
        for name, value in config.items():
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            print(f"{name:<{width}}  {'not found' if text is None else text}")

    return app


def _run(command: str, call: Callable[[], object], options: Iterable[str], failures: Any, interrupted: str) -> None:
    """Make the call. A bad option, a failure or Ctrl-C ends the process with one line; other errors are raised."""
    try:
        call()
    except ValueError as error:
        name, colon, reason = str(error).partition(": ")
        if name not in options or not colon:
            raise
        _stop(f"glasscell {command}: --{name.replace('_', '-')}: {reason}", 2)
    except failures as error:
        _stop(f"glasscell {command}: {error}", 1)
    except KeyboardInterrupt:
        _stop(f"glasscell {command}: {interrupted}", 130)


def _stop(message: str, code: int) -> NoReturn:
    """End with one line on standard error."""
    print(" ".join(message.split()), file=sys.stderr)
    raise SystemExit(code)
