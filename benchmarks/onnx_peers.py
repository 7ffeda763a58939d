"""ONNX Runtime and OpenVINO, which run the same LSTM from one ONNX model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.problem import Array, Problem, Work
from glasscell.weights import to_onnx


def onnx_model(problem: Problem) -> Any:
    """An LSTM node over time-major data.

    Inputs: X (T, B, I); with lengths also N (B,), the lengths, int32; in mode "step" also h and c, (1, B, H).
    Outputs: Y (T, 1, B, H); in mode "step" hT and cT, (1, B, H).
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    B, T, inputs, H = problem.shape
    step, lengths = problem.mode == "step", problem.lengths is not None
    state, y = (1, B, H), ("" if step else "Y")
    names = ["X", "W", "R", "B", "N" if lengths else "", *(["h", "c"] if step else [])]
    node = helper.make_node("LSTM", names, ["", "hT", "cT"] if step else [y], hidden_size=H)

    def value(name: str, shape: tuple[int, ...], dtype: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, dtype, shape)

    given = [value("X", (T, B, inputs))]
    if lengths:
        given.append(value("N", (B,), TensorProto.INT32))
    if step:
        given += [value("h", state), value("c", state)]
    results = [value("hT", state), value("cT", state)] if step else [value("Y", (T, 1, B, H))]
    initial = [numpy_helper.from_array(array, name) for name, array in to_onnx(problem.weights).items()]
    graph = helper.make_graph([node], "lstm", given, results, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


def _inputs(problem: Problem) -> dict[str, Array]:
    """What stays the same from call to call."""
    x = problem.x[None] if problem.mode == "step" else problem.x.swapaxes(0, 1)
    given = {"X": np.ascontiguousarray(x)}
    if problem.lengths is not None:
        given["N"] = problem.lengths.astype(np.int32)
    return given


def _work(problem: Problem, bind: Callable[[dict[str, Array]], Callable[[], object]]) -> Work:
    """bind(memory): a function that runs the model once with these arrays, by name, as its inputs and outputs.

    A step has two of them in turn, each with the other's final state as its initial one: no state is ever copied.
    """
    B, T, _, H = problem.shape

    def over(**arrays: Array) -> Work:
        memory = {**_inputs(problem), **arrays}
        run = bind(memory)

        def work() -> tuple[Array, ...]:
            run()
            y = memory["hT"] if "hT" in memory else memory["Y"]  # and so the memory lives as long as the work
            return (y[:, 0].swapaxes(0, 1) if y.ndim == 4 else y[0],)

        return work

    if problem.mode != "step":
        return over(Y=np.zeros((T, 1, B, H), np.float32))
    (h0, c0), (h1, c1) = np.zeros((2, 2, 1, B, H), np.float32)
    works = itertools.cycle((over(h=h0, c=c0, hT=h1, cT=c1), over(h=h1, c=c1, hT=h0, cT=c0)))
    return lambda: next(works)()


def onnx_runtime(problem: Problem) -> Work:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = problem.threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # As fast as with the default of some 60 ms, in which its waiting threads would double the next contestant's time.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    session = onnxruntime.InferenceSession(onnx_model(problem), options, providers=["CPUExecutionProvider"])

    def bind(memory: dict[str, Array]) -> Callable[[], object]:
        bound = session.io_binding()  # takes a third off the price of a small call
        for name, array in memory.items():
            attach = bound.bind_ortvalue_output if name in ("Y", "hT", "cT") else bound.bind_ortvalue_input
            attach(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return lambda: session.run_with_iobinding(bound)

    return _work(problem, bind)


def openvino(problem: Problem) -> Work:
    import openvino

    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": problem.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(onnx_model(problem)), "CPU", options)

    def bind(memory: dict[str, Array]) -> Callable[[], object]:
        request = compiled.create_infer_request()
        for name, array in memory.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        return lambda: request.infer()

    return _work(problem, bind)
