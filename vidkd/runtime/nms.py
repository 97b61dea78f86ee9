"""Overlap of boxes, and non-maximum suppression."""

import numpy as np
from numpy.typing import NDArray

# Boxes resolved against each other at once: bounds the overlap matrix at BLOCK x N, however many candidates a low threshold lets through.
BLOCK = 256


def box_area(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Areas (N,) of boxes (N, 4) x1 y1 x2 y2; 0 where a box is turned inside out."""
    boxes = np.asarray(boxes, np.float64)
    return np.asarray((boxes[:, 2] - boxes[:, 0]).clip(0) * (boxes[:, 3] - boxes[:, 1]).clip(0))


def box_iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union (N, M) in [0, 1] of boxes (N, 4) and (M, 4), x1 y1 x2 y2; 0 for two boxes without area."""
    first, second = np.asarray(first, np.float64).reshape(-1, 4), np.asarray(second, np.float64).reshape(-1, 4)
    width = np.minimum(first[:, None, 2], second[None, :, 2]) - np.maximum(first[:, None, 0], second[None, :, 0])
    height = np.minimum(first[:, None, 3], second[None, :, 3]) - np.maximum(first[:, None, 1], second[None, :, 1])
    shared = width.clip(0) * height.clip(0)
    union = box_area(first)[:, None] + box_area(second)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def nms(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    iou: float,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: indices of the boxes that stay, by falling score, equal scores in the order given.

    boxes: (N, 4) x1 y1 x2 y2. scores, labels: (N,). A box falls to a better one of its class with which it overlaps by more than `iou` in
    [0, 1].
    """
    boxes, labels = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(labels)
    order = np.argsort(-np.asarray(scores), kind="stable")
    stays = np.zeros(len(boxes), bool)
    for label in np.unique(labels):
        stays[_greedy(boxes, order[labels[order] == label], iou)] = True
    return np.asarray(order[stays[order]], np.int64)


def _greedy(boxes: NDArray[np.float64], left: NDArray[np.int64], iou: float) -> NDArray[np.int64]:
    """Those of `left`, best first, that no better one covers."""
    stays: list[NDArray[np.int64]] = []
    while len(left):
        block, left = left[:BLOCK], left[BLOCK:]
        block = block[_standing(box_iou(boxes[block], boxes[block]) > iou)]
        stays.append(block)
        left = left[~(box_iou(boxes[block], boxes[left]) > iou).any(0)]
    return np.concatenate(stays) if stays else left


def _standing(covers: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which are kept, when each kept one removes those after it that it covers."""
    kept = np.ones(len(covers), bool)
    for better in range(len(covers)):
        if kept[better]:
            kept[better + 1 :] &= ~covers[better, better + 1 :]
    return kept
