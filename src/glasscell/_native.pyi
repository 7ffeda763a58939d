"""The C++ module, native/bindings/module.cpp. Arrays are C-contiguous, all of one dtype, float32 or float64.

A list holds the arrays of each direction, in the order that its name below says; None or an array of shape (0,) stands
for one that is not there.
"""

from typing import Any, Literal

from numpy.typing import NDArray

Array = NDArray[Any]

INPUTS: tuple[str, ...]
WEIGHTS: int
RESIDUALS: tuple[str, ...]
OUTPUTS: int
OPTION_CODES: tuple[str, ...]
ACTIVATIONS: tuple[str, ...]

def forward(
    x: Array,
    step_flags: Array | None,
    inputs: list[Any],
    option_codes: list[int],
    residuals: list[Any],
    packed: Any = None,
) -> None: ...
def backward(
    x: Array,
    step_flags: Array | None,
    inputs: list[Any],
    option_codes: list[int],
    residuals: list[Any],
    cotangents: list[Any],
    gradients: list[Any],
) -> None: ...
def pack(kernel: Array, recurrent_kernel: Array, bias: Array | None) -> Any: ...
def time_block_count(B: int, time: int) -> int: ...

class StreamFloat:
    def __init__(
        self, packed: Any, h: Array, c: Array, y: Array, y_row: Array | None, option_codes: list[int]
    ) -> None: ...
    def step(self, x: Any) -> Array | None: ...

class StreamDouble(StreamFloat): ...

def needs_raw_gates(activation: int, recurrent_activation: int, /) -> bool: ...
def infer(
    packed: object,
    x: Any,
    h0: Any,
    c0: Any,
    hT: Any,
    cT: Any,
    h: Any,
    activation: int,
    recurrent_activation: int,
    go_backwards: bool,
) -> bool: ...
def target() -> str: ...
def targets() -> list[str]: ...
def compiler() -> str: ...
def jax_handlers() -> dict[str, Any]: ...
def peak_flops(threads: int) -> float: ...
def l2_bandwidth(threads: int) -> float: ...
def use_openmp_threads(parallel: int, team_size: int, most_threads: int) -> None: ...
def uses_openmp_threads() -> bool: ...
def set_teams(how: Literal["measured", "always", "at_random"], /) -> None: ...
def num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
