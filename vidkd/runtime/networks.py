"""A model's file, ready to run: arrays in, arrays out, by ONNX Runtime, OpenVINO or LiteRT.

OpenVINO has the network in `model.xml` and its weights in `model.bin` next to it; it runs ONNX files too.
"""

import contextlib
import ctypes
import os
import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vidkd.base.cores import available_cores
from vidkd.base.errors import CheckpointError, ConfigError, VidkdError, first_line, require
from vidkd.base.files import sha256
from vidkd.runtime.metadata import EMBEDDED_KEY


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output as the file declares it. shape: None for a side that is left open. dtype: of the array that goes in or comes out.

    quantisation: (scale, zero point) of an integer input that means scale * (integer - zero point); None where values are plain.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    quantisation: tuple[float, int] | None = None

    def fits(self, *wanted: int) -> bool:
        """Whether its sides behind the batch are these, or left open."""
        return len(self.shape) == 1 + len(wanted) and all(side in (None, want) for side, want in zip(self.shape[1:], wanted, strict=True))


class Network(ABC):
    """An opened file; made by `open_onnx`, `open_openvino` and `open_tflite`. For one thread at a time.

    device: where it really runs, cpu or cuda. embedded: the metadata that the file carries as JSON text; None where it carries none.
    """

    device = "cpu"
    # How lines of the library's errors begin that say nothing of the file.
    noise: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path, inputs: list[Port], outputs: list[Port], embedded: str | None) -> None:
        if not inputs:  # an empty file, which is a whole message of ONNX
            raise CheckpointError(f"model has no input: {path}")
        self.path, self.inputs, self.outputs, self.embedded = str(path), inputs, outputs, embedded

    @abstractmethod
    def _run(self, given: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Sequence[NDArray[Any]]:
        """The named outputs, as the library gives them: copies where it writes into the same memory again."""

    def run(
        self, batch: NDArray[Any], outputs: Sequence[str], further: Mapping[str, NDArray[Any]] | None = None
    ) -> list[NDArray[np.floating]]:
        """The named outputs (B, ...) for a batch in the input's own type and layout, in the order of the names, as floating point.

        further: what the inputs after the first get, by name. Raises CheckpointError if the run fails.
        """
        try:
            arrays = self._run({self.inputs[0].name: batch, **(further or {})}, outputs)
        except Exception as error:  # the libraries' errors share no class
            reason = first_line(error, leave_out=self.noise)
            raise CheckpointError(f"model fails on an input of shape {batch.shape}: {self.path}", reason=reason) from error
        return [array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64) for array in arrays]


def check_processor(device: str, library: str) -> None:
    """Raise ConfigError for another device than the processor, where a library runs on that alone."""
    if device not in ("auto", "cpu"):
        reason = f"vidkd runs {library} on the processor"
        raise ConfigError(f"cannot use device '{device}' in {library}", reason=reason, hint="--device auto or cpu")


def misfit(network: Network, reason: object) -> ConfigError:
    """The error for a file that is not as its metadata say."""
    return ConfigError(f"model and metadata do not fit: {network.path}", reason=reason)


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
        inputs, outputs = (list(map(_onnx_port, items)) for items in (session.get_inputs(), session.get_outputs()))
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


def _onnx_port(item: Any) -> Port:
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in item.shape)
    return Port(name=item.name, shape=shape, dtype=np.dtype(DTYPES.get(item.type, np.object_)))


# Processors that have bfloat16 would compute in it unasked.
PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}
# Entry of an .xml with the sha256 of its .bin, where vidkd wrote them.
WEIGHTS_KEY = "vidkd_weights"
# Bytes at the end of an .xml that hold its last tag.
END_READ = 64
# How lines of an error begin that say something of OpenVINO's code and not of the file.
ABOUT_ITSELF = ("Exception from", "Check ", "FrontEnd API failed", "Model wasn't fully converted", "Summary:", "Loading input model")


class _SignalStack(ctypes.Structure):
    """stack_t of POSIX."""

    _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def compiled(core: Any, model: Any, settings: Mapping[str, Any]) -> Any:
    """`core.compile_model` on the processor, which leaves this thread's stack for signals as it was.

    OpenVINO gives the thread one of its own and frees it with the network; a Ctrl-C after that would end the process.
    """
    change = getattr(ctypes.CDLL(None), "sigaltstack", None) if os.name == "posix" else None
    before = _SignalStack()
    if change is not None:
        change(None, ctypes.byref(before))
    try:
        return core.compile_model(model, "CPU", dict(settings))
    finally:
        if change is not None:
            change(ctypes.byref(before), None)


class OpenVinoNetwork(Network):
    """A `Network` on OpenVINO."""

    noise = ABOUT_ITSELF

    def __init__(self, compiled: Any, path: Path, embedded: str | None) -> None:
        super().__init__(
            path, [_openvino_port(item) for item in compiled.inputs], [_openvino_port(item) for item in compiled.outputs], embedded
        )
        self._compiled = compiled

    def _run(self, given: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Sequence[NDArray[Any]]:
        found = self._compiled(dict(given))
        return [np.array(found[name]) for name in outputs]


def open_openvino(path: Path, *, device: str = "auto", threads: int = 0) -> OpenVinoNetwork:
    """Load OpenVINO's .xml and the .bin next to it, or an .onnx file; it runs on the CPU in float32. threads: 0 lets OpenVINO choose.

    Raises CheckpointError if it is no model, truncated, or an .xml without its own .bin; ConfigError for another device; MissingExtraError
    without openvino.
    """
    check_processor(device, "OpenVINO")
    core = require("openvino", "openvino", package="openvino").Core()
    settings = {**PRECISION, **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
    with wrap_openvino_errors(path):
        model, embedded = _read_onnx(path) if path.suffix.lower() == ".onnx" else _read_xml(core, path)
        return OpenVinoNetwork(compiled(core, model, settings), path, embedded)


def _read_xml(core: Any, path: Path) -> tuple[Any, str | None]:
    """The model and its entry of vidkd."""
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise CheckpointError(f"weights of the model not found: {weights}", hint=f"put {weights.name} next to {path.name}, or export again")
    try:
        model = core.read_model(str(path), str(weights))
    except Exception as error:  # OpenVINO's errors share no class of their own
        hint = f"fetch or export {path.name} and {weights.name} again, both of them"
        reason, what = first_line(error, leave_out=ABOUT_ITSELF), f"not a model that OpenVINO can run: {path}"
        if not path.read_bytes()[-END_READ:].rstrip().endswith(b"</net>"):
            reason = "it does not end as OpenVINO's files do: it is truncated, or something else"
        elif "bin file" in reason:
            what = f"{weights} is truncated, or does not belong to {path.name}"
        raise CheckpointError(what, reason=reason, hint=hint) from error
    hashed = _entry(model, WEIGHTS_KEY)
    if hashed is not None and hashed != sha256(weights):
        raise CheckpointError(f"{weights.name} does not hold the weights of {path}", hint="export again, or put both files side by side")
    return model, _entry(model, EMBEDDED_KEY)


def _entry(model: Any, *key: str) -> str | None:
    return str(model.get_rt_info(list(key)).astype(str)) if model.has_rt_info(list(key)) else None


def _read_onnx(path: Path) -> tuple[Any, str | None]:
    """By the reader of ONNX alone: `Core.read_model` would try those of other formats on a file that is none, and print."""
    reader = require("openvino.frontend", "openvino", package="openvino").FrontEndManager().load_by_framework("onnx")
    model = reader.convert(reader.load(str(path)))
    return model, _entry(model, "framework", EMBEDDED_KEY)


@contextlib.contextmanager
def wrap_openvino_errors(path: Path) -> Iterator[None]:
    """What OpenVINO raises in the block becomes a CheckpointError."""
    try:
        yield
    except VidkdError:
        raise
    except Exception as error:  # OpenVINO's errors share no class of their own
        reason, mend = first_line(error, leave_out=ABOUT_ITSELF), "fetch or export it again; of an .onnx file try ONNX Runtime"
        raise CheckpointError(f"not a model that OpenVINO can run: {path}", reason=reason, hint=mend) from error


def _openvino_port(item: Any) -> Port:
    """A port that stood for several tensors has all their names; its node has that of the file, which is taken where it is one of them."""
    shape = tuple(None if side.is_dynamic else side.get_length() for side in item.partial_shape)
    name = item.node.get_friendly_name().partition("/sink_port")[0]
    return Port(name=name if name in item.names else item.any_name, shape=shape, dtype=np.dtype(item.element_type.to_dtype()))


ENTRY = f"{EMBEDDED_KEY}.json"
MOST_METADATA_BYTES = 2**20


class TfliteNetwork(Network):
    """A `Network` on LiteRT."""

    def __init__(self, interpreter: Any, path: Path) -> None:
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        super().__init__(path, list(map(_tflite_port, inputs)), list(map(_tflite_port, outputs)), _embedded(path))
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


def _tflite_port(detail: dict[str, Any]) -> Port:
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
