"""What a selector's file says of videos, student and learning, and what of it is other where it is used."""

from pathlib import Path

import pytest
import torch
from online_samples import detector

from vidkd.detection.policies.lstm import objections, other_learning, provenance
from vidkd.models.darknet import load_weights, save_weights


def test_a_student_is_known_by_its_weights_and_how_frames_meet_it(tmp_path: Path) -> None:
    net = detector(0).net
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.num_batches_tracked.fill_(70)
    about = provenance([], [], net, "darknet")
    save_weights(net, tmp_path / "student.weights")
    again = detector(1).net
    assert objections(about, again, "darknet", {}) == ["was trained with another student: its weights differ"]
    load_weights(again, tmp_path / "student.weights")
    assert objections(about, again, "darknet", {}) == [], "a checkpoint and the file of weights made of it"
    assert objections(about, again, "stretch", {}) == ["was trained with another student: its resize differ"]


def test_videos_are_known_by_their_content_on_both_sides() -> None:
    net = detector(0).net
    about = provenance(["aa", "bb"], ["cc"], net, "darknet")
    contents = {"one.mp4": "dd", "two.mp4": "cc", "three.mp4": "aa"}
    assert objections(about, net, "darknet", contents) == ["has seen two.mp4, three.mp4 in its training"]
    assert objections({"train": ["one.mp4"]}, net, "darknet", contents) == ["does not say which videos and which student it has seen"]


@pytest.mark.parametrize(
    ("now", "other"),
    [
        ({"budget": 0.05, "update": {"lr": 0.1, "betas": (0.9, 0.99)}}, []),
        ({"budget": 0.1, "window": 100}, ["budget: 0.05 then, 0.1 now", "window: 200 then, 100 now"]),
        (
            {"update": {"lr": 0.2, "options": {"iou_loss": "giou"}}},
            ["update.lr: 0.1 then, 0.2 now", "update.options.iou_loss: ciou then, giou now"],
        ),
        ({"replay": {"frames": 8, "seed": 3}, "seed": 7}, []),
    ],
)
def test_learning_is_compared_in_what_both_sides_name_but_not_in_seeds(now: dict, other: list[str]) -> None:
    update = {"lr": 0.1, "betas": [0.9, 0.99], "options": {"iou_loss": "ciou"}}
    made_from = {"budget": 0.05, "window": 200, "seed": 0, "update": update, "replay": {"frames": 8, "seed": 0}}
    assert other_learning({"made_from": made_from}, now) == other
    assert other_learning({}, now) == []
