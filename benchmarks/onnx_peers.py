"""ONNX Runtime and OpenVINO, which run the same LSTM from one ONNX model."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.problem import Array, Problem
from glasscell._cells.layouts import to_onnx
from glasscell._cli.contestants import Work, onnx_session

Memory = dict[str, Array]  # the inputs and outputs of a model, by name
INPUTS, OUTPUTS = ("X", "W", "R", "B", "N", "h", "c"), ("Y", "hT", "cT")  # the node's, in ONNX's order


def _work(problem: Problem, load: Callable[[bytes], Callable[[Memory], Callable[[], object]]]) -> Work:
    """A work of a runtime. load: turns a model into a function that binds memory once and gives a function to run it.

    A step has two memories in turn, each with the other's final state as its initial one: no state is ever copied.
    """
    (B, T, _, H), step = problem.shape, problem.mode == "step"
    memory = {"X": np.ascontiguousarray(problem.x[None] if step else problem.x.swapaxes(0, 1))}
    if problem.lengths is not None:
        memory["N"] = problem.lengths.astype(np.int32)
    if step:
        memory |= {name: np.zeros((1, B, H), np.float32) for name in ("h", "c", "hT", "cT")}
    else:
        memory["Y"] = np.zeros((T, 1, B, H), np.float32)
    bind = load(_model(problem, memory))
    if not step:
        run = bind(memory)
        return lambda: (run(), (memory["Y"][:, 0].swapaxes(0, 1),))[1]  # keeps the memory alive
    back = {**memory, "h": memory["hT"], "c": memory["cT"], "hT": memory["h"], "cT": memory["c"]}
    turns = itertools.cycle([(bind(memory), memory["hT"][0]), (bind(back), back["hT"][0])])

    def work() -> tuple[Array, ...]:
        run, h = next(turns)
        run()
        return (h,)

    return work


def _model(problem: Problem, memory: Memory) -> bytes:
    """An LSTM node over time-major data.

    memory: X (T, B, I), the lengths N (B,), the states h, c, hT and cT (1, B, H), Y (T, 1, B, H), as far as needed.
    """
    constants = {name: numpy_helper.from_array(array, name) for name, array in to_onnx(problem.weights).items()}
    values = {n: helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
              for n, a in memory.items()}  # fmt: skip
    names = [[n if n in constants or n in memory else "" for n in order] for order in (INPUTS, OUTPUTS)]
    node = helper.make_node("LSTM", *names, hidden_size=problem.shape.H)
    given, results = ([values[name] for name in order if name in values] for order in names)
    graph = helper.make_graph([node], "lstm", given, results, list(constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def onnx_runtime(problem: Problem) -> Work:
    from onnxruntime import OrtValue

    def load(model: bytes) -> Callable[[Memory], Callable[[], object]]:
        session = onnx_session(model, problem.threads)

        def bind(memory: Memory) -> Callable[[], object]:
            bound = session.io_binding()  # takes a third off the price of a small call
            for name, array in memory.items():
                attach = bound.bind_ortvalue_output if name in OUTPUTS else bound.bind_ortvalue_input
                attach(name, OrtValue.ortvalue_from_numpy(array))
            return lambda: session.run_with_iobinding(bound)

        return bind

    return _work(problem, load)


def openvino(problem: Problem) -> Work:
    from openvino import Core, Tensor

    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}

    def load(model: bytes) -> Callable[[Memory], Callable[[], object]]:
        core = Core()
        given = {"INFERENCE_NUM_THREADS": problem.threads, **options}
        compiled = core.compile_model(core.read_model(model), "CPU", given)

        def bind(memory: Memory) -> Callable[[], object]:
            request = compiled.create_infer_request()
            for name, array in memory.items():
                request.set_tensor(name, Tensor(array, shared_memory=True))
            return lambda: request.infer()

        return bind

    return _work(problem, load)
