"""The C++ module: native/bindings/module.cpp. Arrays are C-contiguous, all of one dtype, float32 or float64."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def forward(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    packed: Any,
    h0: Array,
    c0: Array,
    steps: Array | None,
    dropout_mask: Array | None,
    recurrent_dropout_mask: Array | None,
    h: Array | None,
    c: Array | None,
    gates: Array | None,
    z: Array | None,
    cell_checkpoints: Array | None,
    hT: Array,
    cT: Array,
    *,
    activation: int,
    recurrent_activation: int,
    go_backwards: int,
) -> None: ...
def backward(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    h0: Array,
    c0: Array,
    steps: Array | None,
    dropout_mask: Array | None,
    recurrent_dropout_mask: Array | None,
    h: Array,
    c: Array | None,
    gates: Array | None,
    z: Array | None,
    cell_checkpoints: Array | None,
    dh_all: Array | None,
    dhT: Array,
    dcT: Array,
    dx: Array,
    d_kernel: Array,
    d_recurrent: Array,
    d_bias: Array | None,
    dh0: Array,
    dc0: Array,
    *,
    activation: int,
    recurrent_activation: int,
    go_backwards: int,
) -> None: ...
def pack(kernel: Array, recurrent_kernel: Array, bias: Array | None) -> Any: ...
def forward_directions(x: Array, steps: Array, own: list[Array], codes: list[int], kept: list[Array]) -> None: ...
def backward_directions(
    x: Array,
    steps: Array,
    own: list[Array],
    codes: list[int],
    kept: list[Array],
    cotangents: list[Array],
    gradients: list[Array],
) -> None: ...
def time_block_count(B: int, time: int) -> int: ...

class _Stream:
    def __init__(
        self,
        packed: Any,
        h: Array,
        c: Array,
        y: Array,
        y_row: Array | None,
        *,
        activation: int,
        recurrent_activation: int,
    ) -> None: ...
    def step(self, x: Any, /) -> Array | None: ...

class StreamFloat(_Stream): ...
class StreamDouble(_Stream): ...

def needs_raw_gates(activation: int, recurrent_activation: int, /) -> bool: ...
def target() -> str: ...
def targets() -> list[str]: ...
def compiler() -> str: ...
def jax_handlers() -> dict[str, Any]: ...
def peak_flops(threads: int) -> float: ...
def l2_bandwidth(threads: int) -> float: ...
def use_openmp_threads(parallel: int, team_size: int, most_threads: int) -> None: ...
def uses_openmp_threads() -> bool: ...
def num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
