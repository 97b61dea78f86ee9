"""Peers without anything of vidkd around the network: an ONNX file in ONNX Runtime or in OpenCV's DNN module, called directly."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError, ConfigError, first_line, require

Answer: TypeAlias = Callable[[NDArray[Any]], object]
Sides: TypeAlias = Sequence[int | None]
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(uint8)": "uint8"}
NAMES = {"onnxruntime": "ONNX Runtime, called directly", "opencv": "OpenCV DNN, called directly"}


def open_directly(
    path: Path, library: str, *, threads: int, device: str, shape: Sequence[int] | None
) -> tuple[Answer, tuple[int, ...], str]:
    """What answers a batch, the shape of one sample, and its type. shape: of one sample, where the file leaves sides open.

    Raises CheckpointError for a file that is no model that the library can run; ConfigError for sides that are not known, several inputs,
    or a device other than the processor.
    """
    if not path.is_file():
        raise CheckpointError(f"model file not found: {path}")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"cannot use device '{device}' for a network that is called directly", hint="--device auto or cpu")
    try:
        answer, sides, dtype = (_open_onnxruntime if library == "onnxruntime" else _open_opencv)(path, threads)
        sample = _sample(sides[1:], shape, path)
        answer = _in_pieces(answer, sides[0])
        if library == "opencv":  # which finds out only now whether it can run it
            answer(np.zeros((1, *sample), dtype))
    except ConfigError:
        raise
    except Exception as error:  # the libraries' errors share no class of their own
        raise CheckpointError(f"not a model that {NAMES[library].partition(',')[0]} can run: {path}", reason=first_line(error)) from error
    return answer, sample, dtype


def _open_onnxruntime(path: Path, threads: int) -> tuple[Answer, Sides, str]:
    runtime = require("onnxruntime", "detect")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors: they are raised anyway
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ports = session.get_inputs()
    if len(ports) != 1 or ports[0].type not in DTYPES:
        found = ", ".join(f"{port.name} {port.type}" for port in ports)
        raise ConfigError(f"a network of one input of numbers is called directly: {path}", found=found)
    sides = [side if isinstance(side, int) and side > 0 else None for side in ports[0].shape]
    return lambda batch: session.run(None, {ports[0].name: batch}), sides, DTYPES[ports[0].type]


def _open_opencv(path: Path, _threads: int) -> tuple[Answer, Sides, str]:
    """OpenCV has as many threads for a network as for all else; it does not report the shape of an input."""
    import cv2

    graph = require("onnx", "detect").load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    sides = next(port.type.tensor_type.shape.dim for port in graph.input if port.name not in weights)
    network = cv2.dnn.readNetFromONNX(str(path))

    def answer(batch: NDArray[Any]) -> object:
        network.setInput(batch)
        return network.forward(network.getUnconnectedOutLayersNames())

    return answer, [side.dim_value or None for side in sides], "float32"


def _sample(known: Sides, given: Sequence[int] | None, path: Path) -> tuple[int, ...]:
    """The shape of one sample: what the file says, and what is given where it leaves a side open."""
    sides = known if given is None else given
    if len(sides) != len(known) or any(side is None for side in sides):
        raise ConfigError(f"sides of the input that the file leaves open: {path}", found=list(known), hint="input: [3, 416, 416]")
    if any(side not in (None, wanted) for side, wanted in zip(known, sides, strict=True)):
        raise ConfigError(f"not the input of {path}", found=list(known), input=list(sides))
    return tuple(int(side) for side in sides if side is not None)


def _in_pieces(run: Answer, most: int | None) -> Answer:
    """A file of fixed batch size is run once for each so many samples, the last time filled up."""
    if most is None:
        return run

    def answer(batch: NDArray[Any]) -> object:
        rows = np.resize(np.arange(len(batch)), math.ceil(len(batch) / most) * most)
        return [run(batch[rows[start : start + most]]) for start in range(0, len(rows), most)]

    return answer
