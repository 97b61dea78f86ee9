import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_nets import CASES

from vidkd.base.errors import ConfigError
from vidkd.models.darknet import Head, save_weights, to_cfg
from vidkd.models.darknet.detector import DarknetDetector, decode_above
from vidkd.runtime.detector import Detector
from vidkd.runtime.letterbox import Letterbox

NAMES = ("cat", "dog", "bus")
FRAMES = np.random.RandomState(3).randint(0, 256, (3, 50, 120, 3), np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    net = CASES[0].build()
    (tmp_path / "net.cfg").write_text(to_cfg(net.config))
    save_weights(net, tmp_path / "net.weights")
    (tmp_path / "net.names").write_text("cat\n dog \nbus\n\n")
    return tmp_path / "net.cfg", tmp_path / "net.weights", tmp_path / "net.names"


def detector(**settings: object) -> DarknetDetector:
    return DarknetDetector(CASES[0].build(), NAMES, **settings)


def quiet_heads() -> list[torch.Tensor]:
    """Raw heads of the first case in which nothing is found; channels of an anchor: x, y, w, h, objectness, cat, dog, bus."""
    return [torch.full((1, 24, 4, 6), -20.0), torch.full((1, 16, 8, 12), -20.0)]


def test_a_raw_head_becomes_a_box_in_pixels_of_the_frame() -> None:
    # a frame of 200x100 lies in 96x64 at 0.48 of its size, 8 pixels below the upper edge
    heads = quiet_heads()
    # anchor 25x17 of the first head, cell (row 2, column 3) of 16 pixels: centre (56, 40)
    heads[0][0, 8:16, 2, 3] = torch.tensor([0.0, 0.0, 0.0, 0.0, 20.0, -20.0, 20.0, -20.0])
    (found,) = detector().finish(heads, Letterbox.fit((200, 100), (96, 64), "darknet"))
    expected = (np.array([56 - 12.5, 40 - 8.5, 56 + 12.5, 40 + 8.5]) - [0, 8, 0, 8]) / 0.48
    np.testing.assert_allclose(found.boxes, [expected], rtol=1e-5)
    assert found.labels.tolist() == [1]
    assert found.scores.tolist() == [pytest.approx(1.0)]


def test_boxes_that_lie_in_the_padding_alone_are_left_out() -> None:
    heads = quiet_heads()
    # a flat box in the first row of cells, where a frame of 300x50 has grey
    heads[1][0, 0:8, 0, 5] = torch.tensor([0.0, 0.0, 0.0, -2.0, 20.0, 20.0, -20.0, -20.0])
    assert len(detector().finish(heads, Letterbox.fit((96, 64), (96, 64), "darknet"))[0]) == 1
    assert len(detector().finish(heads, Letterbox.fit((300, 50), (96, 64), "darknet"))[0]) == 0


def test_of_overlapping_boxes_the_best_of_each_class_stays() -> None:
    heads = quiet_heads()
    letterbox = Letterbox.fit((96, 64), (96, 64))
    for column, objectness in ((4, 2.0), (5, 1.0)):
        # anchor 40x44 eight pixels apart: overlap of 32/48
        heads[1][0, 8:16, 4, column] = torch.tensor([0.0, 0.0, 0.0, 0.0, objectness, 20.0, -20.0, -20.0])
    assert detector(nms_iou=0.6).finish(heads, letterbox)[0].scores.tolist() == [pytest.approx(0.8808, abs=1e-4)]
    assert len(detector(nms_iou=0.7).finish(heads, letterbox)[0]) == 2
    heads[1][0, 13:15, 4, 5] = torch.tensor([-20.0, 20.0])  # the second becomes a dog
    assert detector(nms_iou=0.6).finish(heads, letterbox)[0].labels.tolist() == [0, 1]


def test_a_huge_box_does_not_disturb_the_others() -> None:
    heads = quiet_heads()
    heads[0][0, 0:8, 1, 1] = torch.tensor([0.0, 0.0, 60.0, 60.0, 20.0, -20.0, -20.0, 20.0])
    for column in (4, 6):
        heads[1][0, 0:8, 4, column] = torch.tensor([0.0, 0.0, 0.0, 0.0, 3.0, -20.0, -20.0, 20.0])
    assert len(detector().finish(heads, Letterbox.fit((96, 64), (96, 64)))[0]) == 3


def test_no_frames_and_nothing_found() -> None:
    assert detector()(np.zeros((0, 50, 120, 3), np.uint8)) == []
    (found,) = detector(score_threshold=1.0)(FRAMES[:1])
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_opened_from_files(files: tuple[Path, Path, Path]) -> None:
    opened: Detector = DarknetDetector.open(*files, score_threshold=0.5)
    assert opened.class_names == NAMES
    for ours, expected in zip(opened(FRAMES), detector(score_threshold=0.5)(FRAMES), strict=True):
        np.testing.assert_array_equal(ours.boxes, expected.boxes)


def test_what_the_network_sees_is_grey_around_the_frame() -> None:
    images, letterbox = detector().prepare(FRAMES[:, :, :, ::-1])
    assert (letterbox.left, letterbox.top, letterbox.width, letterbox.height) == (0, 12, 96, 40)
    assert images.dtype == torch.float32
    assert images[:, :, :12].unique().tolist() == images[:, :, 52:].unique().tolist() == [pytest.approx(128 / 255)]
    shown = letterbox.apply(FRAMES[1], 128)[12:52].astype(np.float32) / 255
    np.testing.assert_allclose(images[1, :, 12:52].flip(0).permute(1, 2, 0), shown, atol=1e-6)


def test_names_of_another_number(files: tuple[Path, Path, Path]) -> None:
    cfg, weights, names = files
    names.write_text("cat\ndog\n")
    with pytest.raises(ConfigError, match="2 class names for a network of 3 classes"):
        DarknetDetector.open(cfg, weights, names)
    with pytest.raises(ConfigError, match="class names not found"):
        DarknetDetector.open(cfg, weights, names.with_name("absent.names"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_the_cpu_finds() -> None:
    for ours, expected in zip(detector(device="cuda", score_threshold=0.5)(FRAMES), detector(score_threshold=0.5)(FRAMES), strict=True):
        assert abs(len(ours) - len(expected)) <= 1
        np.testing.assert_allclose(ours.scores[:5], expected.scores[:5], atol=5e-3)


HEAD = Head(layer=9, source=7, anchors=((10, 20), (31, 7)), mask=(0, 2), stride=16, scale_x_y=1.1, classes=3)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def slow_decode(raw: np.ndarray, head: Head) -> list[tuple[list[float], list[float]]]:
    """One box after the other, anchors outermost: corners in pixels, scores of the classes."""
    found = []
    for (number, anchor), y, x in itertools.product(enumerate(head.anchors), range(raw.shape[1]), range(raw.shape[2])):
        tx, ty, tw, th, objectness, *classes = (float(value) for value in raw[number * (5 + head.classes) :, y, x][: 5 + head.classes])
        centre_x = (x + head.scale_x_y * sigmoid(tx) - (head.scale_x_y - 1) / 2) * head.stride
        centre_y = (y + head.scale_x_y * sigmoid(ty) - (head.scale_x_y - 1) / 2) * head.stride
        half_w, half_h = anchor[0] * math.exp(tw) / 2, anchor[1] * math.exp(th) / 2
        box = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
        found.append((box, [sigmoid(objectness) * sigmoid(value) for value in classes]))
    return found


def raw_head(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_all_heads_of_a_network_equal_loops() -> None:
    net = CASES[0].build()
    raw = [raw_head(2, 3 * 8, 4, 6), raw_head(2, 2 * 8, 8, 12)]
    for image, (boxes, scores, labels) in enumerate(decode_above(raw, net.heads, 0.0)):
        assert boxes.shape == (3 * 24 + 2 * 96, 4)
        slow = [pair for head, values in zip(net.heads, raw, strict=True) for pair in slow_decode(values[image].numpy(), head)]
        np.testing.assert_allclose(boxes, [box for box, _ in slow], rtol=1e-12)
        np.testing.assert_allclose(scores, [max(scores) for _, scores in slow], rtol=1e-12)
        assert labels.tolist() == [int(np.argmax(scores)) for _, scores in slow]


def test_zeros_stand_for_the_anchor_in_the_middle_of_its_cell() -> None:
    ((boxes, scores, _),) = decode_above([torch.zeros(1, 16, 2, 2)], [HEAD], 0.0)
    assert boxes[6].tolist() == [8 - 15.5, 24 - 3.5, 8 + 15.5, 24 + 3.5]
    assert scores.unique().tolist() == [0.25]


@pytest.mark.parametrize("least", [0.3, 0.7, 1.0])
def test_cells_above_a_score_are_among_all(least: float) -> None:
    raw = [2 * raw_head(1, 16, 4, 6)]
    raw[0][0, 4, 0, 0] = float("nan")
    ((boxes, scores, labels),) = decode_above(raw, [HEAD], 0.0)
    kept = scores >= least
    for found, expected in zip(decode_above(raw, [HEAD], least)[0], (boxes, scores, labels), strict=True):
        assert torch.equal(found, expected[kept])
