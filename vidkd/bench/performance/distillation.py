"""A distillation step of vidkd against the loop that one writes by hand and against torchdistill."""

import copy
import importlib.util
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidkd.bench.performance.rows import Part, Setting, milliseconds
from vidkd.models import VideoClassifier
from vidkd.models.config import ModelConfig
from vidkd.tasks.logits_kd import LogitsKD, LogitsKDConfig

BATCH, CLASSES, FRAMES, SIDE = 16, 6, 8, 64
TEMPERATURE, ALPHA, LR, DECAY = 4.0, 0.9, 1e-3, 0.05
OURS, BY_HAND, PEER = "vidkd", "two networks, by hand", "torchdistill"
TEXT = (
    "Milliseconds a step of logits distillation (frozen teacher forward, student forward and backward, AdamW) on one batch of clips that "
    "stays in memory: vidkd's task, the loop that one writes for two networks, and torchdistill's box. All begin with the same networks, "
    "and their first losses are compared before anything is timed."
)
Step: TypeAlias = Callable[[], Tensor]


def run(setting: Setting) -> Part:
    """All of them in turn."""
    torch.set_num_threads(setting.threads)
    steps, clips = (2, 4) if setting.quick else (12, BATCH)
    alternatives = steps_of(clips)
    part = Part(
        title="Distillation step and its peers",
        text=TEXT,
        settings={
            "networks": "tiny3d, twice",
            "batch": clips,
            "clip": f"{FRAMES}x{SIDE}x{SIDE}",
            "steps a round": steps,
            "threads": setting.threads,
            "largest difference of the first losses": f"{largest_difference([step() for step in alternatives.values()]):.1e}",
        },
        notes=[] if PEER in alternatives else [f"{PEER} is not installed, and left out (`pip install torchdistill`)."],
    )
    timed = {name: partial(milliseconds, step, steps) for name, step in alternatives.items()}
    part.compare(timed, "ms/step", [(OURS, name, "") for name in timed if name != OURS], rounds=setting.rounds)
    return part


def largest_difference(losses: list[Tensor]) -> float:
    """Of losses that should be one. Raises RuntimeError where they are not, for then the alternatives do not do the same."""
    values = torch.stack([loss.detach() for loss in losses])
    difference = float(values.max() - values.min())
    if difference > 1e-4 * float(values.abs().max()):
        raise RuntimeError(f"the alternatives do not compute the same loss: {values.tolist()}")
    return difference


def steps_of(clips: int) -> dict[str, Step]:
    """One step of each, by name, on the same batch and on copies of the same networks; torchdistill's only where it is installed."""
    torch.manual_seed(0)
    config = ModelConfig(backbone="tiny3d", dropout=0.0)  # what is drawn would differ between the alternatives
    student, teacher = VideoClassifier(config, CLASSES, "rgb"), VideoClassifier(config, CLASSES, "rgb").requires_grad_(False).eval()
    video, label = torch.randint(0, 256, (clips, 3, FRAMES, SIDE, SIDE), dtype=torch.uint8), torch.arange(clips) % CLASSES
    builders = {OURS: _ours, BY_HAND: _by_hand, **({PEER: _by_torchdistill} if importlib.util.find_spec(PEER) else {})}
    return {name: build(copy.deepcopy(student).train(), copy.deepcopy(teacher), video, label) for name, build in builders.items()}


def _ours(student: VideoClassifier, teacher: VideoClassifier, video: Tensor, label: Tensor) -> Step:
    """As the training loop calls a task."""
    task = LogitsKD(LogitsKDConfig(temperature=TEMPERATURE, alpha=ALPHA), student, teacher).train()
    batch = {student.view: video, "label": label, "weight": torch.ones(len(label))}
    return _stepper(task, lambda: task(batch)["loss"])


def _by_hand(student: VideoClassifier, teacher: VideoClassifier, video: Tensor, label: Tensor) -> Step:
    """What a researcher writes without a framework."""

    def loss() -> Tensor:
        with torch.no_grad():
            soft = F.softmax(teacher(video).logits / TEMPERATURE, dim=1)
        logits = student(video).logits
        kl = F.kl_div(F.log_softmax(logits / TEMPERATURE, dim=1), soft, reduction="batchmean")
        return (1 - ALPHA) * F.cross_entropy(logits, label) + ALPHA * TEMPERATURE**2 * kl

    return _stepper(student, loss)


def _stepper(trained: nn.Module, loss: Callable[[], Tensor]) -> Step:
    optimizer = torch.optim.AdamW([each for each in trained.parameters() if each.requires_grad], lr=LR, weight_decay=DECAY)

    def step() -> Tensor:
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value

    return step


def _by_torchdistill(student: VideoClassifier, teacher: VideoClassifier, video: Tensor, label: Tensor) -> Step:
    """The box of torchdistill with its own loss of Hinton's kind."""
    from torchdistill.core.distillation import DistillationBox

    logging.getLogger("torchdistill").setLevel(logging.WARNING)
    box = DistillationBox(Logits(teacher).eval(), Logits(student).train(), {}, _box_settings(), torch.device("cpu"), None, False, 1)

    def step() -> Tensor:
        loss: Tensor = box.forward_process(video, label)
        box.post_forward_process(loss)
        return loss

    return step


class Logits(nn.Module):
    """A classifier whose output is only the logits, as torchdistill's losses want it."""

    def __init__(self, model: VideoClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, video: Tensor) -> Tensor:
        """(B, C) logits."""
        logits: Tensor = self.model(video).logits
        return logits


def _box_settings() -> dict[str, Any]:
    whole = {"forward_proc": "forward_batch_only"}
    output = {f"{side}_module_{what}": value for side in ("student", "teacher") for what, value in (("path", "."), ("io", "output"))}
    loss = {"key": "KDLoss", "kwargs": {**output, "temperature": TEMPERATURE, "alpha": 1 - ALPHA}}
    return {
        "num_epochs": 1,
        "teacher": {**whole, "requires_grad": False},
        "student": whole,
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}}},
        "optimizer": {"key": "AdamW", "kwargs": {"lr": LR, "weight_decay": DECAY}},
    }
