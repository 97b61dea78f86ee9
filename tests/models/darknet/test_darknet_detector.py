from pathlib import Path

import numpy as np
import pytest
import torch
from reference_nets import CASES

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.models.darknet import Darknet, parse_cfg, save_weights, to_cfg
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.detections import Detections
from vidkd.runtime.detector import Detector
from vidkd.runtime.letterbox import Letterbox
from vidkd.runtime.nms import nms

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


def slow_detections(net: Darknet, frame: np.ndarray, size: tuple[int, int], score: float, iou: float) -> Detections:
    """The same by another way: the letterbox by hand, decoding box by box in numpy, suppression of the numpy room."""
    box = Letterbox.fit((frame.shape[1], frame.shape[0]), size, "darknet")
    image = torch.from_numpy(box.apply(frame, 128)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        heads = net(image)
    boxes, scores, labels = [], [], []
    for raw, head in zip(heads, net.heads, strict=True):
        values = raw[0].double().numpy().reshape(len(head.anchors), 5 + head.classes, *raw.shape[2:])
        for anchor, y, x in np.ndindex(len(head.anchors), *raw.shape[2:]):
            places, squashed = values[anchor, :, y, x], 1 / (1 + np.exp(-values[anchor, :, y, x]))
            if squashed[4] * squashed[5:].max() < score:
                continue
            centre = (np.array([x, y]) + head.scale_x_y * squashed[:2] - (head.scale_x_y - 1) / 2) * head.stride
            half = np.array(head.anchors[anchor]) * np.exp(places[2:4]) / 2
            boxes.append([*(centre - half), *(centre + half)])
            scores.append(squashed[4] * squashed[5:].max())
            labels.append(squashed[5:].argmax())
    kept = nms(np.array(boxes), np.array(scores), np.array(labels), iou)
    found = Detections(boxes=box.to_frame(np.array(boxes)[kept]), scores=np.array(scores)[kept], labels=np.array(labels)[kept])
    return found.clipped(frame.shape[1], frame.shape[0])


def test_detections_equal_those_of_a_slow_way() -> None:
    found = detector(score_threshold=0.5, nms_iou=0.4)(FRAMES)
    assert len(found) == 3
    for frame, ours in zip(FRAMES, found, strict=True):
        slow = slow_detections(CASES[0].build(), frame, (96, 64), 0.5, 0.4)
        slow = slow.select(np.all(slow.boxes[:, 2:] > slow.boxes[:, :2], axis=1))
        assert len(ours) == len(slow) > 5
        np.testing.assert_array_equal(ours.labels, slow.labels)
        np.testing.assert_allclose(ours.scores, slow.scores, atol=1e-5)
        np.testing.assert_allclose(ours.boxes, slow.boxes, atol=2e-3)
        assert (np.diff(ours.scores) <= 0).all()
        assert (ours.frame_index, ours.time_s) == (0, None)


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


def test_a_batch_equals_its_frames_one_by_one_and_training_mode_is_off() -> None:
    net = CASES[0].build().train()
    detect = DarknetDetector(net, NAMES, score_threshold=0.5)
    assert not net.training
    for together, alone in zip(detect(FRAMES), (detect(frame[None])[0] for frame in FRAMES), strict=True):
        np.testing.assert_allclose(together.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_array_equal(together.labels, alone.labels)


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


def test_another_input_size_and_way_of_resizing(files: tuple[Path, Path, Path]) -> None:
    larger = DarknetDetector.open(*files, input_size=(160, 96), resize="stretch", score_threshold=0.5)
    images, letterbox = larger.prepare(FRAMES)
    assert images.shape == (3, 3, 96, 160)
    assert (letterbox.width, letterbox.height) == (160, 96)
    assert sum(map(len, larger(FRAMES))) > 0


def test_what_the_network_sees_is_grey_around_the_frame() -> None:
    images, letterbox = detector().prepare(FRAMES[:, :, :, ::-1])
    assert (letterbox.left, letterbox.top, letterbox.width, letterbox.height) == (0, 12, 96, 40)
    assert images.dtype == torch.float32
    assert images[:, :, :12].unique().tolist() == images[:, :, 52:].unique().tolist() == [pytest.approx(128 / 255)]
    shown = letterbox.apply(FRAMES[1], 128)[12:52].astype(np.float32) / 255
    np.testing.assert_allclose(images[1, :, 12:52].flip(0).permute(1, 2, 0), shown, atol=1e-6)


@pytest.mark.parametrize("frames", [FRAMES[0], FRAMES.astype(np.float32), FRAMES[..., :1]])
def test_frames_that_are_none(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"frames must be uint8 \(B, H, W, 3\)"):
        detector()(frames)


def test_names_of_another_number(files: tuple[Path, Path, Path]) -> None:
    cfg, weights, names = files
    names.write_text("cat\ndog\n")
    with pytest.raises(ConfigError, match="holds 2 class names, the cfg says 3 classes"):
        DarknetDetector.open(cfg, weights, names)
    with pytest.raises(ConfigError, match="class names not found"):
        DarknetDetector.open(cfg, weights, names.with_name("absent.names"))
    with pytest.raises(ConfigError, match="1 class names for a network of 3 classes"):
        DarknetDetector(CASES[0].build(), ("cat",))


def test_weights_of_another_cfg(files: tuple[Path, Path, Path]) -> None:
    cfg, weights, names = files
    cfg.write_text(to_cfg(CASES[0].build().config.with_classes(2)))
    names.write_text("cat\ndog\n")
    with pytest.raises(CheckpointError, match="cfg wants"):
        DarknetDetector.open(cfg, weights, names)


@pytest.mark.parametrize("settings", [{"score_threshold": 1.5}, {"score_threshold": -0.1}, {"nms_iou": 2.0}, {"nms_iou": float("nan")}])
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} must lie in"):
        detector(**settings)


def test_a_network_of_other_channels() -> None:
    text = "[net]\nwidth=32\nheight=32\nchannels=1\n[convolutional]\nfilters=6\nactivation=linear\n[yolo]\nanchors=1,2\nclasses=1\nnum=1\n"
    with pytest.raises(ConfigError, match="takes RGB, this network 1 channels"):
        DarknetDetector(Darknet(parse_cfg(text)), ("cat",))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_the_cpu_finds() -> None:
    for ours, expected in zip(detector(device="cuda", score_threshold=0.5)(FRAMES), detector(score_threshold=0.5)(FRAMES), strict=True):
        assert abs(len(ours) - len(expected)) <= 1
        np.testing.assert_allclose(ours.scores[:5], expected.scores[:5], atol=5e-3)
