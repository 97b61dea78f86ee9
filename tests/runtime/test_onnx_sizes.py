"""Small files that would take any amount of memory: refused before a library opens them."""

import json
import math
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


def of_a_product(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The shape worked out of constants."""
    nodes = [helper.make_node("Mul", ["a", "b"], ["shape"]), helper.make_node("ConstantOfShape", ["shape"], ["made"])]
    return nodes, [whole("a", [side // 64]), whole("b", [64])]


def padded(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    return [helper.make_node("Pad", ["one", "pads"], ["made"])], [whole("one", [7]), whole("pads", [side // 2, side // 2 - 1])]


def line_and_column(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    nodes = [helper.make_node("ConstantOfShape", [name], [f"a {name}"]) for name in ("line", "column")]
    return nodes, [whole("line", [1, math.isqrt(side)]), whole("column", [math.isqrt(side), 1])]


def crossed(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Arithmetic on two constants that are broadcast against each other, none of them large."""
    nodes, tensors = line_and_column(side)
    return [*nodes, helper.make_node("Mul", ["a line", "a column"], ["made"])], tensors


def expanded_crosswise(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    nodes, tensors = line_and_column(side)
    return [*nodes[1:], helper.make_node("Expand", ["a column", "line"], ["made"])], tensors


def of_sides_that_are_asked_for(side: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The shape worked out of the sides of another constant."""
    nodes = [
        helper.make_node("Neg", ["row"], ["turned"]),
        helper.make_node("Shape", ["turned"], ["sides"]),
        helper.make_node("Mul", ["sides", "b"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["made"]),
    ]
    return nodes, [whole("row", [0] * 128), whole("b", [side // 128])]


WORKED_OUT = (of_a_product, padded, crossed, expanded_crosswise)
MADE = (of_shape, in_constants, expanded, tiled, ranged, in_a_branch, in_pieces, *WORKED_OUT, of_sides_that_are_asked_for)


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


def grown(path: Path, opener: str = "open_exported_classifier") -> tuple[str, int]:
    """How opening the file ends in a fresh process, and by how many bytes it grows."""
    code = f"""
import json, resource
from pathlib import Path
import onnxruntime
from vidkd.base.errors import CheckpointError
from vidkd.runtime.opening import {opener}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
end = "opened"
try:
    {opener}(Path({str(path)!r}), device="cpu")
except CheckpointError as error:
    end = error.what
print(json.dumps([end, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    end, size = json.loads(done.stdout)
    return end, size


@pytest.mark.parametrize("make", [of_shape, *WORKED_OUT], ids=lambda make: make.__name__)
def test_a_refused_file_takes_no_memory(make: Callable[[int], tuple], tmp_path: Path) -> None:
    end, size = grown(with_nodes(tmp_path / "large.onnx", *make(2 * MOST_MADE)))
    assert end.startswith("model asks for more memory than it may")
    assert size < 2**25 < 2 * MOST_MADE


@pytest.mark.parametrize("form", ["value_floats", "value_float"])
def test_a_shape_of_real_numbers_is_followed(form: str, tmp_path: Path) -> None:
    def file(side: float) -> Path:
        told = helper.make_node("Constant", [], ["real"], **{form: [side] if form.endswith("s") else side})
        nodes = [told, helper.make_node("Cast", ["real"], ["cast"], to=7), helper.make_node("Reshape", ["cast", "one"], ["side"])]
        return with_nodes(tmp_path / "a.onnx", [*nodes, helper.make_node("ConstantOfShape", ["side"], ["made"])], [whole("one", [1])])

    open_exported_classifier(file(4096.0), device="cpu")
    with pytest.raises(CheckpointError, match="of a shape alone"):
        check_sizes(file(2.0 * MOST_MADE))


def test_a_size_that_comes_of_constants_and_is_not_followed_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("BitShift", ["one", "by"], ["shifted"], direction="LEFT"), helper.make_node("Cast", ["shifted"], ["s"], to=7)]
    tensors = [numpy_helper.from_array(np.array([value], np.uint64), name) for name, value in (("one", 1), ("by", 3))]
    nodes.append(helper.make_node("ConstantOfShape", ["s"], ["made"]))
    with pytest.raises(CheckpointError, match="ConstantOfShape 'made' is told how much to make by constants that cannot be followed"):
        check_sizes(with_nodes(tmp_path / "a.onnx", nodes, tensors))


def test_large_constants_of_what_is_not_followed_are_not_worked_out_at_opening(tmp_path: Path) -> None:
    nodes, tensors = line_and_column(2**27)
    path = with_nodes(
        tmp_path / "a.onnx", [*nodes, helper.make_node("Einsum", ["a line", "a column"], ["made"], equation="ai,jb->ij")], tensors
    )
    one = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "one")
    wide = [helper.make_node("Conv", ["one", "one"], ["made"], pads=[5000] * 4)]
    for file in (path, with_nodes(tmp_path / "b.onnx", wide, [one])):
        assert not check_sizes(file)
        end, size = grown(file, "open_network")  # a classifier answers once when it is opened
        assert end == "opened"
        assert size < 2**26
    assert check_sizes(clip_onnx(tmp_path / "plain.onnx", clip_metadata()))
