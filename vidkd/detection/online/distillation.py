"""The losses that teach a student from key frames, by name."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vidkd.detection.online.replay import KeyFrame
from vidkd.losses.teacher_bounded import bounded_box_regression, confidence_bounded_mix, matched_heads, oracle_assigned
from vidkd.losses.yolo_heads import HeadSpec
from vidkd.losses.yolo_targets import Truths

if TYPE_CHECKING:
    from vidkd.detection.online.update import Update

Heads = Sequence[Tensor]


def _assigned(heads: Heads, keys: Sequence[KeyFrame], specs: Sequence[HeadSpec], update: "Update") -> Tensor:
    found = [truths_of(key, heads[0].device) for key in keys]
    return oracle_assigned(
        heads,
        found,
        specs,
        certain=update.certain,
        scores_as=update.scores_as,
        score_power=update.score_power,
        options=update.options,
    ).total


def _matched(heads: Heads, keys: Sequence[KeyFrame], specs: Sequence[HeadSpec], update: "Update") -> Tensor:  # noqa: ARG001
    return matched_heads(heads, oracle_heads(keys, heads), specs).total


def _mix(heads: Heads, keys: Sequence[KeyFrame], specs: Sequence[HeadSpec], update: "Update") -> Tensor:
    return confidence_bounded_mix(heads, oracle_heads(keys, heads), specs, threshold=update.mix_threshold, share=update.mix_share)


def _bounded_boxes(heads: Heads, keys: Sequence[KeyFrame], specs: Sequence[HeadSpec], update: "Update") -> Tensor:
    theirs = oracle_heads(keys, heads)
    found = [truths_of(key, heads[0].device) for key in keys]
    boxes = bounded_box_regression(heads, theirs, found, specs, margin=update.margin)
    return boxes + matched_heads(heads, theirs, specs, box_weight=0.0).total


LOSSES: dict[str, Callable[[Heads, Sequence[KeyFrame], Sequence[HeadSpec], "Update"], Tensor]] = {
    "oracle_assigned": _assigned,
    "matched_heads": _matched,
    "confidence_bounded_mix": _mix,
    "bounded_box_regression": _bounded_boxes,
}

NEEDS_HEADS = frozenset(LOSSES) - {"oracle_assigned"}


def truths_of(key: KeyFrame, device: torch.device) -> Truths:
    """What the oracle found, as truths with its scores for confidence."""
    return Truths(
        boxes=torch.from_numpy(key.boxes).to(device),
        labels=torch.from_numpy(key.labels).to(device),
        confidence=torch.from_numpy(key.scores).to(device),
    )


def oracle_heads(keys: Sequence[KeyFrame], like: Heads) -> list[Tensor]:
    """The oracle's raw heads of some key frames, (B, A * (5 + C), h, w) each. Raises ValueError for a key frame without."""
    rows = [key.heads for key in keys if key.heads is not None]
    if len(rows) < len(keys):
        raise ValueError("a key frame has no raw heads of the oracle")
    return [torch.stack([torch.from_numpy(row[place]) for row in rows]).to(like[0].device) for place in range(len(like))]
