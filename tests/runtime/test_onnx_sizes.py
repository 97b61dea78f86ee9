"""Small files that would take any amount of memory: refused before a library opens them."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from clip_model import clip_metadata, clip_onnx
from model_files import save_onnx
from onnx import TensorProto, helper, numpy_helper

from vidkd.base.errors import CheckpointError
from vidkd.runtime import onnx_network
from vidkd.runtime.network import MOST_VALUES
from vidkd.runtime.onnx_sizes import MOST_MADE, check_sizes
from vidkd.runtime.opening import open_exported_classifier, open_network


def whole(name: str, values: Sequence[int] | int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.int64), name)


def with_nodes(path: Path, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]) -> Path:
    """The classifier of `clip_onnx`, whose logits get the last node's least value too, so that no library leaves it out."""
    model = onnx.load(clip_onnx(path, clip_metadata()))
    graph = model.graph
    (logits,) = [node for node in graph.node if "logits" in node.output]
    logits.output[0] = "plain"
    graph.node.extend(nodes)
    made = nodes[-1].output[0]
    graph.node.extend(
        [
            helper.make_node("Cast", [made], ["made_float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMin", ["made_float"], ["least"], keepdims=0),
            helper.make_node("Add", ["plain", "least"], ["logits"]),
        ]
    )
    graph.initializer.extend(tensors)
    path.write_bytes(model.SerializeToString())
    return path


def of_shape(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    return [helper.make_node("ConstantOfShape", ["side"], ["made"])], [whole("side", [side])]


def in_constants(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The shape put together out of constants that are nodes."""
    nodes = [
        helper.make_node("Constant", [], ["a"], value_ints=[side // 4]),
        helper.make_node("Constant", [], ["b"], value=whole("", 4)),
        helper.make_node("Unsqueeze", ["b", "axes"], ["b1"]),
        helper.make_node("Concat", ["a", "b1"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["made"]),
    ]
    return nodes, [whole("axes", [0])]


def expanded(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    return [helper.make_node("Expand", ["one", "side"], ["made"])], [whole("one", [7]), whole("side", [2, side // 2])]


def tiled(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """In two steps, none of them large by its repeats."""
    nodes = [helper.make_node("Tile", ["row", "first"], ["rows"]), helper.make_node("Tile", ["rows", "second"], ["made"])]
    return nodes, [whole("row", [0] * 16), whole("first", [16]), whole("second", [side // 256])]


def ranged(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    return [helper.make_node("Range", ["start", "end", "step"], ["made"])], [whole("start", 0), whole("end", -2 * side), whole("step", -2)]


def in_a_branch(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None])
        return helper.make_graph([helper.make_node("ConstantOfShape", ["side"], [name])], name, [], [out])

    node = helper.make_node("If", ["is_so"], ["made"], then_branch=branch("then"), else_branch=branch("else"))
    return [node], [whole("side", [side // 2]), numpy_helper.from_array(np.asarray(True), "is_so")]


def in_pieces(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Sixteen constants, none of them large."""
    nodes = [helper.make_node("ConstantOfShape", ["side"], [f"part{number}"]) for number in range(16)]
    nodes.append(helper.make_node("Sum", [f"part{number}" for number in range(16)], ["made"]))
    return nodes, [whole("side", [side // 16])]


MADE = (of_shape, in_constants, expanded, tiled, ranged, in_a_branch, in_pieces)


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_constants_made_by_shape(make: Callable[[int], tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = with_nodes(tmp_path / "small.onnx", *make(4096))
    open_exported_classifier(small, device="cpu")
    check_sizes(with_nodes(tmp_path / "just.onnx", *make(MOST_MADE // 2)))
    large = with_nodes(tmp_path / "large.onnx", *make(2 * MOST_MADE))
    assert large.stat().st_size < 20_000
    monkeypatch.setattr(onnx_network, "session_options", lambda *_, **__: pytest.fail("a session was begun"))
    with pytest.raises(CheckpointError, match="model asks for more memory than it may") as error:
        open_exported_classifier(large, device="cpu")
    for line in ("of a shape alone", str(large), "to mend"):
        assert line in str(error.value)


@pytest.mark.parametrize(("form", "told"), [("sizes", True), ("sizes", False), ("scales", True), ("scales", False)])
def test_resizing_by_what_the_file_says(form: str, told: bool, tmp_path: Path) -> None:
    to = (2**15 if told else 8) * np.ones(4)
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8] if name == "images" else None) for name in ("images", "large")
    ]
    tensor = numpy_helper.from_array((to / 8 if form == "scales" else to).astype(np.float32 if form == "scales" else np.int64), "to")
    takes = ["images", "", "to"] if form == "scales" else ["images", "", "", "to"]
    path = save_onnx(
        tmp_path / "a.onnx", helper.make_graph([helper.make_node("Resize", takes, ["large"])], "a", ports[:1], ports[1:], [tensor])
    )
    if told:
        with pytest.raises(CheckpointError, match="Resize 'large' makes"):
            check_sizes(path)
    else:
        check_sizes(path)


def test_sides_of_inputs_and_tensors_that_are_not_in_the_file(tmp_path: Path) -> None:
    wide = [MOST_VALUES, 2]
    ports = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, wide),
        helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n"]),
    ]
    nodes = [helper.make_node("Identity", ["images"], ["out"])]
    with pytest.raises(CheckpointError, match=r"'images' has sides of 5\.37e"):
        check_sizes(save_onnx(tmp_path / "a.onnx", helper.make_graph(nodes, "a", ports[:1], ports[1:])))
    hollow = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[MOST_MADE, 2])
    fine = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n"])
    with pytest.raises(CheckpointError, match="tensor 'weights', whose values are not in the file"):
        check_sizes(save_onnx(tmp_path / "b.onnx", helper.make_graph(nodes, "b", [fine], ports[1:], [hollow])))
    sparse = helper.make_sparse_tensor(numpy_helper.from_array(np.ones(1, np.float32), "s"), whole("i", [3]), [2 * MOST_MADE])
    graph = helper.make_graph(nodes, "c", [fine], ports[1:])
    graph.sparse_initializer.append(sparse)
    with pytest.raises(CheckpointError, match="a sparse tensor makes"):
        check_sizes(save_onnx(tmp_path / "c.onnx", graph))


def test_in_openvino_too(tmp_path: Path) -> None:
    """Of an .xml file, which says no sizes of its own, by what its operations give."""
    openvino = pytest.importorskip("openvino")
    with pytest.raises(CheckpointError, match="more memory than it may"):
        open_exported_classifier(with_nodes(tmp_path / "large.onnx", *of_shape(2 * MOST_MADE)), runtime="openvino")
    for side in (4096, 2 * MOST_MADE):
        ops = openvino.opset13
        seen = ops.parameter([1, 3], np.float32, name="images")
        made = ops.broadcast(ops.constant(np.float32(0)), ops.constant(np.int64([side // 2, 2])))
        least = ops.reduce_min(made, ops.constant(np.int64([0, 1])))
        openvino.save_model(openvino.Model([ops.add(seen, least)], [seen], "a"), str(tmp_path / f"{side}.xml"))
    open_network(tmp_path / "4096.xml")
    with pytest.raises(CheckpointError, match=r"more memory than it may(.|\n)*Broadcast"):
        open_network(tmp_path / f"{2 * MOST_MADE}.xml")


def test_a_refused_file_takes_no_memory(tmp_path: Path) -> None:
    path = with_nodes(tmp_path / "large.onnx", *of_shape(2 * MOST_MADE))
    code = f"""
import json, resource
import onnxruntime
from vidkd.base.errors import CheckpointError
from vidkd.runtime.opening import open_exported_classifier
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_exported_classifier({str(path)!r}, device="cpu")
except CheckpointError:
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) * 1024 < 2**25 < 2 * MOST_MADE
