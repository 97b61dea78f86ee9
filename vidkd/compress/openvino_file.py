"""Writing OpenVINO's two files, each of which knows the other."""

import io
import re
from pathlib import Path
from typing import Any

from vidkd.base.errors import SHOWN, CheckpointError, first_line
from vidkd.base.extras import require
from vidkd.base.files import sha256
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.openvino_network import ABOUT_ITSELF, WEIGHTS_KEY

NOT_CONVERTED = re.compile(r"^-- (?:No conversion rule found for operations|Conversion is failed for): (.+)$", re.MULTILINE)
"""How OpenVINO tells the operations of ONNX that it does not convert, with the version of their set behind each."""


def write_openvino(graph: bytes, metadata: str, path: Path) -> None:
    """Write an ONNX graph as `path` (.xml) and the .bin beside it, weights in float32; the .xml holds a hash of the .bin.

    metadata: JSON of the entry `vidkd`. Raises CheckpointError for a graph that OpenVINO does not convert, naming the operations; OSError
    where the files cannot be written; MissingExtraError without openvino.
    """
    openvino = require("openvino", "openvino")
    # read as ONNX by the runtime itself; OpenVINO's converter would report its use to its makers
    try:
        model = openvino.Core().read_model(io.BytesIO(graph))
    except Exception as error:  # OpenVINO's errors share no class of their own
        operations = dict.fromkeys(name for found in NOT_CONVERTED.findall(str(error)) for name in found.split(", "))
        raise CheckpointError(
            "not a network that OpenVINO can convert",
            **({"operations": ", ".join(operations)} if operations else {}),
            reason=_reason(str(error)),
        ) from error
    model.set_rt_info(metadata, EMBEDDED_KEY)
    _save(openvino, model, path)
    model.set_rt_info(sha256(path.with_suffix(".bin")), WEIGHTS_KEY)
    _save(openvino, model, path)


def _reason(text: str) -> str:
    """The line of a failed conversion that says what is wrong, and neither where in OpenVINO nor at which of its nodes."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith((*ABOUT_ITSELF, "While "))]
    telling = [line for line in lines if not line.startswith("-- ") and "with a message:" in text]
    return (telling or lines or ["OpenVINO does not tell"])[0].removeprefix("-- ")[:SHOWN]


def _save(openvino: Any, model: Any, path: Path) -> None:
    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as error:  # which does not tell why: a full disk is an "iostream error"
        raise OSError(f"OpenVINO could not write its files (is the disk full?): {first_line(error)}") from error
