"""Tiny model files, written by the tests themselves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vidkd.runtime.metadata import EMBEDDED_KEY, Head, InputFormat, ModelMetadata


def picture_metadata(**over) -> ModelMetadata:
    """Of the picture networks below: the pixels themselves are rows of unit boxes, score and label."""
    form = {"size": (4, 4), "layout": "NHWC", "colour": "rgb", "pixel_max": 1, "resize": "stretch", "fill": 0}
    form |= over.pop("input", {})
    keys = {"classes": ("cat", "dog"), "head": Head(style="boxes", boxes="unit"), "nms_iou": None, **over}
    return ModelMetadata(input=InputFormat(**form), **keys)


def picture(*rows: tuple[float, ...]) -> np.ndarray:
    """A frame (4, 4, 3) whose pixels are these rows of x1, y1, x2, y2, score, label in 0..1, at most eight."""
    values = np.zeros(48)
    values[: 6 * len(rows)] = np.ravel(rows)
    return (values * 255).round().astype(np.uint8).reshape(4, 4, 3)


def save_onnx(path: Path, graph: onnx.GraphProto, embedded: str | None = None) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if embedded is not None:
        helper.set_model_props(model, {EMBEDDED_KEY: embedded})
    path.write_bytes(model.SerializeToString())
    return path


def picture_onnx(path: Path, *, batch: int | str = "batch", embedded: str | None = None) -> Path:
    """(B, 4, 4, 3) -> (B, 8, 6): the same numbers."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["images", "shape"], ["found"])],
        "picture",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 4, 4, 3])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, [batch, 8, 6])],
        [numpy_helper.from_array(np.asarray([-1, 8, 6], np.int64), "shape")],
    )
    return save_onnx(path, graph, embedded)


def constant_onnx(path: Path, outputs: Mapping[str, np.ndarray], *, shape: tuple[int | str, ...] = (1, 3, 8, 8), inputs: int = 1) -> Path:
    """Gives these arrays, whatever it sees."""
    ports = [helper.make_tensor_value_info(f"images{number or ''}", TensorProto.FLOAT, shape) for number in range(inputs)]
    nodes, results = [], []
    for name, array in outputs.items():
        nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array.astype(np.float32), f"{name}_value")))
        results.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    return save_onnx(path, helper.make_graph(nodes, "constant", ports, results))


def external_onnx(path: Path, location: str) -> Path:
    """Adds weights to its input (2,); they lie in another file."""
    weights = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        weights.external_data.add(key=key, value=value)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("images", "sums")]
    graph = helper.make_graph([helper.make_node("Add", ["images", "weights"], ["sums"])], "external", ports[:1], ports[1:], [weights])
    return save_onnx(path, graph)


def picture_tflite(path: Path, *, quantised: bool, batch: int = 1) -> Path:
    """(B, 4, 4, 3) -> (B, 8, 6), batch -1 for any B: the same numbers, as float32 or as int8 with scale 1/255 and zero point -128."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs = 3, [graph]
    shape_of_found = schema.BufferT()
    shape_of_found.data = np.frombuffer(np.asarray([batch, 8, 6], np.int32).tobytes(), np.uint8)
    model.buffers = [schema.BufferT(), shape_of_found]
    kind = schema.TensorType.INT8 if quantised else schema.TensorType.FLOAT32
    rows = (("images", [batch, 4, 4, 3], kind, 0), ("shape", [3], schema.TensorType.INT32, 1), ("found", [batch, 8, 6], kind, 0))
    graph.tensors = [_tensor(schema, *row, quantised=quantised) for row in rows]
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
    model.operatorCodes = [code]
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [2]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(schema, name, shape, kind, buffer, *, quantised):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [abs(side) for side in shape], kind, buffer
    tensor.shapeSignature = shape
    if quantised and kind == schema.TensorType.INT8:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [1 / 255], [-128]
    return tensor


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
