"""One update: a few steps on a key frame and some past ones, kept only where they helped."""

import contextlib
import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.detection.online.distillation import LOSSES
from vidkd.detection.online.replay import KeyFrame
from vidkd.losses.yolo import DARKNET, YoloLossOptions
from vidkd.models.darknet.net import folded_norms

if TYPE_CHECKING:
    from vidkd.detection.online.student import Student
    from vidkd.models.darknet import Darknet


MEMORY = 0.8
"""Weight of what was, in the running mean of the shares that `Update.interpolate` chooses."""


class Retention:
    """Interpolation in the space of weights (Wortsman et al. 2022, arXiv 2109.01903, who fix the share); the rest is ours.

    began: the weights that a student begins with; empty where nothing is ever pulled back. retain: `Update.retain`.
    mean_share: of the shares chosen since something was learned; None before.
    """

    def __init__(self, began: list[Tensor], retain: float) -> None:
        self._began, self._retain = began, retain
        self.mean_share: float | None = None

    def at(self, share: float, here: list[Tensor]) -> list[Tensor]:
        """Weights a share of the way from those at the beginning to these."""
        return here if share == 1 else [began.lerp(now, share) for began, now in zip(self._began, here, strict=True)]

    def after_update(self, reached: list[Tensor]) -> list[Tensor]:
        """What an update leaves of the weights that its steps reached."""
        if self.mean_share is None:
            self.mean_share = 1.0
        return self.at(self._retain * self.mean_share, reached)

    def chosen(self, share: float) -> None:
        """A share was chosen on a new key frame; it means nothing before something was learned."""
        if self.mean_share is not None:
            self.mean_share = MEMORY * self.mean_share + (1 - MEMORY) * share

    def state(self) -> dict[str, Any]:
        """Plain values and tensors on the processor."""
        return {"began": [value.cpu().clone() for value in self._began], "mean_share": self.mean_share}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.mean_share = state["mean_share"]
        self._began = [value.to(here) for value, here in zip(state["began"], self._began, strict=True)]


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
    blocks: int = 2
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-4
    steps: int = 8
    keep_optimiser: bool = False
    keep_best: bool = True
    clip_norm: float | None = 10.0
    min_loss: float = 0.0
    replay: int = 3
    most_worse: float | None = 0.1
    certain: float = 0.0
    scores_as: Literal["weight", "objectness"] = "weight"
    score_power: float = 1.0
    options: YoloLossOptions = DARKNET
    mix_threshold: float = 0.2
    mix_share: float = 0.4
    margin: float = 0.0
    interpolate: tuple[float, ...] = ()
    retain: float = 1.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise unknown_name("loss", self.loss, LOSSES, where="update.loss")
        for name, known in (("trains", get_args(Trains)), ("optimiser", ("adam", "sgd")), ("scores_as", ("weight", "objectness"))):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known, where=f"update.{name}")
        for name, least in (("blocks", 1), ("steps", 0), ("replay", 0), ("min_loss", 0), ("most_worse", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ConfigError(f"update.{name} must be at least {least}, not {value}")
        for name in ("certain", "mix_threshold", "mix_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"update.{name} lies in [0, 1], not {getattr(self, name)}")
        if any(not 0 <= share <= 1 for share in self.interpolate):
            raise ConfigError(f"update.interpolate are shares from 0 to 1, not {list(self.interpolate)}")
        if not 0 < self.retain <= 1:
            raise ConfigError(f"update.retain is a share above 0, at most 1, not {self.retain}")
        for name in ("lr", "clip_norm", "score_power"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"update.{name} must be above 0, not {value}")

    @property
    def pulls_back(self) -> bool:
        """Whether some of what was learned may be taken back."""
        return self.steps > 0 and (self.retain < 1 or bool(self.interpolate))


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


class Interpolated(NamedTuple):
    """How much of what was learned stays, and the loss on the key frame with all of it."""

    share: float
    loss: float


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
        self._retention = Retention(self._weights() if update.pulls_back else [], update.retain)

    def learn(self, key: KeyFrame, replay: Sequence[KeyFrame]) -> UpdateRecord:
        """Learn from a key frame and some of the past. Weights are as before unless the outcome is "kept", after an exception too.

        Raises ValueError if the loss needs raw heads that a frame lacks.
        """
        start, optimiser = self._weights(), copy.deepcopy(self._optimiser.state_dict())
        weights = start
        try:
            record, reached = self._run([key, *replay], start)
            if record.outcome == "kept":
                weights = self._retention.after_update(reached)
        finally:
            self._put(weights)
            if weights is start:
                self._optimiser.load_state_dict(optimiser)
            if not self.update.keep_optimiser:
                self._optimiser = self._new_optimiser()
        return record

    def interpolate(self, key: KeyFrame) -> Interpolated | None:
        """Put the weights where `update.interpolate` says, by the loss on a key frame that was not learned from; None if it says nothing.

        Where no share has a finite loss the weights stay.
        """
        if not self.update.interpolate or not self.update.steps:
            return None
        here = self._weights()
        losses = self._losses_at(dict.fromkeys((1.0, *self.update.interpolate)), key, here)
        # the most of what was learned where losses are equal, as they are before anything was
        best = min(self.update.interpolate, key=lambda share: (losses[share] if math.isfinite(losses[share]) else math.inf, -share))
        share = best if math.isfinite(losses[best]) else 1.0
        self._put(self._retention.at(share, here))
        self._retention.chosen(share)
        return Interpolated(share, losses[1.0])

    @contextlib.contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Weights, and the shares by which they are pulled back, are as before if what is done within throws."""
        weights, mean_share = self._weights(), self._retention.mean_share
        try:
            yield
        except BaseException:
            self._put(weights)
            self._retention.mean_share = mean_share
            raise

    def _losses_at(self, shares: Iterable[float], key: KeyFrame, here: list[Tensor]) -> dict[float, float]:
        """The loss on a key frame by the share of what was learned."""
        images = self.student.inputs([key.image]).contiguous(memory_format=torch.channels_last)
        losses: dict[float, float] = {}
        try:
            for share in shares:
                self._put(self._retention.at(share, here))
                losses[share] = self._losses(images, [key], learn=False).now
        finally:
            self._put(here)
        return losses

    def state(self) -> dict[str, Any]:
        """Of an optimiser that lives on, and what pulls back what was learned; the weights of now are the student's own."""
        return {
            "optimiser": copy.deepcopy(self._optimiser.state_dict()) if self.update.keep_optimiser else None,
            "retention": self._retention.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._optimiser = self._new_optimiser()
        if state["optimiser"] is not None:
            self._optimiser.load_state_dict(state["optimiser"])
        self._retention.restore(state["retention"])

    def _run(self, keys: Sequence[KeyFrame], start: list[Tensor]) -> tuple[UpdateRecord, list[Tensor]]:
        """Take the steps; the record, and the weights that it speaks of."""
        images = self.student.inputs([key.image for key in keys]).contiguous(memory_format=torch.channels_last)
        first = best = self._losses(images, keys, learn=self.update.steps > 0)
        weights, taken, finite = start, 0, math.isfinite(first.total)
        if first.now < self.update.min_loss:
            return self._record("below_minimum", first, first, 0, keys), start
        losses = first
        for step in range(1, self.update.steps + 1):
            finite = finite and self._descend(losses.total_loss)
            if not finite:
                break
            losses = self._losses(images, keys, learn=step < self.update.steps)
            finite = math.isfinite(losses.total)
            if losses.total < best.total or not self.update.keep_best:
                best, weights, taken = losses, self._weights(), step
        if not finite:
            return self._record("not_finite", first, losses, 0, keys), start
        return self._record(self._outcome(first, best, taken), first, best, taken, keys), weights

    def _outcome(self, first: _Losses, best: _Losses, taken: int) -> Outcome:
        if taken == 0:
            return "no_better"
        most_worse = self.update.most_worse
        if most_worse is not None and best.past > max(first.past, self.update.min_loss) * (1 + most_worse):
            return "rolled_back"
        return "kept"

    def _losses(self, images: Tensor, keys: Sequence[KeyFrame], *, learn: bool) -> _Losses:
        with torch.set_grad_enabled(learn), folded_norms(self.student.net):
            heads = self.student.net(images)
            loss = LOSSES[self.update.loss]
            now = loss([head[:1] for head in heads], keys[:1], self.student.specs, self.update)
            past = torch.zeros_like(now)
            if len(keys) > 1:
                past = loss([head[1:] for head in heads], keys[1:], self.student.specs, self.update)
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

    def _record(self, outcome: Outcome, first: _Losses, best: _Losses, step: int, keys: Sequence[KeyFrame]) -> UpdateRecord:
        past = len(keys) > 1
        return UpdateRecord(
            outcome=outcome,
            loss_before=first.now,
            loss_after=best.now,
            replay_before=first.past if past else None,
            replay_after=best.past if past else None,
            step=step,
        )


def trained_parameters(net: "Darknet", update: Update) -> list[nn.Parameter]:
    """The parameters that an update trains, in the order of the cfg. Raises ConfigError for an added head where there is none."""
    if update.trains == "all":
        return list(net.parameters())
    if update.trains == "added":
        if not (found := net.added_parameters()):
            raise ConfigError("update.trains=added, and the network has no added head", hint="student.for_update(update)")
        return found
    return net.last_parameters(1 if update.trains == "heads" else update.blocks)
