"""OpenVINO's files through its runtime: the network in `model.xml`, its weights in `model.bin` beside it; and ONNX files."""

import contextlib
import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError, ConfigError, VidkdError, first_line
from vidkd.base.extras import require
from vidkd.base.files import sha256
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.network import Port

PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}
"""Processors that have bfloat16 would compute in it unasked."""


WEIGHTS_KEY = "vidkd_weights"
"""Entry of an .xml with the sha256 of its .bin, where vidkd wrote them."""


END_READ = 64
"""Bytes at the end of an .xml in which its last tag stands."""


ABOUT_ITSELF = ("Exception from", "Check ", "FrontEnd API failed", "Model wasn't fully converted", "Summary:", "Loading input model")
"""How lines of an error begin that tell of OpenVINO's code and not of the file."""


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


class OpenVinoNetwork:
    """A `ClipNetwork` on OpenVINO."""

    device = "cpu"

    def __init__(self, compiled: Any, path: Path, embedded: str | None) -> None:
        self.path = str(path)
        self._compiled = compiled
        self.inputs = [_port(item) for item in compiled.inputs]
        self.outputs = [_port(item) for item in compiled.outputs]
        self.embedded = embedded

    def run(
        self, batch: NDArray[Any], outputs: Sequence[str], further: Mapping[str, NDArray[Any]] | None = None
    ) -> list[NDArray[np.floating]]:
        """See `ClipNetwork.run`."""
        try:
            found = self._compiled({self.inputs[0].name: batch, **(further or {})})
            arrays = [np.array(found[name]) for name in outputs]  # copies: the next run writes into the same memory
        except Exception as error:  # OpenVINO's errors share no class of their own
            raise CheckpointError(
                f"model fails on an input of shape {batch.shape}: {self.path}", reason=first_line(error, leave_out=ABOUT_ITSELF)
            ) from error
        return [array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64) for array in arrays]


def open_openvino(path: Path, *, device: str = "auto", threads: int = 0) -> OpenVinoNetwork:
    """Load OpenVINO's .xml and the .bin beside it, or an .onnx file; it runs on the processor, in float32. threads: 0 lets OpenVINO choose.

    Raises CheckpointError if it is no model, truncated, or an .xml without its own .bin; ConfigError for another device; MissingExtraError
    without openvino.
    """
    if device not in ("auto", "cpu"):
        reason = "vidkd runs OpenVINO on the processor"
        raise ConfigError(f"cannot use device '{device}' in OpenVINO", reason=reason, hint="--device auto or cpu")
    core = require("openvino", "openvino", package="openvino").Core()
    settings = {**PRECISION, **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
    with wrap_openvino_errors(path):
        model, embedded = _read_onnx(path) if path.suffix.lower() == ".onnx" else _read_xml(core, path)
        network = OpenVinoNetwork(compiled(core, model, settings), path, embedded)
    if not network.inputs:
        raise CheckpointError(f"model has no input: {path}")
    return network


def _read_xml(core: Any, path: Path) -> tuple[Any, str | None]:
    """The model and its entry of vidkd."""
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise CheckpointError(f"weights of the model not found: {weights}", hint=f"put {weights.name} beside {path.name}, or export again")
    try:
        model = core.read_model(str(path), str(weights))
    except Exception as error:  # OpenVINO's errors share no class of their own
        raise _unreadable(path, weights, error) from error
    hashed = _entry(model, WEIGHTS_KEY)
    if hashed is not None and hashed != sha256(weights):
        raise CheckpointError(f"{weights.name} does not hold the weights of {path}", hint="export again, or put both files side by side")
    return model, _entry(model, EMBEDDED_KEY)


def _entry(model: Any, *key: str) -> str | None:
    return str(model.get_rt_info(list(key)).astype(str)) if model.has_rt_info(list(key)) else None


def _unreadable(path: Path, weights: Path, error: Exception) -> CheckpointError:
    """Which of the two files is at fault, as far as can be told."""
    mend = f"fetch or export {path.name} and {weights.name} again, both of them"
    with path.open("rb") as file:
        file.seek(-min(END_READ, file.seek(0, os.SEEK_END)), os.SEEK_CUR)
        is_whole = file.read().rstrip().endswith(b"</net>")
    reason = first_line(error, leave_out=ABOUT_ITSELF)
    if not is_whole:
        reason = "it does not end as OpenVINO's files do: it is truncated, or something else"
    elif "bin file" in reason:
        return CheckpointError(f"{weights} is truncated, or does not belong to {path.name}", reason=reason, hint=mend)
    return CheckpointError(f"not a model that OpenVINO can run: {path}", reason=reason, hint=mend)


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
