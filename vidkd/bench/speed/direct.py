"""Peers without anything of vidkd around the network: an ONNX file in ONNX Runtime or in OpenCV's DNN module, called directly."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError, ConfigError, first_line
from vidkd.base.extras import require

Answer: TypeAlias = Callable[[NDArray[Any]], object]
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """What a network itself takes: the shape of one sample and its type."""

    shape: tuple[int, ...]
    dtype: str

    def noise(self, count: int, seed: int) -> NDArray[Any]:
        """(count, ...): of integers over the whole range, else in 0..1."""
        rng, kind = np.random.default_rng(seed), np.dtype(self.dtype)
        if np.issubdtype(kind, np.integer):
            return rng.integers(0, 256, (count, *self.shape)).astype(kind)
        return rng.random((count, *self.shape)).astype(kind)

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.shape))}"


def open_onnxruntime(path: Path, *, threads: int, device: str, shape: Sequence[int] | None) -> tuple[Answer, NetworkInput]:
    """A session, called with the name of its input. shape: of one sample, where the file leaves sides open.

    Raises CheckpointError for a file that is no model, ConfigError for unknown sides, several inputs, or another device.
    """
    runtime = require("onnxruntime", "detect")
    _check(path, device)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors: they are raised anyway
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        raise CheckpointError(f"not a model that ONNX Runtime can run: {path}", reason=first_line(error)) from error
    ports = session.get_inputs()
    if len(ports) != 1 or ports[0].type not in DTYPES:
        found = ", ".join(f"{port.name} {port.type}" for port in ports)
        raise ConfigError(f"a network of one input of numbers is called directly: {path}", found=found)
    (port,) = ports
    told = [side if isinstance(side, int) and side > 0 else None for side in port.shape]
    form = NetworkInput(shape=_sample(told[1:], shape, path), dtype=np.dtype(DTYPES[port.type]).name)
    return _in_pieces(lambda batch: session.run(None, {port.name: batch}), told[0]), form


def open_opencv(path: Path, *, threads: int, device: str, shape: Sequence[int] | None) -> tuple[Answer, NetworkInput]:  # noqa: ARG001
    """A network of OpenCV, which has as many threads as OpenCV has. shape: of one sample, which OpenCV does not tell.

    Raises CheckpointError for a file that OpenCV cannot read, ConfigError without a shape, or for another device.
    """
    import cv2

    _check(path, device)
    form, batch = NetworkInput(shape=_sample([None] * len(shape or ()), shape, path), dtype="float32"), batch_of(path)
    try:
        network = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise CheckpointError(f"not a model that OpenCV can run: {path}", reason=first_line(error)) from error

    def answer(batch: NDArray[Any]) -> object:
        network.setInput(batch)
        return network.forward(network.getUnconnectedOutLayersNames())

    try:
        answer(form.noise(batch or 1, 0))
    except cv2.error as error:
        raise CheckpointError(f"OpenCV fails on an input of shape (1, {form}): {path}", reason=first_line(error)) from error
    return _in_pieces(answer, batch), form


def batch_of(path: Path) -> int | None:
    """The first side of the first input of an ONNX file that is no weights; None where it is left open. Raises CheckpointError."""
    onnx = require("onnx", "detect")
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # onnx raises protobuf's errors, whose class depends on its release
        raise CheckpointError(f"not a whole ONNX model: {path}", reason=first_line(error)) from error
    weights = {tensor.name for tensor in graph.initializer}
    sides = next(port.type.tensor_type.shape.dim for port in graph.input if port.name not in weights)
    return sides[0].dim_value or None


LIBRARIES: dict[str, Callable[..., tuple[Answer, NetworkInput]]] = {"onnxruntime": open_onnxruntime, "opencv": open_opencv}
NAMES = {"onnxruntime": "ONNX Runtime, called directly", "opencv": "OpenCV DNN, called directly"}


def _check(path: Path, device: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"model file not found: {path}")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"cannot use device '{device}' for a network that is called directly", hint="--device auto or cpu")


def _sample(told: Sequence[int | None], given: Sequence[int] | None, path: Path) -> tuple[int, ...]:
    """The shape of one sample: what the file says, and where it says nothing what is given."""
    sides = given if given is not None else told
    if len(sides) != len(told) or not sides or any(side is None or side < 1 for side in sides):
        raise ConfigError(f"sides of the input that the file leaves open: {path}", found=list(told), hint="input: [3, 416, 416]")
    if any(side not in (None, wanted) for side, wanted in zip(told, sides, strict=True)):
        raise ConfigError(f"not the input of {path}", found=list(told), input=list(sides))
    return tuple(int(side) for side in sides if side is not None)


def _in_pieces(run: Answer, most: int | None) -> Answer:
    """A file of fixed batch size is run once for each so many samples, the last time filled up."""
    if most is None:
        return run

    def answer(batch: NDArray[Any]) -> object:
        rows = np.resize(np.arange(len(batch)), math.ceil(len(batch) / most) * most)
        return [run(batch[rows[start : start + most]]) for start in range(0, len(rows), most)]

    return answer
