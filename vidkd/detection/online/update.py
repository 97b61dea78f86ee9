"""One update: a few steps on a key frame and some past ones, kept only where they helped."""

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.base.fields import Count, NotNegative, Positive, Share, Whole
from vidkd.base.settings import load_settings
from vidkd.detection.online.key_frames import LOSSES, KeyFrame, Replay
from vidkd.losses.yolo import DARKNET, YoloLossOptions
from vidkd.models.darknet.net import folded_norms

if TYPE_CHECKING:
    from vidkd.detection.online.student import Student
    from vidkd.models.darknet import Darknet


MEMORY = 0.8
"""Weight of what was, in the running mean of the shares that `Update.interpolate` chooses."""


Trains = Literal["heads", "added", "blocks", "all"]
Outcome = Literal["kept", "rolled_back", "not_finite", "below_minimum", "no_better"]
Loss = Literal["oracle_assigned", "matched_heads", "confidence_bounded_mix", "bounded_box_regression"]


@dataclass(frozen=True, kw_only=True)
class Update:
    """How a student learns from one key frame.

    Attributes:
        loss: oracle_assigned takes the boxes of any oracle. The others compare raw heads, of a darknet oracle with the student's cells:
            matched_heads follows it everywhere; confidence_bounded_mix less where the oracle is unsure; bounded_box_regression is
            matched_heads with Chen's bound on the boxes, the oracle's boxes after suppression standing for the truth.
        trains: the last convolutions of the heads; the same with a hidden layer that is added (`Student.for_update`); the last `blocks`
            convolution blocks before each head; or all. Norm statistics never move; weights and biases of a normalisation train with its
            block.
        blocks: for trains=blocks.
        optimiser: adam or sgd (without momentum).
        lr: learning rate.
        steps: on each key frame; 0 measures the loss and trains nothing.
        keep_optimiser: whether its moments live on from key frame to key frame.
        keep_best: keep the weights of the step with the lowest loss over the key frame and the replayed ones, else those of the last.
        clip_norm: most length of the gradient; None for no bound.
        min_loss: a loss that is good enough: nothing is trained while that on the key frame lies below it, and the guard takes no loss for
            lower.
        replay: past key frames in the batch, the same through all steps.
        most_worse: an update is undone if it raises the loss on the replayed frames by more than this share of it; None for no guard.
        certain: boxes of the oracle below this score ask nothing (oracle_assigned).
        scores_as: what the oracle's scores are (oracle_assigned): how much a box counts, or the objectness to learn.
        score_power: power of the score that is learned as objectness; below 1 for a surer student (oracle_assigned).
        options: of the yolo loss (oracle_assigned); its box_iou_bound bounds the boxes.
        mix_threshold: objectness from which the oracle is sure (confidence_bounded_mix).
        mix_share: of the oracle in the target where it is not; 1 for no bound (confidence_bounded_mix).
        margin: by which a student must be nearer than the oracle to be left alone (bounded_box_regression).
        interpolate: shares, from 0 to 1, of the way from the student as it began to what it has learned. Before a key frame is learned
            from, the one that has the lowest loss on it is where the student continues: what learning did to a frame that was not
            seen decides how much of it stays. After each update all that was learned is pulled back by the running mean of these
            shares. Empty, the default: neither. Each share costs one more forward pass a call. Along streams only, where key frames come
            one after the other.
        retain: share of the way from the student as it began to where the steps led that is gone, in (0, 1]: below 1, each update that is
            kept pulls all that was learned back, so that steps may be longer.
    """

    loss: Loss = "oracle_assigned"
    trains: Trains = "all"
    blocks: Count = 2
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: Positive = 1e-4
    steps: Whole = 8
    keep_optimiser: bool = False
    keep_best: bool = True
    clip_norm: Positive | None = 10.0
    min_loss: NotNegative = 0.0
    replay: Whole = 3
    most_worse: NotNegative | None = 0.1
    certain: Share = 0.0
    scores_as: Literal["weight", "objectness"] = "weight"
    score_power: Positive = 1.0
    options: YoloLossOptions = DARKNET
    mix_threshold: Share = 0.2
    mix_share: Share = 0.4
    margin: float = 0.0
    interpolate: tuple[Share, ...] = ()
    retain: Share = 1.0

    @property
    def pulls_back(self) -> bool:
        """Whether some of what was learned may be taken back."""
        return self.steps > 0 and (self.retain < 1 or bool(self.interpolate))


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """How a student learns along a stream.

    Args:
        update: how it learns from one key frame.
        replay: bounds of the buffer of past key frames.
    """

    update: Update = field(default_factory=Update)
    replay: Replay = field(default_factory=Replay)


Kind = TypeVar("Kind", bound=LearningConfig)


def load_learning_config(kind: type[Kind], overrides: Sequence[str] = (), *, seed: int = 0) -> Kind:
    """The configuration that flags (`--update.lr 1e-4`) make of the defaults. Raises ConfigError as `load_settings` does.

    seed: every seed in it that no flag sets.
    """
    seeds: dict[str, Any] = {name: {"seed": seed} for name in ("replay", "selector") if name in kind.__dataclass_fields__}
    return load_settings(kind, settings=seeds, overrides=overrides)


@dataclass(frozen=True, kw_only=True)
class UpdateRecord:
    """What an update did.

    loss_before, loss_after: on the key frame, with the weights before and with those that the steps led to, kept or not, before any pull.
    replay_before, replay_after: the same on the replayed frames, None without any. step: whose weights were taken, 0 for none.
    interpolated: share of what had been learned at which the steps began, None where nothing was interpolated.
    """

    outcome: Outcome
    loss_before: float
    loss_after: float
    replay_before: float | None = None
    replay_after: float | None = None
    step: int = 0
    interpolated: float | None = None

    @property
    def changed(self) -> bool:
        """Whether the student's weights are other than before."""
        return self.outcome == "kept" or self.interpolated not in (None, 1.0)


class _Losses(NamedTuple):
    """On the key frame, on the replayed frames (0 without any), and over all images of the batch, once more with its gradient."""

    now: float
    past: float
    total: float
    total_loss: Tensor


class Trainer:
    """Updates the weights of one student in place; all but the trained ones stop taking gradients.

    The batch is the same through an update, so the loss before each step is that of the weights before it, and one more forward pass at
    the end is all that keep-best and the guard cost. For speed only, the network is kept in the channels_last layout, and the steps are
    taken with its normalisations folded into the convolutions.
    """

    def __init__(self, student: "Student", update: Update) -> None:
        self.student, self.update = student, update
        student.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = trained_parameters(student.net, update)
        chosen = {id(parameter) for parameter in self.parameters}
        for parameter in student.net.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        self._optimiser = self._new_optimiser()
        self._began = self._weights() if update.pulls_back else []
        self.mean_share: float | None = None  # of those chosen since something was learned

    def learn(self, key: KeyFrame, replay: Sequence[KeyFrame], *, interpolate: bool = True) -> UpdateRecord:
        """Learn from a key frame and some of the past. Weights are as before unless the record says `changed`, after an exception too.

        interpolate: False for key frames that do not follow each other, which cannot choose a share. Raises ValueError if the loss needs
        raw heads that a frame lacks.
        """
        if not self.update.keep_optimiser:
            self._optimiser = self._new_optimiser()
        before, optimiser, mean_share = self._weights(), copy.deepcopy(self._optimiser.state_dict()), self.mean_share
        try:
            chosen = self._interpolate(key, before) if interpolate and self.update.interpolate and self.update.steps else None
            start = before if chosen is None else self._weights()
            record, reached = self._run([key, *replay], start)
        except BaseException:
            self._put(before)
            self._optimiser.load_state_dict(optimiser)
            self.mean_share = mean_share
            raise
        if record.outcome == "kept":
            self.mean_share = 1.0 if self.mean_share is None else self.mean_share
            self._put(self._at(self.update.retain * self.mean_share, reached))
        else:
            self._put(start)
            self._optimiser.load_state_dict(optimiser)
        return record if chosen is None else dataclasses.replace(record, loss_before=chosen[1], interpolated=chosen[0])

    def _interpolate(self, key: KeyFrame, here: list[Tensor]) -> tuple[float, float]:
        """Put the weights where `update.interpolate` says, by the loss on a key frame that was not learned from.

        Returns how much of what was learned stays, all of it where no share has a finite loss, and the loss with all of it. Interpolation
        in the space of weights: Wortsman et al. 2022, arXiv 2109.01903, who fix the share; the rest is ours.
        """
        images = self.student.inputs([key.image]).contiguous(memory_format=torch.channels_last)
        losses: dict[float, float] = {}
        for share in dict.fromkeys((1.0, *self.update.interpolate)):
            self._put(self._at(share, here))
            losses[share] = self._losses(images, [key], learn=False).now
        # the most of what was learned where losses are equal, as they are before anything was
        best = min(self.update.interpolate, key=lambda share: (losses[share] if math.isfinite(losses[share]) else math.inf, -share))
        share = best if math.isfinite(losses[best]) else 1.0
        self._put(self._at(share, here))
        if self.mean_share is not None:  # it means nothing before something was learned
            self.mean_share = MEMORY * self.mean_share + (1 - MEMORY) * share
        return share, losses[1.0]

    def _at(self, share: float, here: list[Tensor]) -> list[Tensor]:
        """Weights a share of the way from those at the beginning to these."""
        return here if share == 1 else [began.lerp(now, share) for began, now in zip(self._began, here, strict=True)]

    def state(self) -> dict[str, Any]:
        """Of an optimiser that lives on, and what pulls back what was learned; the weights of now are the student's own."""
        return {
            "optimiser": copy.deepcopy(self._optimiser.state_dict()) if self.update.keep_optimiser else None,
            "began": [value.cpu().clone() for value in self._began],
            "mean_share": self.mean_share,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        if state["optimiser"] is not None:
            self._optimiser.load_state_dict(state["optimiser"])
        self._began = [value.to(here.device) for value, here in zip(state["began"], self._began, strict=True)]
        self.mean_share = state["mean_share"]

    def _run(self, keys: Sequence[KeyFrame], start: list[Tensor]) -> tuple[UpdateRecord, list[Tensor]]:
        """Take the steps; the record, and the weights that it speaks of."""
        images = self.student.inputs([key.image for key in keys]).contiguous(memory_format=torch.channels_last)
        first = best = losses = self._losses(images, keys, learn=self.update.steps > 0)
        weights, taken, finite = start, 0, math.isfinite(first.total)
        is_low = first.now < self.update.min_loss
        for step in range(1, 1 if is_low else self.update.steps + 1):
            finite = finite and self._descend(losses.total_loss)
            if not finite:
                break
            losses = self._losses(images, keys, learn=step < self.update.steps)
            finite = math.isfinite(losses.total)
            if losses.total < best.total or not self.update.keep_best:
                best, weights, taken = losses, self._weights(), step
        outcome: Outcome = "kept"
        if is_low:
            outcome = "below_minimum"
        elif not finite:
            outcome, best, taken = "not_finite", losses, 0
        elif taken == 0:
            outcome = "no_better"
        elif self.update.most_worse is not None and best.past > max(first.past, self.update.min_loss) * (1 + self.update.most_worse):
            outcome = "rolled_back"
        past = (first.past, best.past) if len(keys) > 1 else (None, None)
        record = UpdateRecord(
            outcome=outcome, loss_before=first.now, loss_after=best.now, replay_before=past[0], replay_after=past[1], step=taken
        )
        return record, weights

    def _losses(self, images: Tensor, keys: Sequence[KeyFrame], *, learn: bool) -> _Losses:
        with torch.set_grad_enabled(learn), folded_norms(self.student.net):
            heads = self.student.net(images)
            loss = LOSSES[self.update.loss]
            now = loss([head[:1] for head in heads], keys[:1], self.student.net.heads, self.update)
            past = torch.zeros_like(now)
            if len(keys) > 1:
                past = loss([head[1:] for head in heads], keys[1:], self.student.net.heads, self.update)
            total = (now + (len(keys) - 1) * past) / len(keys)
        values = torch.stack([now, past, total]).tolist()
        return _Losses(values[0], values[1], values[2], total)

    def _descend(self, loss: Tensor) -> bool:
        """One step; False, and none, where the gradient is not finite."""
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, self.update.clip_norm or math.inf)
        if not torch.isfinite(norm):
            return False
        self._optimiser.step()
        return True

    def _new_optimiser(self) -> torch.optim.Optimizer:
        kind = torch.optim.Adam if self.update.optimiser == "adam" else torch.optim.SGD
        return kind(self.parameters, lr=self.update.lr)

    def _weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def _put(self, weights: Iterable[Tensor]) -> None:
        for parameter, value in zip(self.parameters, weights, strict=True):
            parameter.copy_(value)
            parameter.grad = None


def trained_parameters(net: "Darknet", update: Update) -> list[nn.Parameter]:
    """The parameters that an update trains, in the order of the cfg. Raises ConfigError for an added head where there is none."""
    if update.trains == "all":
        return list(net.parameters())
    if update.trains == "added":
        if not (found := net.added_parameters()):
            raise ConfigError("update.trains=added, and the network has no added head", hint="student.for_update(update)")
        return found
    return net.last_parameters(1 if update.trains == "heads" else update.blocks)
