"""What nodes give, as the reference implementation of ONNX has it."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from vidkd.runtime.onnx_shapes import Told, broadcast, given

ROW, TABLE = np.arange(6), np.arange(24.0).reshape(2, 3, 4)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


NODES: tuple[tuple[str, list[Any], dict[str, Any]], ...] = (
    *((kind, [whole(7, -5, 4), whole(2)], {}) for kind in ("Add", "Sub", "Mul", "Max", "Min", "Equal", "Less")),
    ("Div", [whole(7, 5, 4), whole(2)], {}),
    ("Div", [np.array([7.0, 5.0]), np.array(2.0)], {}),
    ("Mod", [whole(7, 5), whole(4)], {}),
    ("Pow", [whole(2, 3), whole(5)], {}),
    ("Mul", [TABLE[0, :, :1], TABLE[1, :1]], {}),
    ("Sum", [whole(1), whole(2, 3), whole(4)], {}),
    *((kind, [np.array([1.5, 2.25])], {}) for kind in ("Neg", "Abs", "Floor", "Ceil", "Sqrt", "Exp", "Relu", "Identity")),
    ("Cast", [np.array([1.75])], {"to": onnx.TensorProto.INT64}),
    ("Where", [np.array([True, False]), whole(1, 2), whole(3)], {}),
    ("ConstantOfShape", [whole(2, 3)], {}),
    ("ConstantOfShape", [whole(2)], {"value": numpy_helper.from_array(whole(9))}),
    ("Expand", [whole(5, 6).reshape(2, 1), whole(1, 3)], {}),
    ("Tile", [whole(5, 6).reshape(2, 1), whole(2, 3)], {}),
    ("Pad", [TABLE, whole(0, 1, 2, 3, 0, 1)], {}),
    ("Pad", [TABLE, whole(1, 2), np.array(0.0), whole(-1)], {}),
    ("Range", [np.array(3), np.array(20), np.array(4)], {}),
    ("Range", [np.array(3.0), np.array(-2.5), np.array(-1.0)], {}),
    ("Reshape", [TABLE, whole(0, -1)], {}),
    ("Squeeze", [TABLE[:1], whole(0)], {}),
    ("Squeeze", [TABLE[:1, :1]], {}),
    ("Unsqueeze", [ROW, whole(0, -1)], {}),
    ("Flatten", [TABLE], {"axis": 2}),
    ("Transpose", [TABLE], {"perm": [2, 0, 1]}),
    ("Transpose", [TABLE], {}),
    ("Concat", [TABLE, TABLE[:, :1]], {"axis": 1}),
    ("Gather", [TABLE, whole(1, -1).reshape(1, 2)], {"axis": 2}),
    ("Gather", [ROW, np.array(2)], {}),
    ("Slice", [TABLE, whole(1, -1), whole(2**62, -(2**62)), whole(0, 2), whole(1, -2)], {}),
    ("Slice", [ROW, whole(-4), whole(-1)], {}),
    ("Shape", [TABLE], {}),
    ("Shape", [TABLE], {"start": 1, "end": -1}),
    ("Size", [TABLE], {}),
    ("ReduceProd", [whole(2, 3, 4), whole(0)], {"keepdims": 0}),
    ("ReduceSum", [TABLE, whole(-1)], {}),
    ("ReduceMax", [TABLE], {}),
    ("MatMul", [TABLE, TABLE[0].T], {}),
    ("MatMul", [TABLE[0], np.ones(4)], {}),
    ("MatMul", [np.ones(3), TABLE[0]], {}),
    ("OneHot", [whole(1, 2), np.array(5), np.array([0.0, 1.0])], {}),
    ("HannWindow", [np.array(9)], {}),
)


@pytest.mark.parametrize(("kind", "takes", "attributes"), NODES, ids=[node[0] for node in NODES])
def test_sides_and_values(kind: str, takes: list[np.ndarray], attributes: dict[str, Any]) -> None:
    names = [f"i{number}" for number in range(len(takes))]
    node = helper.make_node(kind, names, ["out"], **attributes)
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
        for name, each in zip(names, takes, strict=True)
    ]
    graph = helper.make_graph([node], "g", ports, [helper.make_tensor_value_info("out", onnx.TensorProto.UNDEFINED, None)])
    (wanted,) = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])).run(
        None, dict(zip(names, takes, strict=True))
    )
    told = {
        name: Told(sides=(1.0,), values=numpy_helper.to_array(value)) if isinstance(value, onnx.TensorProto) else np.ravel(value).tolist()
        for name, value in attributes.items()
    }
    found = given(kind, [Told(sides=tuple(map(float, each.shape)), values=each) for each in takes], told)
    assert found is not None
    assert found.sides == wanted.shape
    if found.values is not None:
        np.testing.assert_allclose(found.values, wanted)
    unfollowed = ("Relu", "Pad", "MatMul", "OneHot", "HannWindow")
    assert (found.values is None) == (kind in unfollowed)


def test_older_files_have_axes_and_pads_in_attributes() -> None:
    table = Told(sides=(2.0, 1.0, 4.0))
    for kind, attributes, sides in (
        ("Squeeze", {"axes": [1]}, (2, 4)),
        ("Unsqueeze", {"axes": [0, 4]}, (1, 2, 1, 4, 1)),
        ("ReduceSum", {"axes": [0], "keepdims": [0]}, (1, 4)),
        ("Pad", {"pads": [0, 0, 1, 0, 5, 1]}, (2, 6, 6)),
        ("Slice", {"starts": [1], "ends": [9], "axes": [2]}, (2, 1, 3)),
    ):
        assert given(kind, [table], attributes).sides == sides


def test_nothing_large_is_worked_out_and_nothing_is_guessed() -> None:
    huge = Told(sides=(2.0**40, 1.0))
    assert given("Mul", [huge, Told(sides=(2.0**40,))], {}).sides == (2.0**40, 2.0**40)
    assert given("Transpose", [huge], {}).values is None
    assert given("Mul", [huge, None], {}) is None
    assert given("ConstantOfShape", [Told(sides=(1.0,))], {}) is None
    assert given("Conv", [huge, huge], {}) is None
    assert given("Mul", [Told(sides=(2.0,)), Told(sides=(3.0,))], {}) is None, "they do not fit"
    assert given("Gather", [Told(sides=(2.0,), values=whole(1, 2)), Told(sides=(), values=np.array(9))], {}) is None
    with pytest.raises(ValueError, match="do not fit"):
        broadcast((2.0, 3.0), (2.0,))
