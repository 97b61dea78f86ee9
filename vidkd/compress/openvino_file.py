"""Writing OpenVINO's two files, each of which knows the other."""

import io
from pathlib import Path

from vidkd.base.extras import require
from vidkd.base.files import sha256
from vidkd.runtime.metadata import EMBEDDED_KEY
from vidkd.runtime.openvino_network import WEIGHTS_KEY


def write_openvino(graph: bytes, metadata: str, path: Path) -> None:
    """Write an ONNX graph as `path` (.xml) and the .bin beside it, weights in float32; the .xml holds a hash of the .bin.

    metadata: JSON of the entry `vidkd`. Raises MissingExtraError without openvino.
    """
    openvino = require("openvino", "openvino")
    # read as ONNX by the runtime itself; OpenVINO's converter would report its use to its makers
    model = openvino.Core().read_model(io.BytesIO(graph))
    model.set_rt_info(metadata, EMBEDDED_KEY)
    openvino.save_model(model, str(path), compress_to_fp16=False)
    model.set_rt_info(sha256(path.with_suffix(".bin")), WEIGHTS_KEY)
    openvino.save_model(model, str(path), compress_to_fp16=False)
