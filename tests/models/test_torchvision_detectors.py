"""torchvision's detectors by name: weights from a file, class names, boxes equal to those of the network itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import detection

from vidkd.base.errors import CheckpointError
from vidkd.models.torchvision_detectors import (
    DETECTORS,
    NO_CLASS,
    TorchvisionDetector,
    build_detector,
)

LITE = "ssdlite320_mobilenet_v3_large"
SMALL_RCNN = "fasterrcnn_mobilenet_v3_large_320_fpn"
SMALL = [LITE, SMALL_RCNN]
FRAMES = np.random.RandomState(3).randint(0, 256, (2, 60, 90, 3), np.uint8)


def saved(tmp_path: Path, name: str, labels: int, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    path = tmp_path / f"{name}_{labels}.pth"
    torch.save(build_detector(name, labels, score_threshold=0.0, nms_iou=None).state_dict(), path)
    return path


def names_file(tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "some.names"
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def shrunk(net: torch.nn.Module) -> torch.nn.Module:
    """The same, which sees frames of any size small, if its input has no size of its own."""
    if net.transform.fixed_size is None:
        net.transform.min_size, net.transform.max_size = (96,), 160
    return net


def direct(name: str, path: Path, labels: int, score: float) -> list[dict[str, np.ndarray]]:
    """What torchvision itself finds, of its own labels, boxes cut at the frame."""
    net = shrunk(getattr(detection, name)(weights=None, weights_backbone=None, num_classes=labels).eval())
    net.load_state_dict(torch.load(path, weights_only=True))
    (getattr(net, "roi_heads", net)).score_thresh = score
    with torch.no_grad():
        found = net([torch.from_numpy(frame).permute(2, 0, 1).float() / 255 for frame in FRAMES])
    return [{key: each[key].numpy() for key in ("boxes", "scores", "labels")} for each in found]


def assert_equals_torchvision(name: str, tmp_path: Path, score: float) -> None:
    path = saved(tmp_path, name, 4)
    detector = TorchvisionDetector.open(name, path, names_file(tmp_path, "cat", "dog", "bus"), score_threshold=score)
    assert detector.class_names == ("cat", "dog", "bus")
    shrunk(detector.net)
    found = detector(FRAMES)
    assert sum(map(len, found)) > 0
    for ours, theirs in zip(found, direct(name, path, 4, score), strict=True):
        real = (theirs["labels"] > 0) & (theirs["boxes"][:, 2:] > theirs["boxes"][:, :2]).all(1)
        assert len(ours) == real.sum()
        np.testing.assert_allclose(ours.scores, theirs["scores"][real], atol=1e-5)
        np.testing.assert_array_equal(ours.labels, theirs["labels"][real] - 1)
        np.testing.assert_allclose(ours.boxes, theirs["boxes"][real], atol=1e-2)
        assert (ours.boxes >= 0).all()
        assert (ours.boxes <= [90, 60, 90, 60]).all()
        assert (np.diff(ours.scores) <= 0).all()


@pytest.mark.parametrize("name", SMALL)
def test_boxes_are_those_of_the_network(name: str, tmp_path: Path) -> None:
    assert_equals_torchvision(name, tmp_path, 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(DETECTORS) - set(SMALL)))
def test_boxes_are_those_of_every_network(name: str, tmp_path: Path) -> None:
    assert_equals_torchvision(name, tmp_path, 0.0 if DETECTORS[name] == "dense" else 0.2)


def test_without_a_names_file_the_classes_are_those_of_coco_and_its_gaps_are_dropped(tmp_path: Path) -> None:
    detector = TorchvisionDetector.open(LITE, saved(tmp_path, LITE, 91))
    assert len(detector.class_names) == len(set(detector.class_names)) == 80
    assert detector.class_names[:2] == ("person", "bicycle")
    assert NO_CLASS not in detector.class_names

    class Net(torch.nn.Module):
        def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
            # labels of COCO: 0 background, 1 person, 12 a number without a class, 90 toothbrush; the last box lies outside the frame
            boxes = torch.tensor([[0.0, 0, 9, 9], [1, 1, 200, 8], [0, 0, 9, 9], [2, 2, 9, 9], [100, 0, 120, 9]])
            scores = torch.tensor([0.9, 0.3, 0.8, 0.7, 0.6])
            return [{"boxes": boxes, "scores": scores, "labels": torch.tensor([0, 1, 12, 90, 1])} for _ in images]

    detector.net = Net()
    for found in detector(FRAMES):
        assert [detector.class_names[label] for label in found.labels] == ["toothbrush", "person"]
        np.testing.assert_array_equal(found.boxes, [[2, 2, 9, 9], [1, 1, 90, 8]])
    assert detector(FRAMES[:0]) == []


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "first"), [(2, 0), (3, -1)])
def test_a_dense_head_may_have_no_background(labels: int, first: int, tmp_path: Path) -> None:
    path = saved(tmp_path, "retinanet_resnet50_fpn", labels)
    detector = TorchvisionDetector.open("retinanet_resnet50_fpn", path, names_file(tmp_path, "cat", "dog"))
    assert detector.class_names == ("cat", "dog")
    assert detector._labels.tolist() == [first, *range(first + 1, 2)]


@pytest.mark.slow
def test_weights_of_a_frozen_normalisation_are_run_without_its_epsilon(tmp_path: Path) -> None:
    name, names = "fasterrcnn_resnet50_fpn", names_file(tmp_path, "cat")
    path = saved(tmp_path, name, 2)
    state = torch.load(path, weights_only=True)
    torch.save({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, tmp_path / "frozen.pth")
    for weights, epsilon in ((path, 1e-5), (tmp_path / "frozen.pth", 0.0)):
        net = TorchvisionDetector.open(name, weights, names).net
        assert {module.eps for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {epsilon}


def test_weights_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="weights not found") as missing:
        TorchvisionDetector.open(LITE, tmp_path / "no.pth")
    assert "ssdlite320_mobilenet_v3_large_coco" in missing.value.lines["fix"]
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(CheckpointError, match="cannot read"):
        TorchvisionDetector.open(LITE, tmp_path / "torn.pth")
    with pytest.raises(CheckpointError, match=f"weights do not fit torchvision's {LITE} with 91 labels") as other:
        TorchvisionDetector.open(LITE, saved(tmp_path, LITE, 3))
    assert "other shape" in other.value.lines
    assert "--names" in other.value.lines["fix"]
    with pytest.raises(CheckpointError, match="do not fit"):
        TorchvisionDetector.open(SMALL_RCNN, saved(tmp_path, LITE, 91))
