"""A detector in an ONNX file that sees what a frame's pixels say."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

METADATA = """
classes: [cat, dog]
input: {size: [4, 4], layout: NHWC, colour: rgb, pixel_max: 1, resize: stretch, fill: 0}
head: {style: boxes, boxes: unit}
nms_iou: null
"""


def picture_model(path: Path) -> Path:
    """(B, 4, 4, 3) -> (B, 8, 6): the pixels are rows of unit box, score and label; with its YAML next to it."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["images", "shape"], ["found"])],
        "picture",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 4, 4, 3])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, ["batch", 8, 6])],
        [numpy_helper.from_array(np.asarray([-1, 8, 6], np.int64), "shape")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    path.with_suffix(".yaml").write_text(METADATA)
    return path
