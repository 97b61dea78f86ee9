"""A video classifier as an ONNX file, made by hand: its logits are the means over the clip's channels, its map says where it is bright."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from model_files import save_onnx
from onnx import TensorProto, helper, numpy_helper

FRAMES, SIZE = 2, 16
SHOWN = {
    "window": {"frames": FRAMES, "stride": 2, "rule": "dense", "flow_step": None, "short_clip": "error"},
    "observe": {
        "protocol": "whole",
        "fractions": [0.5, 1.0],
        "gap_s": 1.0,
        "observe_s": 2.0,
        "teacher_sees": "whole",
        "teacher_frames": None,
    },
    "transform": {"short_side": 20, "square": False, "crop": SIZE, "min_scale": 0.75, "flip": True, "colour": 0.0},
    "flow": {"source": "dis", "preset": "fast", "folder": None},
    "decode_short_side": 256,
    "decoder": "auto",
    "eval_clips": 3,
    "eval_crops": 1,
}


def clip_metadata(**over: Any) -> dict[str, Any]:
    """As the file carries it, with dotted keys of `over` put in."""
    content: dict[str, Any] = {
        "task": "classify",
        "version": 1,
        "vidkd": "0.1.0",
        "classes": ["red", "green", "blue"],
        "targets": {},
        "view": "rgb",
        "input": {"frames": FRAMES, "size": SIZE, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "bound_px": None},
        "observed": False,
        "map_shift_cells": 0.0,
        "shown": json.loads(json.dumps(SHOWN)),
        "trained": {},
    }
    for key, value in over.items():
        *path, last = key.split(".")
        place = content
        for name in path:
            place = place[name]
        place[last] = value
    return content


def clip_onnx(
    path: Path, metadata: dict[str, Any] | None = None, *, batch: int | str = "batch", frames: int = FRAMES, scale: float = 1 / 51
) -> Path:
    """Logits are the channels' means times `scale`, so 5 for a channel that is full; the map is that of four quarters."""
    nodes = [
        helper.make_node("Cast", ["clip"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["means"], axes=[2, 3, 4], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["logits"]),
        helper.make_node("AveragePool", ["values"], ["pooled"], kernel_shape=[1, 8, 8], strides=[1, 8, 8]),
        helper.make_node("ReduceMean", ["pooled"], ["bright"], axes=[1], keepdims=0),
        helper.make_node("Reshape", ["bright", "flat"], ["cells"]),
        helper.make_node("LogSoftmax", ["cells"], ["logs"], axis=2),
        helper.make_node("Reshape", ["logs", "grid"], ["attention"]),
    ]
    graph = helper.make_graph(
        nodes,
        "clips",
        [helper.make_tensor_value_info("clip", TensorProto.UINT8, [batch, 3, frames, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3]),
            helper.make_tensor_value_info("attention", TensorProto.FLOAT, [batch, frames, 2, 2]),
        ],
        [
            numpy_helper.from_array(np.asarray(scale, np.float32), "scale"),
            numpy_helper.from_array(np.asarray([-1, frames, 4], np.int64), "flat"),
            numpy_helper.from_array(np.asarray([-1, frames, 2, 2], np.int64), "grid"),
        ],
    )
    return save_onnx(path, graph, None if metadata is None else json.dumps(metadata))
