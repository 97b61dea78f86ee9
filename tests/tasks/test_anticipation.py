"""Anticipation: its loss from the parts' own formulas, what it sees, what it saves, what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vidkd.base.errors import ConfigError
from vidkd.losses import logits_kd
from vidkd.losses.shift_tolerant import SHIFT_TOLERANT, attentive, transport, window
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.config import TemporalConfig
from vidkd.tasks import build_task
from vidkd.tasks.anticipation import Anticipation, AnticipationConfig

CLASSES = 3


def classifier(view: Any = "rgb", seed: int = 0, targets: dict[str, int] | None = None, **config: Any) -> VideoClassifier:
    torch.manual_seed(seed)
    return VideoClassifier(ModelConfig(dropout=0.0, **config), CLASSES, view, targets)


def task_of(teacher: VideoClassifier | None = None, student: VideoClassifier | None = None, **settings: Any) -> Anticipation:
    task = build_task("anticipation", AnticipationConfig(**settings), student or classifier(), teacher or classifier(seed=1)).train()
    assert isinstance(task, Anticipation)
    return task


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    rgb = {name: torch.randint(0, 256, (4, 3, 4, 32, 32), generator=generator, dtype=torch.uint8) for name in ("rgb", "future_rgb")}
    return {
        **rgb,
        "future_flow": torch.randn(4, 2, 6, 32, 32, generator=generator).half(),
        "label": torch.tensor([0, 2, 1, 2]),
        "label_verb": torch.tensor([1, 0, 1, 1]),
        "index": torch.arange(4),
        "weight": torch.ones(4),
        "observed": torch.tensor([0.1, 0.4, 0.7, 1.0]),
    }


def maps(task: Anticipation, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Feature maps of the student as it trains, and of the teacher."""
    assert task.teacher is not None
    student = task.student(batch["rgb"], batch["observed"]).features[task.stage]
    return task.projector(student), task.teacher(batch[f"future_{task.teacher.view}"]).features[task.teacher_stage]


@pytest.mark.parametrize("feature", sorted(SHIFT_TOLERANT))
def test_the_loss_is_the_weighted_sum_of_its_terms(feature: Any, batch: dict[str, Tensor]) -> None:
    task = task_of(feature=feature, feature_weight=0.7, logits_weight=0.3, label_weight=0.5, temperature=2.0)
    losses = task(batch)
    assert task.teacher is not None
    mine, theirs = task.student(batch["rgb"]).logits, task.teacher(batch["future_rgb"]).logits
    torch.testing.assert_close(losses["label"], F.cross_entropy(mine, batch["label"]))
    torch.testing.assert_close(losses["logits"], logits_kd(mine, theirs, temperature=2.0))
    torch.testing.assert_close(losses[feature], SHIFT_TOLERANT[feature](*maps(task, batch), **task.config.of_feature()))
    torch.testing.assert_close(losses["loss"], 0.5 * losses["label"] + 0.7 * losses[feature] + 0.3 * losses["logits"])


def test_settings_reach_their_loss(batch: dict[str, Tensor]) -> None:
    transported = {"regularisation": 0.2, "iterations": 3}
    cases: list[tuple[dict[str, Any], Callable[[Tensor, Tensor], Tensor]]] = [
        ({"feature": "attentive", "attentive_temperature": 0.5}, lambda s, t: attentive(s, t, temperature=0.5)),
        ({"feature": "window", "radius": (0, 2, 2)}, lambda s, t: window(s, t, radius=(0, 2, 2))),
        ({"feature": "window", "radius": None}, lambda s, t: window(s, t, radius=None)),
        ({"feature": "transport", **transported}, lambda s, t: transport(s, t, **transported)),
    ]
    for settings, expected in cases:
        task = task_of(**settings)
        torch.testing.assert_close(task(batch)[settings["feature"]], expected(*maps(task, batch)))


def test_the_teacher_may_have_another_view_and_another_length(batch: dict[str, Tensor]) -> None:
    task = task_of(classifier("flow", seed=1), feature="attentive")
    assert task.views == ("rgb", "future_flow")
    student, teacher = maps(task, batch)
    assert student.shape[2] != teacher.shape[2]
    task(batch)["loss"].backward()
    assert all(value.grad is None for value in task.teacher.parameters())  # type: ignore[union-attr]
    assert max(float(value.grad.abs().max()) for value in task.student.backbone.parameters() if value.grad is not None) > 0


def test_unlike_widths_are_projected_and_the_projector_is_saved(batch: dict[str, Tensor]) -> None:
    task = task_of(feature="position", stage="stage2", teacher_stage="stage4")
    assert task.projector.weight.shape == (96, 48, 1, 1, 1)  # type: ignore[union-attr]
    assert set(task.saved_state()) == {"projector.weight", "projector.bias"}
    task(batch)["loss"].backward()
    assert float(task.projector.weight.grad.abs().max()) > 0  # type: ignore[union-attr]
    assert task_of(feature="none", logits_weight=1.0, stage="stage2").saved_state() == {}
    assert task_of(feature="position").saved_state() == {}


def test_every_kind_of_label_is_learned_and_distilled(batch: dict[str, Tensor]) -> None:
    student, teacher = classifier(targets={"verb": 2}), classifier(seed=1, targets={"verb": 2})
    task = task_of(teacher, student, feature="none", logits_weight=1.0)
    losses, mine, theirs = task(batch), student(batch["rgb"]), teacher(batch["future_rgb"])
    verb = F.cross_entropy(mine.targets["verb"], batch["label_verb"])
    torch.testing.assert_close(losses["label"], F.cross_entropy(mine.logits, batch["label"]) + verb)
    soft = logits_kd(mine.logits, theirs.logits, temperature=4.0) + logits_kd(mine.targets["verb"], theirs.targets["verb"], temperature=4.0)
    torch.testing.assert_close(losses["logits"], soft)


def image_network(pooling: Any = "gru", seed: int = 0, freeze: str | None = "all", answers: Any = "clip") -> VideoClassifier:
    temporal = TemporalConfig(pooling=pooling, width=8, answers=answers)
    return classifier(seed=seed, backbone="timm:resnet10t", freeze=freeze, temporal=temporal)


@pytest.mark.parametrize("answers", ["clip", "frames"])
def test_behind_a_frozen_backbone_the_states_of_frames_are_matched(answers: Any, batch: dict[str, Tensor]) -> None:
    student, teacher = image_network(answers=answers).train(), image_network(seed=1).eval()
    task = task_of(teacher, student, feature="gram", stage="temporal", teacher_stage="temporal")
    with torch.no_grad():
        states = [
            net.temporal.net(net(batch[view]).features["layer4"].mean((3, 4)).mT)[0]
            for net, view in zip((student, teacher), ("rgb", "future_rgb"), strict=True)
        ]
    losses = task(batch)
    torch.testing.assert_close(losses["gram"], SHIFT_TOLERANT["gram"](*(each.mT[..., None, None] for each in states)))
    losses["gram"].backward()
    assert student.temporal.net.weight_ih_l0.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(("pooling", "freeze", "stage"), [("gru", "all", None), ("mean", "all", "temporal"), ("gru", "layer3", "layer3")])
def test_features_that_nothing_changes_are_refused(pooling: str, freeze: str, stage: str | None) -> None:
    with pytest.raises(ConfigError, match="which no trained parameter changes"):
        task_of(student=image_network(pooling, freeze=freeze), feature="gram", stage=stage, teacher_stage="stage4")
    assert task_of(student=image_network("gru", freeze="layer3"), feature="gram", stage="layer4")
