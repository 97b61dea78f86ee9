"""OpenVINO's files through its runtime: the network in `model.xml`, its weights in `model.bin` next to it; and ONNX files."""

import contextlib
import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError, VidkdError, first_line, require
from vidkd.base.files import sha256
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.network import Network, Port, check_processor

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
        super().__init__(path, [_port(item) for item in compiled.inputs], [_port(item) for item in compiled.outputs], embedded)
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


def _port(item: Any) -> Port:
    """A port that stood for several tensors has all their names; its node has that of the file, which is taken where it is one of them."""
    shape = tuple(None if side.is_dynamic else side.get_length() for side in item.partial_shape)
    name = item.node.get_friendly_name().partition("/sink_port")[0]
    return Port(name=name if name in item.names else item.any_name, shape=shape, dtype=np.dtype(item.element_type.to_dtype()))
