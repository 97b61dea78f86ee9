"""ONNX files through ONNX Runtime."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError, ConfigError, first_line
from vidkd.base.extras import require
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.network import Port

DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


CUDA = "CUDAExecutionProvider"
TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""Variable by which, with 0, a user turns TF32 off in NVIDIA's libraries."""
NOT_AS_WRITTEN = ["WeightBiasQuantization"]
"""ONNX Runtime's step that turns layers into integers, with one scale a layer, which a file with integer layers keeps in float."""


def session_options(extra: str, *, threads: int = 0) -> Any:
    """Options of a session on so many threads, 0 for as many as ONNX Runtime chooses, which sleep while they wait (see `base.cores`).

    extra: the one of vidkd's extras that the caller needs. Raises MissingExtraError without onnxruntime.
    """
    options = require("onnxruntime", extra).SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only, which are raised anyway; warnings are for the author of the file
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def external_files(path: Path) -> set[str]:
    """Names of the files of weights that an ONNX file refers to, as written in it.

    Found by the protobuf encoding of the key `location` of `TensorProto.external_data`, so that the package onnx is not needed.
    """
    content, names = path.read_bytes(), set()
    for found in re.finditer(rb"\n\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])", content):
        first, *second = found[1]
        length = (first & 0x7F) + (second[0] << 7 if second else 0)
        names.add(content[found.end() : found.end() + length].decode("utf-8", "surrogateescape"))
    return names


class OnnxNetwork:
    """A `Network` on ONNX Runtime. device: cuda where it has started there, else cpu."""

    def __init__(self, session: Any, path: Path) -> None:
        self.path = str(path)
        self._session = session
        self.inputs = [_port(item) for item in session.get_inputs()]
        self.outputs = [_port(item) for item in session.get_outputs()]
        self.embedded: str | None = session.get_modelmeta().custom_metadata_map.get(EMBEDDED_KEY)
        # what the session has started, not what was asked for: it falls back to the processor by itself
        self.device = "cuda" if CUDA in session.get_providers() else "cpu"

    def run(
        self, batch: NDArray[Any], outputs: Sequence[str], further: Mapping[str, NDArray[Any]] | None = None
    ) -> list[NDArray[np.floating]]:
        """See `Network.run`; further: what the inputs after the first get, by name."""
        try:
            arrays = self._session.run(list(outputs), {self.inputs[0].name: batch, **(further or {})})
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            raise CheckpointError(f"model fails on an input of shape {batch.shape}: {self.path}", reason=first_line(error)) from error
        return [array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64) for array in arrays]


def open_onnx(path: Path, *, device: str = "auto", threads: int = 0) -> OnnxNetwork:
    """Load an ONNX file. device: "cpu", "cuda", or "auto" for CUDA where ONNX Runtime has it. threads: 0 lets ONNX Runtime choose.

    Raises CheckpointError if it is no model, truncated, or its weights in other files are missing; ConfigError if the device is not there;
    MissingExtraError without onnxruntime.
    """
    runtime = require("onnxruntime", "detect", package="onnxruntime")
    providers = _providers(device, runtime.get_available_providers())
    options = session_options("detect", threads=threads)
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers, disabled_optimizers=NOT_AS_WRITTEN)
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        mend = "fetch or export it again; vidkd export writes what ONNX Runtime runs"
        raise CheckpointError(f"not a model that ONNX Runtime can run: {path}", reason=first_line(error), hint=mend) from error
    network = OnnxNetwork(session, path)
    if device == "cuda" and network.device != "cuda":
        raise ConfigError("cannot use device 'cuda'", reason="ONNX Runtime could not start CUDA", hint="--device auto or cpu")
    if not network.inputs:
        raise CheckpointError(f"model has no input: {path}")
    return network


def _providers(device: str, available: Sequence[str]) -> list[str | tuple[str, dict[str, str]]]:
    """What a session may run on, with options: ONNX Runtime multiplies in TF32 on a GPU unless it is told by an option of its own."""
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"cannot use device '{device}' for an ONNX file", hint="--device auto, cpu or cuda")
    if device == "cuda" and CUDA not in available:
        reason = "this ONNX Runtime is built without CUDA"
        raise ConfigError("cannot use device 'cuda'", reason=reason, hint="pip install onnxruntime-gpu, or --device auto or cpu")
    wanted = ["CPUExecutionProvider"] if device == "cpu" else [CUDA, "CPUExecutionProvider"]
    options = {CUDA: {"use_tf32": "0"}} if os.environ.get(TF32_OVERRIDE) == "0" else {}
    return [(name, options[name]) if name in options else name for name in wanted if name in available]


def _port(item: Any) -> Port:
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in item.shape)
    return Port(name=item.name, shape=shape, dtype=np.dtype(DTYPES.get(item.type, np.object_)))
