"""Losses between the yolo heads of a student and what an oracle says, with bounds on how far the student follows.

Re-implementation from the abstract of Farhadi and Yang 2020 (TKD, arXiv 1903.01522) and from public code of its authors for a later
variant. The published bound itself could not be read; two readings of it are implemented here. Where student and oracle
share cells and anchors their raw outputs are compared cell by cell; where they do not, the oracle's boxes become truths
(`oracle_assigned`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from vidkd.losses.reduction import clip_mean, require_same_shape, widen
from vidkd.losses.yolo import DARKNET, YoloLossOptions, YoloTerms, bernoulli_kl, yolo_loss
from vidkd.losses.yolo_heads import HeadSpec, offsets_in_cell, split_heads
from vidkd.losses.yolo_targets import Truths, assign, box_targets, flatten_truths


def confidence_bounded_mix(
    student: Sequence[Tensor], teacher: Sequence[Tensor], specs: Sequence[HeadSpec], *, threshold: float = 0.2, share: float = 0.4
) -> Tensor:
    """MSE of raw cell vectors towards T where sigmoid(T_objectness) >= threshold, else towards share T + (1 - share) S without gradient.

    student, teacher: raw heads (B, A * (5 + C), h, w) that share cells and anchors, one for each of `specs`. The mean over all numbers of
    a head, summed over heads; a scalar >= 0, 0 where S = T. Where the oracle is sure the gradient is 2 (S - T) / n, elsewhere `share` times
    that (and the value share^2 times (S - T)^2 / n), so background pulls less; share=1 is plain MSE, 0 ignores the unsure cells.
    No gradient reaches the teacher. Raises ValueError for shapes that do not pair.
    Source: the mix, both constants and the squared error are read in the authors' public code of a later variant; the mean over a head is a
    reconstruction, and whether this is the bound of the paper is unknown.
    """
    losses = []
    for cells_S, cells_T in _paired(student, teacher, specs):
        sure = cells_T[..., 4:5].sigmoid() >= threshold
        target = torch.where(sure, cells_T, share * cells_T + (1 - share) * cells_S.detach())
        losses.append((cells_S - target).square().mean())
    return torch.stack(losses).sum()


def bounded_box_regression(
    student: Sequence[Tensor], teacher: Sequence[Tensor], truths: Sequence[Truths], specs: Sequence[HeadSpec], *, margin: float = 0.0
) -> Tensor:
    """Chen's bound on the cells responsible for a true box: `regression_kd` of the four box numbers, averaged over those cells.

    A cell costs ||R_s - y||^2 if ||R_s - y||^2 + margin > ||R_t - y||^2, else 0: a student nearer to the truth than its teacher by more
    than the margin costs nothing. R: the head's offsets of the centre in cells, and the logs of size over anchor; y: the same of the true
    box. student, teacher: raw heads that share cells and anchors. truths: one for each image, weighing by `Truths.weight`.
    A scalar >= 0, 0 where no cell is responsible; no gradient reaches the teacher. Raises ValueError for shapes that do not pair.
    Source: Chen et al. 2017, "Learning Efficient Object Detection Models with Knowledge Distillation", from memory, unverified; that it is
    applied to the cells of a yolo head is a reconstruction.
    """
    pairs = _paired(student, teacher, specs)
    flat = flatten_truths(truths, pairs[0][0])
    rows_S, rows_T, wanted, weight = [], [], [], []
    grids = [(cells.shape[2], cells.shape[3]) for cells, _ in pairs]
    for (cells_S, cells_T), rows, spec in zip(pairs, assign(flat, specs, grids), specs, strict=True):
        rows_S.append(_regressed(cells_S[rows.place], spec))
        rows_T.append(_regressed(cells_T[rows.place], spec))
        wanted.append(box_targets(flat.boxes[rows.truth], rows, spec))
        weight.append(flat.weight[rows.truth])
    if sum(map(len, weight)) == 0:
        return torch.cat(rows_S).sum()
    return regression_kd(torch.cat(rows_S), torch.cat(rows_T), torch.cat(wanted), margin=margin, weight=torch.cat(weight))


def regression_kd(student: Tensor, teacher: Tensor, target: Tensor, *, margin: float = 0.0, weight: Tensor | None = None) -> Tensor:
    """Teacher-bounded regression: ||S - y||^2 for a row with ||S - y||^2 + margin > ||R - y||^2, else 0; R is the teacher. Mean over rows.

    student, teacher, target: (N, D), in one unit. A row where the student beats the teacher by more than `margin` (the unit squared) costs
    nothing, and a teacher worse than the student pulls nowhere: the target is always y. weight: optional (N,). Returns a scalar >= 0; no
    gradient reaches teacher or target. Raises ValueError if the shapes differ.
    Source: Chen et al. 2017, "Learning Efficient Object Detection Models with Knowledge Distillation", from memory, unverified.
    """
    require_same_shape(student, teacher, ndim=2)
    require_same_shape(student, target, ndim=2)
    y = widen(target.detach())
    error_S = (widen(student) - y).square().sum(1)
    error_T = (widen(teacher.detach()) - y).square().sum(1)
    return clip_mean(error_S * (error_S.detach() + margin > error_T), weight)


def oracle_assigned(
    heads: Sequence[Tensor],
    oracle: Sequence[Truths],
    specs: Sequence[HeadSpec],
    *,
    certain: float = 0.0,
    scores_as: Literal["weight", "objectness"] = "weight",
    score_power: float = 1.0,
    options: YoloLossOptions = DARKNET,
) -> YoloTerms:
    """`yolo_loss` with the boxes of any oracle as truths, whether or not it shares cells with the student.

    heads: the student's raw heads. oracle: what it found in each image, its scores as `Truths.confidence` (None: 1).
    scores_as="weight": a box counts by its score, and its cell is taught objectness 1: a student that has learned it is sure of what the
    oracle doubts. "objectness": every box counts in full, and its cell is taught the objectness score ** score_power, so that the student's
    scores rank as the oracle's do. A student that is unsure says less than it is taught: powers below 1 make up for that.
    certain: boxes of a lower score ask nothing: predictions near them are neither taught nor punished.
    With `options.box_iou_bound` a prediction that meets the oracle's box by that IoU costs nothing in the box term: a bound of ours.
    Raises ValueError as `yolo_loss` does.
    Source: reconstruction; the weighing by scores and the power are ours.
    """
    return yolo_loss(heads, [_by_score(found, certain, scores_as, score_power) for found in oracle], specs, options=options)


def matched_heads(student: Sequence[Tensor], teacher: Sequence[Tensor], specs: Sequence[HeadSpec], *, box_weight: float = 1.0) -> YoloTerms:
    """Dense distillation of yolo heads that share cells and anchors; summed over an image's cells and heads, averaged over images.

    objectness: KL(Bernoulli(sigmoid(T)) || Bernoulli(sigmoid(S))) of every cell, that is binary cross-entropy to the oracle's probability
    less its minimum. classes: the same for each class, times the oracle's objectness in the cell.
    box: 1/2 squared difference of the offsets (in cells) and log sizes, times the oracle's objectness and `box_weight`.
    Every term is >= 0 (up to rounding) and 0 where S = T; no gradient reaches the teacher. Raises ValueError for shapes that do not pair.
    Source: reconstruction of plain dense detector distillation; weighing by the oracle's objectness follows Mehta and Ozturk 2018
    (arXiv 1805.06361), from memory, unverified.
    """
    sums = [_matched(s, t, spec) for (s, t), spec in zip(_paired(student, teacher, specs), specs, strict=True)]
    box, objectness, classes = torch.stack(sums).sum(0) / len(student[0])
    box = box_weight * box
    return YoloTerms(box, objectness, classes, box + objectness + classes)


def _matched(cells_S: Tensor, cells_T: Tensor, spec: HeadSpec) -> Tensor:
    present = cells_T[..., 4].sigmoid()
    objectness = bernoulli_kl(cells_S[..., 4], present)
    classes = present * bernoulli_kl(cells_S[..., 5:], cells_T[..., 5:].sigmoid()).sum(-1)
    box = present * (_regressed(cells_S, spec) - _regressed(cells_T, spec)).square().sum(-1) / 2
    return torch.stack([box.sum(), objectness.sum(), classes.sum()])


def _regressed(cells: Tensor, spec: HeadSpec) -> Tensor:
    """Offsets in cells and log sizes over anchors of raw vectors (..., 5 + C): (..., 4)."""
    return torch.cat([offsets_in_cell(cells, spec), cells[..., 2:4]], dim=-1)


def _paired(student: Sequence[Tensor], teacher: Sequence[Tensor], specs: Sequence[HeadSpec]) -> list[tuple[Tensor, Tensor]]:
    """Cells (B, A, h, w, 5 + C) of student and teacher, head by head, the teacher's without gradient."""
    pairs = list(zip(split_heads(student, specs), split_heads([raw.detach() for raw in teacher], specs), strict=True))
    for cells_S, cells_T in pairs:
        require_same_shape(cells_S, cells_T, hint="; heads that share no cells: see oracle_assigned")
    return pairs


def _by_score(found: Truths, certain: float, scores_as: str, power: float) -> Truths:
    scores = found.boxes.new_ones(len(found.boxes)) if found.confidence is None else found.confidence
    weight = torch.ones_like(scores) if found.weight is None else found.weight
    if scores_as == "weight":
        weight = weight * scores
    taught = None if scores_as == "weight" else scores**power
    return dataclasses.replace(found, weight=weight * (scores >= certain), confidence=taught)
