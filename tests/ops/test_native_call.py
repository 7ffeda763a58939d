"""The extension module checks each array once more: its checks keep reads and writes inside the arrays."""

import numpy as np
import pytest

from glasscell import _native
from glasscell._ops.operands import ACTIVATION_CODES, INPUTS, RESIDUALS
from native_call import BACKWARD, CODES, FORWARD, SHAPES, B, H, I, T, backward, forward, is_optional, native_arguments


def floats(*shape, dtype="f4"):
    return np.ones(shape, dtype)


def refuses(call, arguments):
    try:
        call(arguments)
    except (ValueError, TypeError):
        return True
    return False


@pytest.mark.parametrize("call", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_native_functions_refuse(call, dtype):
    """Each array in turn: too small, too large, of another rank, dtype or layout, not an array."""
    good = native_arguments(SHAPES[call], dtype)
    call(good)
    other = np.float64 if dtype == np.float32 else np.float32
    for name, shape in SHAPES[call].items():
        array = good[name]
        wrong = [np.ones((*shape[:k], n + more, *shape[k + 1 :]), array.dtype) for k, n in enumerate(shape)
                 for more in (-1, 1)]  # fmt: skip
        wrong += [array[None], array.reshape(-1)[0], array.astype(other), array.astype(np.int64), "text"]
        if array.ndim > 1:
            wrong += [array.reshape(-1), np.asfortranarray(array) if min(shape) > 1 else array[0]]
        if not is_optional(name, call):
            wrong.append(None)
        for value in wrong:
            described = f"{name} of {getattr(value, 'shape', value)} {getattr(value, 'dtype', '')}"
            assert refuses(call, {**good, name: value}), described


@pytest.mark.parametrize("call", SHAPES)
def test_native_functions_take_what_is_optional(call):
    """None or a placeholder stands for any, alone or all at once; backward goes by the tape or by checkpoints."""
    optional = [name for name in SHAPES[call] if is_optional(name, call)]
    most = optional if call is forward else [name for name in optional if name != "cell_checkpoints"]
    for missing in [*([name] for name in optional), most]:
        for placeholder in (False, True):
            arguments = native_arguments(SHAPES[call])
            for name in missing:
                arguments[name] = np.empty(0, arguments[name].dtype) if placeholder else None
            result = "hT" if call is forward else "d_kernel"
            arguments[result][...] = np.nan
            call(arguments)
            assert np.isfinite(arguments[result]).all()


@pytest.mark.parametrize("call", SHAPES)
def test_native_functions_refuse_codes_and_read_only_outputs(call):
    good = native_arguments(SHAPES[call])
    for name in ("activation", "recurrent_activation"):
        for code in (-1, len(ACTIVATION_CODES), 2**31 - 1, 2**40, 1.5, "tanh", None):
            with pytest.raises((ValueError, TypeError)):
                call(good, {**CODES, name: code})
    output = "cT" if call is forward else "d_c0"
    good[output].flags.writeable = False
    with pytest.raises((ValueError, TypeError)):
        call(good)
    with pytest.raises(TypeError):
        getattr(_native, call.__name__)()


def test_lists_that_do_not_fit_are_refused():
    good = native_arguments(FORWARD)
    inputs, residuals, codes = [good[n] for n in INPUTS], [good[n] for n in RESIDUALS], [*CODES.values()]
    for own, options, message in (
        (inputs[:-1], codes, "inputs: expected 7, got 6"),
        (inputs, [], "option_codes: expected some for each direction, got none"),
        (inputs, codes[:-1] + codes, "option_codes: expected 4, got 7"),
        (inputs, [99, *codes[1:]], f"activation: expected 0..{len(ACTIVATION_CODES) - 1}, got 99"),
        ([*inputs[:3], floats(B, H - 1), *inputs[4:]], codes, r"h0: expected shape \(2,5,\), got \(2,4,\)"),
        ([*inputs[:6], floats(1, 2, 4)], codes, r"recurrent_dropout_mask: expected shape \(1,2,5,\)"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            _native.forward(good["x"], good["step_flags"], own, options, residuals)


def test_native_backward_wants_the_raw_gates_it_needs():
    good = {**native_arguments(BACKWARD), "cell_checkpoints": None}
    silu = ACTIVATION_CODES["silu"]
    assert _native.needs_raw_gates(silu, 1)
    assert not _native.needs_raw_gates(0, 1)
    for absent in (None, floats(0)):
        with pytest.raises(ValueError, match="z: expected the raw gates"):
            backward({**good, "z": absent}, {**CODES, "activation": silu})
        for missing in ("c", "gates"):
            message = "c, gates: expected what forward kept, or cell_checkpoints, got neither"
            with pytest.raises(ValueError, match=message):
                backward({**good, missing: absent})
    with pytest.raises((ValueError, TypeError)):
        _native.needs_raw_gates(99, 0)


def test_native_forward_refuses_what_another_cell_packed():
    good = native_arguments(FORWARD)
    weights = [good[name] for name in ("kernel", "recurrent_kernel", "bias")]
    packed = _native.pack(*weights)
    forward(good, packed=packed)
    for wrong in (floats(I + 1, 4 * H), floats(2 * I, 4 * H)):
        with pytest.raises(ValueError, match="packed: expected the weights of this call, got those of other sizes"):
            forward(good, packed=_native.pack(wrong, *weights[1:]))
    for wrong in (_native.pack(*(w.astype("f8") for w in weights)), weights[0], "packed"):
        with pytest.raises(TypeError):
            forward(good, packed=wrong)
    for wrong in ((weights[0][0], *weights[1:]), (*weights[:2], weights[2][1:]), (None, *weights[1:])):
        with pytest.raises((ValueError, TypeError)):
            _native.pack(*wrong)


def native_stream(h, c, **wrong):
    packed = _native.pack(floats(I, 4 * H), floats(H, 4 * H), floats(4 * H))
    given = {"packed": packed, "h": h, "c": c, "y": h, "y_row": None, "option_codes": [*CODES.values()]}
    return _native.StreamFloat(**{**given, **wrong})


def test_native_streams_refuse():
    h, c = floats(B, H), floats(B, H)
    native_stream(h, c)
    frozen = floats(B, H)
    frozen.flags.writeable = False
    for wrong in (floats(B, H + 1), floats(B + 1, H), floats(B), floats(B, H, dtype="f8"), None, frozen):
        with pytest.raises((ValueError, TypeError)):
            native_stream(h, wrong)
    doubles = _native.pack(floats(I, 4 * H, dtype="f8"), floats(H, 4 * H, dtype="f8"), None)
    for wrong in (
        {"h": floats(H)},
        {"packed": doubles},
        {"packed": None},
        {"option_codes": [99, 1, 0, 0]},
        {"option_codes": [0, 1, 1, 0]},
        {"option_codes": [0]},
    ):
        with pytest.raises((ValueError, TypeError)):
            native_stream(**{"h": h, "c": c, **wrong})


@pytest.mark.parametrize("sizes", [(0, T, I, H), (B, 0, I, H), (B, T, 0, H), (B, T, I, 0), (0, 0, 0, 0)])
def test_native_functions_take_empty_arrays(sizes):
    renamed = dict(zip((B, T, I, H), sizes, strict=True))
    for call in SHAPES:

        def resized(n):
            return 4 * sizes[3] if n == 4 * H else renamed[n]

        resized_shapes = {
            name: tuple(n if name in ("gates", "z", "dropout_mask", "recurrent_dropout_mask") and k == gate_axis(name)
                        else resized(n) for k, n in enumerate(shape)) for name, shape in SHAPES[call].items()
            if name != "cell_checkpoints"
        }  # fmt: skip
        resized_shapes["cell_checkpoints"] = (_native.time_block_count(*sizes[:2]), sizes[0], sizes[3])
        arguments = native_arguments(resized_shapes)
        call({**arguments, "cell_checkpoints": None})
        call(arguments)


def gate_axis(name):
    return 0 if name.endswith("mask") else 2
