"""A step of logits distillation by vidkd, by a loop written by hand for two networks, and by torchdistill where it is installed."""

import copy
import importlib.util
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rounds import Part, interleave, ratio_row, value_row
from benchmarks.setting import Setting
from benchmarks.step import seconds_a_step
from vidkd.models import VideoClassifier
from vidkd.models.config import ModelConfig
from vidkd.tasks.logits_kd import LogitsKD, LogitsKDConfig

CLASSES, BATCH, FRAMES, SIDE = 6, 16, 8, 64
TEMPERATURE, ALPHA, LR, DECAY = 4.0, 0.9, 1e-3, 0.05
OURS, BY_HAND, PEER = "vidkd", "two networks, by hand", "torchdistill"
TEXT = (
    "Milliseconds a step of logits distillation (frozen teacher forward, student forward and backward, AdamW) on one batch of clips that "
    "stays in memory: vidkd's task, the loop that one writes for two networks, and torchdistill's box. All begin with the same networks, "
    "and their first losses are compared before anything is timed."
)

Step = Callable[[], Tensor]


def run(setting: Setting) -> Part:
    """All of them in turn."""
    torch.set_num_threads(setting.threads)
    steps, clips = (2, 4) if setting.quick else (12, BATCH)
    bench = DistillBench(clips)
    alternatives, notes = bench.alternatives(), []
    if PEER not in alternatives:
        notes.append(f"{PEER} is not installed, and left out (`pip install torchdistill`).")
    apart = largest_difference([step() for step in alternatives.values()])
    measured = interleave(
        {name: partial(milliseconds, step, steps) for name, step in alternatives.items()},
        rounds=setting.rounds,
    )
    return Part(
        title="Distillation step and its peers",
        text=TEXT,
        settings={
            "networks": "tiny3d, twice",
            "batch": clips,
            "clip": f"{FRAMES}x{SIDE}x{SIDE}",
            "steps a round": steps,
            "threads": setting.threads,
            "largest difference of the first losses": f"{apart:.1e}",
        },
        values=[value_row(name, "ms/step", values) for name, values in measured.items()],
        ratios=[ratio_row(f"{OURS} / {name}", measured[OURS], measured[name]) for name in measured if name != OURS],
        notes=notes,
    )


def milliseconds(step: Step, steps: int) -> float:
    """Of a step, the mean over so many."""
    return 1e3 * seconds_a_step(step, steps=steps)


def largest_difference(losses: list[Tensor]) -> float:
    """Of losses that should be one. Raises RuntimeError where they are not, for then the alternatives do not do the same."""
    values = torch.stack([loss.detach() for loss in losses])
    difference = float(values.max() - values.min())
    if difference > 1e-4 * float(values.abs().max()):
        raise RuntimeError(f"the alternatives do not compute the same loss: {values.tolist()}")
    return difference


class DistillBench:
    """Two networks and a batch; every alternative gets copies of its own, so that none trains another's."""

    def __init__(self, clips: int) -> None:
        torch.manual_seed(0)
        network = ModelConfig(backbone="tiny3d", dropout=0.0)  # what is drawn would differ between the alternatives
        self.student = VideoClassifier(network, CLASSES, "rgb")
        self.teacher = VideoClassifier(network, CLASSES, "rgb").requires_grad_(False).eval()
        self.video = torch.randint(0, 256, (clips, 3, FRAMES, SIDE, SIDE), dtype=torch.uint8)
        self.label = torch.arange(clips) % CLASSES

    def alternatives(self) -> dict[str, Step]:
        """One step of each, by name; torchdistill's only where it is installed."""
        found = {OURS: self.ours(), BY_HAND: self.by_hand()}
        return {**found, PEER: self.peer()} if importlib.util.find_spec(PEER) else found

    def ours(self) -> Step:
        """As the training loop calls a task."""
        student = copy.deepcopy(self.student)
        task = LogitsKD(LogitsKDConfig(temperature=TEMPERATURE, alpha=ALPHA), student, copy.deepcopy(self.teacher)).train()
        batch = {student.view: self.video, "label": self.label, "weight": torch.ones(len(self.label))}
        return _stepper(task, lambda: task(batch)["loss"])

    def by_hand(self) -> Step:
        """What a researcher writes without a framework."""
        student, teacher = copy.deepcopy(self.student).train(), copy.deepcopy(self.teacher)

        def loss() -> Tensor:
            with torch.no_grad():
                soft = F.softmax(teacher(self.video).logits / TEMPERATURE, dim=1)
            logits = student(self.video).logits
            kl = F.kl_div(F.log_softmax(logits / TEMPERATURE, dim=1), soft, reduction="batchmean")
            return (1 - ALPHA) * F.cross_entropy(logits, self.label) + ALPHA * TEMPERATURE**2 * kl

        return _stepper(student, loss)

    def peer(self) -> Step:
        """The box of torchdistill with its own loss of Hinton's kind."""
        from torchdistill.core.distillation import DistillationBox

        logging.getLogger("torchdistill").setLevel(logging.WARNING)
        student, teacher = Logits(copy.deepcopy(self.student)).train(), Logits(copy.deepcopy(self.teacher)).eval()
        box = DistillationBox(teacher, student, {}, _box_settings(), torch.device("cpu"), None, False, 1)

        def step() -> Tensor:
            loss: Tensor = box.forward_process(self.video, self.label)
            box.post_forward_process(loss)
            return loss

        return step


class Logits(nn.Module):
    """A classifier whose output is the logits alone, as torchdistill's losses want it."""

    def __init__(self, model: VideoClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, video: Tensor) -> Tensor:
        """(B, C) logits."""
        logits: Tensor = self.model(video).logits
        return logits


def _stepper(trained: nn.Module, loss: Callable[[], Tensor]) -> Step:
    optimizer = torch.optim.AdamW([each for each in trained.parameters() if each.requires_grad], lr=LR, weight_decay=DECAY)

    def step() -> Tensor:
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value

    return step


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
