import numpy as np
import pytest

from vidkd.runtime.nms import BLOCK, box_area, box_iou, nms


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


def test_overlaps_are_those_of_torchvision():
    import torch
    from torchvision.ops import box_iou as reference

    a, b = random_boxes(30, 0)[0], random_boxes(20, 1)[0]
    np.testing.assert_allclose(box_iou(a, b), reference(torch.tensor(a), torch.tensor(b)).numpy(), atol=1e-12)


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
