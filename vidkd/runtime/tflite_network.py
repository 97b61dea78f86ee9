"""TFLite files through LiteRT."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.cores import available_cores
from vidkd.base.errors import CheckpointError, ConfigError, first_line
from vidkd.base.extras import require
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.network import Port

MOST_METADATA_BYTES = 2**20


class TfliteNetwork:
    """A `Network` on LiteRT."""

    device = "cpu"

    def __init__(self, interpreter: Any, path: Path) -> None:
        self.path = str(path)
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]
        self._output_details = {detail["name"]: detail for detail in interpreter.get_output_details()}
        self.inputs = [_port(detail) for detail in interpreter.get_input_details()]
        self.outputs = [_port(detail) for detail in self._output_details.values()]
        self.embedded = _embedded(path)

    def run(self, batch: NDArray[Any], outputs: Sequence[str]) -> list[NDArray[np.floating]]:
        """See `Network.run`."""
        try:
            if tuple(self._interpreter.get_input_details()[0]["shape"]) != batch.shape:
                self._interpreter.resize_tensor_input(self._input["index"], batch.shape)
                self._interpreter.allocate_tensors()
            self._interpreter.set_tensor(self._input["index"], batch)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(f"model fails on an input of shape {batch.shape}: {self.path}", reason=error) from error
        return [self._output(self._output_details[name]) for name in outputs]

    def _output(self, detail: dict[str, Any]) -> NDArray[np.floating]:
        """A copy: the interpreter writes its next results into the same memory."""
        values = self._interpreter.get_tensor(detail["index"])
        scale, zero = detail["quantization"]
        if np.issubdtype(values.dtype, np.floating):
            return np.asarray(values)
        return np.asarray((values.astype(np.float32) - zero) * scale if scale else values.astype(np.float64))


def open_tflite(path: Path, *, device: str = "auto", threads: int = 0) -> TfliteNetwork:
    """Load a TFLite file; it runs on the processor. threads: 0 takes the cores that this process may use.

    Raises CheckpointError if it is no model or truncated; ConfigError for another device; MissingExtraError without ai-edge-litert.
    """
    if device not in ("auto", "cpu"):
        raise ConfigError(f"cannot use device '{device}' for a TFLite file", reason="it runs on the processor", hint="--device auto or cpu")
    litert = require("ai_edge_litert.interpreter", "litert", package="ai-edge-litert")
    try:
        interpreter = litert.Interpreter(model_path=str(path), num_threads=threads or available_cores())
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        mend = "fetch it again; operations that LiteRT lacks may run as .onnx"
        raise CheckpointError(f"not a model that LiteRT can run: {path}", reason=first_line(error), hint=mend) from error
    if not interpreter.get_input_details():
        raise CheckpointError(f"model has no input: {path}")
    return TfliteNetwork(interpreter, path)


def _port(detail: dict[str, Any]) -> Port:
    shape = tuple(int(side) if side > 0 else None for side in detail["shape_signature"])
    scale, zero = detail["quantization"]
    return Port(
        name=detail["name"], shape=shape, dtype=np.dtype(detail["dtype"]), quantisation=(float(scale), int(zero)) if scale else None
    )


def _embedded(path: Path) -> str | None:
    """The entry of an archive appended to the file, which TFLite's own reader does not see."""
    name = f"{EMBEDDED_KEY}.json"
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                return None
            if archive.getinfo(name).file_size > MOST_METADATA_BYTES:
                raise CheckpointError(f"{name} in the model's archive is too large: {path}")
            return archive.read(name).decode("utf-8")
    except (zipfile.BadZipFile, zlib.error, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"archive of metadata in the model is damaged: {path}", reason=error, hint="fetch or export it again"
        ) from error
