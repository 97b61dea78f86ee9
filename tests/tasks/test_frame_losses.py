"""What a student that answers after every frame learns from: the mean over its answers of each loss of logits."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from vidkd.losses import logits_kd
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.config import TemporalConfig
from vidkd.tasks import TASK_CONFIGS, build_task
from vidkd.tasks.task import Task

FRAMES = 3


def task_of(name: str, **settings: Any) -> Task:
    torch.manual_seed(0)
    student, teacher = (
        VideoClassifier(ModelConfig(backbone="timm:resnet10t", dropout=0.0, freeze="all", temporal=temporal), 3, "rgb")
        for temporal in (TemporalConfig(pooling="gru", width=8, answers="frames"), TemporalConfig())
    )
    task = build_task(name, TASK_CONFIGS[name](**settings), student, None if name == "supervised" else teacher)
    assert isinstance(task, Task)
    return task.train()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    rgb = torch.rand(4, 3, FRAMES, 32, 32, generator=generator)
    weight = torch.tensor([1.0, 1.0, 0.0, 1.0])
    return {"rgb": rgb, "future_rgb": rgb, "label": torch.tensor([0, 2, -1, 1]), "index": torch.arange(4), "weight": weight}


def expected(task: Task, batch: dict[str, torch.Tensor], temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Label loss and distillation frame by frame, the latter of the teacher's answer for the clip."""
    logits = task.student(batch["rgb"]).frames[""]
    labelled = batch["label"] >= 0
    hard = torch.stack([F.cross_entropy(logits[labelled, t], batch["label"][labelled]) for t in range(FRAMES)]).mean()
    if task.teacher is None:
        return hard, hard
    teacher = task.teacher(batch["rgb"]).logits
    return hard, torch.stack([logits_kd(logits[:, t], teacher, temperature=temperature) for t in range(FRAMES)]).mean()


def test_losses_are_means_over_the_answers(batch: dict[str, torch.Tensor]) -> None:
    for name, settings, soft in (
        ("supervised", {}, None),
        ("logits_kd", {"temperature": 2.0}, "soft"),
        ("anticipation", {"feature": "none", "logits_weight": 1.0, "temperature": 2.0}, "logits"),
    ):
        task = task_of(name, **settings)
        losses = task(batch)
        hard, distilled = expected(task, batch, 2.0)
        torch.testing.assert_close(losses["label" if soft else "loss"], hard)
        if soft:
            torch.testing.assert_close(losses[soft], distilled)


def test_generalised_distillation_is_the_mixture_over_the_answers(batch: dict[str, torch.Tensor]) -> None:
    task = task_of("generalized_distillation", imitation=0.25, temperature=2.0)
    logits, teacher = task.student(batch["rgb"]).frames[""], task.teacher(batch["rgb"]).logits  # type: ignore[misc]
    soft = -(F.softmax(teacher / 2, dim=1)[:, None] * F.log_softmax(logits, dim=2)).sum(2).mean()
    torch.testing.assert_close(task(batch)["loss"], 0.75 * expected(task, batch, 2.0)[0] + 0.25 * soft)


def test_the_gradient_reaches_the_answer_of_every_frame(batch: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    task, kept = task_of("logits_kd"), []
    forward = task.student.forward

    def watched(*given: Any) -> Any:
        output = forward(*given)
        output.frames[""].retain_grad()
        kept.append(output.frames[""])
        return output

    monkeypatch.setattr(task.student, "forward", watched)
    task(batch)["loss"].backward()
    assert (kept[0].grad.abs().sum(dim=2) > 0).all()
