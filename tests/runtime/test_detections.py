import numpy as np
import pytest

from vidkd.base.errors import ConfigError
from vidkd.runtime.detections import BLOCK, Detections, box_area, box_iou, map_classes, nms

FOUND = Detections(boxes=[[0, 0, 4, 4], [-2, 3, 30, 9]], scores=[0.9, 0.2], labels=[1, 0], frame_index=7, time_s=0.5, track_ids=[4, 6])


def test_parts_have_their_types_whatever_they_are_made_from():
    assert FOUND.boxes.dtype == np.float32
    assert FOUND.boxes.shape == (2, 4)
    assert FOUND.scores.dtype == np.float32
    assert FOUND.labels.dtype == np.int64


def test_selects_by_mask_and_by_indices_in_order():
    kept = FOUND.select(FOUND.scores > 0.5)
    assert kept.labels.tolist() == [1]
    assert kept.track_ids.tolist() == [4]
    assert (kept.frame_index, kept.time_s) == (7, 0.5)
    assert FOUND.select(np.asarray([1, 0])).scores.tolist() == pytest.approx([0.2, 0.9])


def test_boxes_are_cut_at_the_edges():
    assert FOUND.clipped(20, 6).boxes.tolist() == [[0, 0, 4, 4], [0, 3, 20, 6]]


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in number"):
        Detections(boxes=[[0, 0, 1, 1]], scores=[0.5, 0.5], labels=[0])


def test_nothing_found_is_empty_and_keeps_its_place():
    nothing = Detections.none(frame_index=3, time_s=1.5)
    assert len(nothing) == 0
    assert nothing.boxes.shape == (0, 4)
    assert nothing.at(4, None).frame_index == 4


def random_boxes(count: int, seed: int, spread: float = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, spread, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], 1)
    return boxes, rng.uniform(0, 1, count).round(2), rng.integers(0, 3, count)  # rounded: many equal scores


def slow_iou(a, b) -> float:
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def slow_nms(boxes, scores, labels, iou) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(slow_iou(boxes[i], boxes[k]) <= iou or labels[i] != labels[k] for k in kept):
            kept.append(i)
    return kept


def test_overlaps_worked_by_hand():
    first = [[0, 0, 2, 2], [0, 0, 0, 0], [3, 3, 1, 1]]
    second = [[0, 0, 2, 2], [1, 0, 3, 2], [1, 1, 3, 3], [2, 0, 4, 2], [0, 0, 4, 4], [0, 0, 0, 0]]
    expected = [[1, 1 / 3, 1 / 7, 0, 1 / 4, 0], [0] * 6, [0] * 6]
    np.testing.assert_allclose(box_iou(first, second), expected)
    np.testing.assert_allclose(box_area(first), [4, 0, 0])


@pytest.mark.parametrize(("count", "iou"), [(0, 0.5), (1, 0.5), (60, 0.0), (60, 0.3), (60, 1.0), (BLOCK + 60, 0.45)])
def test_those_that_stay_are_those_of_a_slow_loop_ties_included(count, iou):
    boxes, scores, labels = random_boxes(count, count)
    labels = labels * (count < BLOCK)  # more than a block of one class
    kept = nms(boxes, scores, labels, iou)
    assert kept.tolist() == slow_nms(boxes, scores, labels, iou)
    assert kept.dtype == np.int64


@pytest.mark.parametrize("seed", range(3))
def test_those_that_stay_are_those_of_torchvision(seed):
    import torch
    from torchvision.ops import batched_nms

    boxes, _, labels = random_boxes(400, seed)
    scores = np.random.default_rng(seed + 9).permutation(400) / 400
    reference = batched_nms(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), 0.5)
    assert nms(boxes, scores, labels, 0.5).tolist() == reference.tolist()


def test_an_overlap_of_just_the_threshold_stays():
    boxes = [[0, 0, 2, 2], [1, 0, 3, 2]]
    assert nms(boxes, np.ones(2), np.zeros(2, int), 1 / 3).tolist() == [0, 1]
    assert nms(boxes, np.ones(2), np.zeros(2, int), 0.333).tolist() == [0]


SOURCE = ("Person", "traffic_light", "people", "T-shirt", "kite")
TARGET = ("dog", "traffic  light", "person", "t shirt")


def test_names_meet_across_case_underscores_hyphens_and_spaces_alone():
    mapping = map_classes(SOURCE, TARGET)
    assert mapping.labels.tolist() == [2, 1, -1, 3, -1]
    assert mapping.only_source == ("people", "kite")
    assert mapping.only_target == ("dog",)


def test_detections_are_translated_and_those_of_unknown_classes_left_out():
    found = Detections(
        boxes=[[k, 0, 9, 9] for k in range(4)],
        scores=[0.9, 0.8, 0.7, 0.6],
        labels=[4, 0, 3, 0],
        frame_index=3,
        time_s=1.0,
        track_ids=[1, 2, 3, 4],
    )
    got = map_classes(SOURCE, TARGET).translate(found)
    assert got.labels.tolist() == [2, 3, 2]
    assert got.boxes[:, 0].tolist() == [1, 2, 3]
    assert got.track_ids.tolist() == [2, 3, 4]
    assert (got.frame_index, got.time_s) == (3, 1.0)


def test_lists_that_cannot_be_mapped_are_refused():
    with pytest.raises(ConfigError, match="class names 'Dog' and 'dog' are the same"):
        map_classes(("Dog", "dog"), TARGET)
    with pytest.raises(ConfigError, match="class names 'a b' and 'a_b' are the same"):
        map_classes(TARGET, ("a b", "a_b"))
    with pytest.raises(ConfigError, match=r"no class in common\n *first *: cat, cow\n *second *: a, b, c, d, e, \.\.\."):
        map_classes(("cat", "cow"), tuple("abcdef"))
