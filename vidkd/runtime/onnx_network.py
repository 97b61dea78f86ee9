"""ONNX files through ONNX Runtime."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError, ConfigError, first_line, require
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.network import Network, Port

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
# Variable by which, with 0, a user turns TF32 off in NVIDIA's libraries.
TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
# ONNX Runtime's step that turns layers into integers, with one scale a layer, which a file with integer layers keeps in float.
NOT_AS_WRITTEN = ["WeightBiasQuantization"]


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


class OnnxNetwork(Network):
    """A `Network` on ONNX Runtime. device: cuda where it has started there, else cpu."""

    def __init__(self, session: Any, path: Path) -> None:
        inputs, outputs = ([_port(item) for item in items] for items in (session.get_inputs(), session.get_outputs()))
        super().__init__(path, inputs, outputs, session.get_modelmeta().custom_metadata_map.get(EMBEDDED_KEY))
        self._session = session
        # what the session has started, not what was asked for: it falls back to the processor by itself
        self.device = "cuda" if CUDA in session.get_providers() else "cpu"

    def _run(self, given: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Sequence[NDArray[Any]]:
        return list(self._session.run(list(outputs), dict(given)))


def open_onnx(path: Path, *, device: str = "auto", threads: int = 0) -> OnnxNetwork:
    """Load an ONNX file. device: "cpu", "cuda", or "auto" for CUDA where ONNX Runtime has it. threads: 0 lets ONNX Runtime choose.

    Raises CheckpointError if it is no model, truncated, or its weights in other files are missing; ConfigError if the device is not there;
    MissingExtraError without onnxruntime.
    """
    runtime = require("onnxruntime", "detect", package="onnxruntime")
    options, available = session_options("detect", threads=threads), runtime.get_available_providers()
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"cannot use device '{device}' for an ONNX file", hint="--device auto, cpu or cuda")
    try:
        providers = _providers(device, available)
        session = runtime.InferenceSession(str(path), options, providers=providers, disabled_optimizers=NOT_AS_WRITTEN)
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        hint = "fetch or export it again; vidkd export writes what ONNX Runtime runs"
        raise CheckpointError(f"not a model that ONNX Runtime can run: {path}", reason=first_line(error), hint=hint) from error
    network = OnnxNetwork(session, path)
    if device == "cuda" and network.device != "cuda":
        reason = "ONNX Runtime could not start CUDA" if CUDA in available else "this ONNX Runtime is built without CUDA"
        raise ConfigError("cannot use device 'cuda'", reason=reason, hint="pip install onnxruntime-gpu, or --device auto or cpu")
    return network


def _providers(device: str, available: Sequence[str]) -> list[str | tuple[str, dict[str, str]]]:
    """What a session may run on, with options: ONNX Runtime multiplies in TF32 on a GPU unless an option of its own says otherwise."""
    cuda = (CUDA, {"use_tf32": "0"}) if os.environ.get(TF32_OVERRIDE) == "0" else CUDA
    return [*([cuda] if device != "cpu" and CUDA in available else []), "CPUExecutionProvider"]


def _port(item: Any) -> Port:
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in item.shape)
    return Port(name=item.name, shape=shape, dtype=np.dtype(DTYPES.get(item.type, np.object_)))
