import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from make_reference import IOU, SCORE, entries
from reference_nets import CASES, EVERY_LAYER, REAL, REFERENCE, Case, noise, picture

from vidkd.base.errors import CheckpointError
from vidkd.losses.yolo_heads import boxes_of_cells, split_head
from vidkd.models.darknet import Darknet, load_weights, parse_cfg, save_weights
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.letterbox import Letterbox

TINY = (
    "[net]\nwidth=8\nheight=8\nchannels=2\n[convolutional]\nbatch_normalize=1\nfilters=2\nsize=1\nactivation=linear\n"
    "[convolutional]\nfilters=6\nsize=1\nactivation=linear\n[yolo]\nanchors=1,2\nclasses=1\nnum=1\n"
)
# 2 biases, 2 weights, 2 means, 2 variances, 2x2 kernel; 6 biases, 6x2 kernel
TINY_NUMBERS = 12 + 18


def tiny() -> Darknet:
    return Darknet(parse_cfg(TINY, Path("tiny.cfg")))


def tiny_file(path: Path, count: int = TINY_NUMBERS, header: bytes = struct.pack("<iiiQ", 0, 2, 5, 77)) -> Path:
    path.write_bytes(header + np.arange(count, dtype="<f4").tobytes())
    return path


def test_the_order_of_the_numbers_is_darknets(tmp_path: Path) -> None:
    net = tiny()
    load_weights(net, tiny_file(tmp_path / "a.weights"))
    block, head = net.layers[0], net.layers[1]
    assert block.norm.bias.tolist() == [0, 1]
    assert block.norm.weight.tolist() == [2, 3]
    assert block.norm.running_mean.tolist() == [4, 5]
    assert block.norm.running_var.tolist() == [6, 7]
    assert block.conv.weight.flatten(1).tolist() == [[8, 9], [10, 11]]
    assert head.conv.bias.tolist() == [12, 13, 14, 15, 16, 17]
    assert head.conv.weight.flatten().tolist() == list(range(18, 30))


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<iiiQ", 0, 2, 5, 2**40 + 3),
        struct.pack("<iiiQ", 1, 0, 0, 9),
        struct.pack("<iiiI", 0, 1, 0, 4_000_000_000),
        struct.pack("<iiiI", 0, 1000, 0, 9),
    ],
)
def test_headers_of_both_lengths(header: bytes, tmp_path: Path) -> None:
    net = tiny()
    load_weights(net, tiny_file(tmp_path / "a.weights", header=header))
    assert net.layers[1].conv.weight.flatten().tolist() == list(range(18, 30))


def test_a_written_network_comes_back_bit_for_bit(tmp_path: Path) -> None:
    net, other = CASES[0].build(), Darknet(parse_cfg(EVERY_LAYER)).eval()
    save_weights(net, tmp_path / "a.weights")
    load_weights(other, tmp_path / "a.weights")
    ours, theirs = net.state_dict(), other.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("count", "more", "found"),
    [
        (TINY_NUMBERS - 1, b"", "29 numbers, too few"),
        (TINY_NUMBERS + 4, b"", "34 numbers, too many"),
        (TINY_NUMBERS, b"\0\0", "30.5 numbers, too many"),
        (0, b"", "0 numbers, too few"),
    ],
)
def test_a_file_of_another_length_names_both_counts_and_leaves_the_network(count: int, more: bytes, found: str, tmp_path: Path) -> None:
    path, net = tiny_file(tmp_path / "a.weights", count), tiny()
    path.write_bytes(path.read_bytes() + more)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(net, path)
    assert "30 numbers (tiny.cfg, 1 classes)" in caught.value.lines["cfg wants"]
    assert caught.value.lines["file holds"] == found
    assert str(path) in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("place", [0, 6, 29])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_numbers_that_no_network_holds(place: int, value: float, tmp_path: Path) -> None:
    numbers = np.arange(TINY_NUMBERS, dtype="<f4")
    numbers[place] = value
    path = tmp_path / "a.weights"
    path.write_bytes(struct.pack("<iiiQ", 0, 2, 5, 0) + numbers.tobytes())
    if value == -1 and place != 6:  # only place 6 is a variance
        load_weights(tiny(), path)
        return
    with pytest.raises(CheckpointError, match="not finite, or negative variances"):
        load_weights(tiny(), path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read weights") as error:
        load_weights(tiny(), tmp_path / "absent.weights")
    assert error.value.lines["reason"] == "No such file or directory"


@pytest.mark.data
@pytest.mark.parametrize(
    ("cfg", "weights"),
    [
        ("yolo_fastest/yolo-fastest-1.1.cfg", "yolo_fastest/yolo-fastest-1.1.weights"),
        ("yolo_fastest/yolo-fastest-1.1-xl.cfg", "yolo_fastest/yolo-fastest-1.1-xl.weights"),
        ("yolov3_tiny/yolov3-tiny-m123.cfg", "yolov3_tiny/yolov3-tiny.weights"),
    ],
)
def test_published_files_come_back_bit_for_bit(cfg: str, weights: str, real_data: Path, tmp_path: Path) -> None:
    net = Darknet.from_cfg(real_data / "weights" / cfg)
    load_weights(net, real_data / "weights" / weights)
    save_weights(net, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes()[20:] == (real_data / "weights" / weights).read_bytes()[20:]


TOLERANCE = 1e-4


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0) <= TOLERANCE * np.abs(expected).max(initial=1e-9)


def assert_equals_reference(net: Darknet, image: np.ndarray, name: str) -> None:
    with np.load(REFERENCE / f"{name}.npz") as reference, torch.inference_mode():
        heads = net.eval()(torch.from_numpy(image))
        for index, (raw, head) in enumerate(zip(heads, net.heads, strict=True)):
            assert tuple(raw.shape) == tuple(reference[f"raw{index}_shape"])
            assert_near(entries(raw.numpy()), reference[f"raw{index}"])
            cells = split_head(raw, head)
            # OpenCV: rows, columns, anchors; centre and size as shares of the input
            corners = boxes_of_cells(cells, head).permute(0, 2, 3, 1, 4).reshape(-1, 4).numpy() / (net.input_size * 2)
            boxes = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
            assert_near(entries(boxes), reference[f"boxes{index}"])
            assert_near(entries(cells[..., 4].sigmoid().permute(0, 2, 3, 1).numpy()), reference[f"objectness{index}"])
        assert_same_detections(net, heads, {key: reference[f"kept_{key}"] for key in ("boxes", "scores", "labels")})


def assert_same_detections(net: Darknet, heads: list[torch.Tensor], expected: dict[str, np.ndarray]) -> None:
    detector = DarknetDetector(net, tuple(map(str, range(net.classes))), score_threshold=SCORE, nms_iou=IOU)
    (found,) = detector.finish(heads, Letterbox.fit(net.input_size, net.input_size))
    inside = np.clip(expected["boxes"] * np.array(net.input_size * 2), 0, np.array(net.input_size * 2))
    shown = (inside[:, 2:] > inside[:, :2]).all(1)
    np.testing.assert_array_equal(found.labels, expected["labels"][shown])
    np.testing.assert_allclose(found.scores, expected["scores"][shown], atol=TOLERANCE)
    np.testing.assert_allclose(found.boxes, inside[shown], atol=TOLERANCE * max(net.input_size))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_random_weights(case: Case) -> None:
    assert_equals_reference(case.build(), noise(case), case.name)


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(REAL))
def test_published_weights(name: str, real_data: Path) -> None:
    cfg, weights, size = REAL[name]
    net = Darknet.from_cfg(real_data / f"{cfg}.cfg")
    load_weights(net, real_data / f"{weights}.weights")
    assert net.input_size == size
    assert_equals_reference(net, picture(size), name)


def test_the_references_hold_boxes_to_compare() -> None:
    counts = {}
    for case in CASES:
        with np.load(REFERENCE / f"{case.name}.npz") as reference:
            counts[case.name] = len(reference["kept_scores"])
    assert min(counts.values()) > 30, counts
