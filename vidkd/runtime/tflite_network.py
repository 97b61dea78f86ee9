"""TFLite files through LiteRT."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.cores import available_cores
from vidkd.base.errors import CheckpointError, first_line, require
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.network import Network, Port, check_processor

ENTRY = f"{EMBEDDED_KEY}.json"
MOST_METADATA_BYTES = 2**20


class TfliteNetwork(Network):
    """A `Network` on LiteRT."""

    def __init__(self, interpreter: Any, path: Path) -> None:
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        super().__init__(path, [_port(detail) for detail in inputs], [_port(detail) for detail in outputs], _embedded(path))
        self._interpreter = interpreter
        self._outputs = {detail["name"]: detail for detail in outputs}

    def _run(self, given: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Sequence[NDArray[Any]]:
        (batch,), detail = given.values(), self._interpreter.get_input_details()[0]
        if tuple(detail["shape"]) != batch.shape:
            self._interpreter.resize_tensor_input(detail["index"], batch.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(detail["index"], batch)
        self._interpreter.invoke()
        return [self._output(self._outputs[name]) for name in outputs]

    def _output(self, detail: dict[str, Any]) -> NDArray[Any]:
        values = self._interpreter.get_tensor(detail["index"])
        scale, zero = detail["quantization"]
        quantised = scale and not np.issubdtype(values.dtype, np.floating)
        return np.asarray((values.astype(np.float32) - zero) * scale if quantised else values)


def open_tflite(path: Path, *, device: str = "auto", threads: int = 0) -> TfliteNetwork:
    """Load a TFLite file; it runs on the processor. threads: 0 takes the cores that this process may use.

    Raises CheckpointError if it is no model or truncated; ConfigError for another device; MissingExtraError without ai-edge-litert.
    """
    check_processor(device, "LiteRT")
    litert = require("ai_edge_litert.interpreter", "litert", package="ai-edge-litert")
    try:
        interpreter = litert.Interpreter(model_path=str(path), num_threads=threads or available_cores())
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        hint = "fetch it again; operations that LiteRT lacks may run as .onnx"
        raise CheckpointError(f"not a model that LiteRT can run: {path}", reason=first_line(error), hint=hint) from error
    return TfliteNetwork(interpreter, path)


def _port(detail: dict[str, Any]) -> Port:
    shape = tuple(int(side) if side > 0 else None for side in detail["shape_signature"])
    scale, zero = detail["quantization"]
    return Port(
        name=detail["name"], shape=shape, dtype=np.dtype(detail["dtype"]), quantisation=(float(scale), int(zero)) if scale else None
    )


def _embedded(path: Path) -> str | None:
    """The entry of an archive appended to the file, which TFLite's own reader does not see."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = {info.filename: info.file_size for info in archive.infolist()}
            if names.get(ENTRY, MOST_METADATA_BYTES) >= MOST_METADATA_BYTES:  # not there, or no metadata
                return None
            return archive.read(ENTRY).decode("utf-8")
    except (zipfile.BadZipFile, zlib.error, UnicodeDecodeError) as error:
        what = f"archive of metadata in the model is damaged: {path}"
        raise CheckpointError(what, reason=error, hint="fetch or export it again") from error
