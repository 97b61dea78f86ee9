"""Raw heads, decoded boxes and boxes after NMS equal those of OpenCV 4's darknet importer (see make_reference.py)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from make_reference import IOU, SCORE, entries
from reference_nets import CASES, REAL, REFERENCE, Case, noise, picture

from vidkd.losses.yolo_heads import boxes_of_cells, split_head
from vidkd.models.darknet import Darknet, load_weights
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.letterbox import Letterbox

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
