"""Training of the LSTM that selects key frames, on records of students along videos of which the oracle saw every frame."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidkd.base.errors import DataError
from vidkd.base.fields import Count, NotNegative, Positive
from vidkd.base.files import cached_arrays
from vidkd.base.random_streams import derived_seed
from vidkd.detection.online.learner import SynchronousLearner, agreement_of
from vidkd.detection.online.oracle import ask
from vidkd.detection.online.update import LearningConfig
from vidkd.models.selector import SIGNALS, KeyFrameLSTM, SelectorConfig, selector_input
from vidkd.tasks.key_frames import KeyFrameConfig, KeyFrameSelection

AGAIN = "fix that, and repeat the same command: finished records are reused"


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectorRecord:
    """One stream of T frames as a student lived through it.

    features: (T, D) float32, the student's. frames_since, last_loss, motion, doubt, boxes: (T,) float32, as in `Observation`.
    disagreement: (T,) float32, 1 - F1 of the student's boxes against the oracle's, in [0, 1]. errors: (T,) float32, how many of the
    student's boxes the oracle has not, and of the oracle's the student has not. called: (T,) bool, the key frames from which it learned.
    """

    features: NDArray[np.float32]
    frames_since: NDArray[np.float32]
    last_loss: NDArray[np.float32]
    motion: NDArray[np.float32]
    doubt: NDArray[np.float32]
    boxes: NDArray[np.float32]
    disagreement: NDArray[np.float32]
    errors: NDArray[np.float32]
    called: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.disagreement)

    @property
    def inputs(self) -> Tensor:
        """(T, D + 5) float32 of `selector_input`."""
        return selector_input(torch.from_numpy(self.features), **{name: torch.from_numpy(getattr(self, name)) for name in SIGNALS})


def record_stream(learner: SynchronousLearner, frames: Iterable[NDArray[np.uint8]]) -> SelectorRecord:
    """Let the learner run along frames (H, W, 3), asking its oracle on every one, and keep what a selector would have seen.

    The learner learns from the key frames of its own policy only, so a record holds a student as it will be; with `Update(steps=0)` one
    that stays frozen. A policy that calls at random shows the selector every number of frames since a call. Raises DataError where there
    is no frame, or the oracle throws: a record without its answer would be none.
    """
    features, rows = [], []
    for frame in frames:
        answer, failed = ask(learner.oracle, frame)
        if answer is None:
            raise DataError(f"the oracle failed at frame {learner.position} of the stream", reason=failed, hint=AGAIN)
        step = learner.step(frame, answer=answer)
        counts = agreement_of(step.output, answer, score=learner.trainer.score)
        errors = float(counts.false_positives.sum() + counts.false_negatives.sum())
        features.append(step.observation.features)
        rows.append((*(getattr(step.observation, name) for name in SIGNALS), 1 - counts.f1, errors, step.record.called))
    if not rows:
        raise DataError("a stream without frames leaves no record")
    columns = dict(zip((*SIGNALS, "disagreement", "errors", "called"), np.asarray(rows, np.float32).T, strict=True))
    return SelectorRecord(features=np.stack(features), **{**columns, "called": columns["called"] > 0})


def cached_record(folder: Path | str, made_from: Mapping[str, str], make: Callable[[], SelectorRecord]) -> SelectorRecord:
    """The record of `folder` that was made from just this, else a new one, which is kept there: see `cached_arrays`."""
    return SelectorRecord(**cached_arrays(Path(folder), made_from, lambda: vars(make())))


Features = Literal["use", "leave_out", "either"]
Target = Literal["errors", "disagreement"]


@dataclass(frozen=True, kw_only=True)
class SelectorTraining(KeyFrameConfig):
    """How a selector is trained.

    Attributes:
        target: what is to be foreseen of a frame: "errors", log(1 + n) of the n boxes on which student and oracle disagree, or
            "disagreement", 1 - F1, which is largest where few boxes are and there is little to learn from.
        loss, threshold, window: see `vidkd.tasks.key_frames.KeyFrameConfig`.
        features: whether the student's features reach the LSTM: "use", "leave_out", or "either": both ways are trained, and the
            one with the lower loss on the validation records stays.
        units: of the LSTM.
        layers: of the LSTM.
        lr: of Adam.
        weight_decay: decoupled, of Adam.
        epochs: at most.
        patience: epochs without a better loss on the validation records, after which training ends.
        chunk: most frames that the gradient goes back; a record is cut into chunks of that length, drawn again each epoch.
        batch: chunks a step.
        clip_norm: most length of the gradient.
        seed: of weights and order.
    """

    target: Target = "errors"
    features: Features = "either"
    units: Count = 128
    layers: Count = 1
    lr: Positive = 3e-3
    weight_decay: NotNegative = 1e-4
    epochs: Count = 60
    patience: Count = 10
    chunk: Count = 64
    batch: Count = 16
    clip_norm: Positive = 1.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SelectorRunConfig(LearningConfig):
    """How a selector is trained, on students that learn meanwhile.

    Args:
        update: how the students learn from one key frame.
        replay: bounds of their buffer of past key frames.
        selector: how the selector is trained.
    """

    selector: SelectorTraining = field(default_factory=SelectorTraining)


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedSelector:
    """A selector, in eval mode, with the weights of its best epoch, counted from 1.

    training, validation: loss of each epoch. rank_correlation: Spearman's, of what was predicted and the true target over the frames of
    the validation records, in [-1, 1]; NaN where either never varies.
    """

    selector: KeyFrameLSTM
    best_epoch: int
    training: tuple[float, ...]
    validation: tuple[float, ...]
    rank_correlation: float


def train_selector(
    training: Sequence[SelectorRecord], validation: Sequence[SelectorRecord], settings: SelectorTraining | None = None
) -> TrainedSelector:
    """Train a selector on some records and stop by others, which should be of other videos; on the CPU, deterministic by seed.

    A validation record is one sequence from its first frame, as a stream is. Training ends too at an epoch whose loss on the validation
    records is not finite. Raises DataError if either side is empty, features differ in number, or no epoch's loss is finite.
    """
    settings = settings or SelectorTraining()
    if not training or not validation:
        raise DataError("a selector needs records to train on and others to be judged by", hint="name more videos")
    if len(counts := {record.features.shape[1] for record in (*training, *validation)}) > 1:
        raise DataError(f"records of unlike students: {sorted(counts)} features", hint="make all of them with one student")
    ways = (True, False) if settings.features == "either" else (settings.features == "use",)
    found = [each for sees in ways if (each := _trained(training, validation, settings, sees)).best_epoch]
    if not found:
        hint = "a lower selector.lr, or records of other videos"
        raise DataError("the selector's loss on the validation records was never finite", hint=hint)
    return min(found, key=lambda each: each.validation[each.best_epoch - 1])


def _trained(
    training: Sequence[SelectorRecord], validation: Sequence[SelectorRecord], settings: SelectorTraining, sees: bool
) -> TrainedSelector:
    """best_epoch is 0 where the loss was never finite."""
    generator = torch.Generator().manual_seed(derived_seed(settings.seed, "order of sequences"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)  # not those of other devices, which are not put back
        features = training[0].features.shape[1]
        model = KeyFrameLSTM(SelectorConfig(features=features, units=settings.units, layers=settings.layers, sees_features=sees))
    model.fit_normalisation(torch.cat([record.inputs for record in training]))
    task = KeyFrameSelection(settings, model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    losses: list[float] = []
    judged: list[float] = []
    best_epoch, best = 0, copy.deepcopy(model.state_dict())
    while len(losses) < settings.epochs and len(losses) - best_epoch < settings.patience:
        losses.append(_epoch(task, optimiser, training, settings, generator))
        judged.append(_judge(task, validation, settings))
        if not math.isfinite(judged[-1]):  # weights that are not finite stay so
            break
        if judged[-1] < min(judged[:-1], default=math.inf):
            best_epoch, best = len(judged), copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    return TrainedSelector(
        selector=model.eval(),
        best_epoch=best_epoch,
        training=tuple(losses),
        validation=tuple(judged),
        rank_correlation=_rank_correlation(model, validation, settings),
    )


def about(trained: TrainedSelector, settings: SelectorTraining) -> dict[str, object]:
    """Plain values for the file of a selector: its settings and how it did."""
    did = {"best_epoch": trained.best_epoch, "validation": list(trained.validation), "rank_correlation": trained.rank_correlation}
    return {**dataclasses.asdict(settings), **did, "sees_features": trained.selector.config.sees_features}


def _epoch(
    task: KeyFrameSelection,
    optimiser: torch.optim.Optimizer,
    records: Sequence[SelectorRecord],
    settings: SelectorTraining,
    generator: torch.Generator,
) -> float:
    """One pass over chunks of all records; the mean loss of its steps."""
    task.train()
    chunks = _chunks(records, settings, generator)
    order = torch.randperm(len(chunks), generator=generator).tolist()
    losses = []
    for first in range(0, len(order), settings.batch):
        loss = task(_padded([chunks[place] for place in order[first : first + settings.batch]]))["loss"]
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(task.parameters(), settings.clip_norm)
        if torch.isfinite(norm):  # else the step would leave no numbers behind
            optimiser.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses))


def _target(record: SelectorRecord, settings: SelectorTraining) -> Tensor:
    """(T,) float32, what is to be foreseen."""
    return torch.from_numpy(np.log1p(record.errors) if settings.target == "errors" else record.disagreement)


def _chunks(records: Sequence[SelectorRecord], settings: SelectorTraining, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Inputs and target of stretches of at most `chunk` frames; where the first cut lies is drawn."""
    chunks, length = [], settings.chunk
    for record in records:
        inputs, true = record.inputs, _target(record, settings)
        start = int(torch.randint(length, (1,), generator=generator))
        cuts = [0, *range(start or length, len(record), length), len(record)]
        chunks += [(inputs[a:b], true[a:b]) for a, b in itertools.pairwise(cuts) if b > a]
    return chunks


def _padded(chunks: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The batch of `KeyFrameSelection` that stretches of unlike lengths make."""
    inputs = pad_sequence([inputs for inputs, _ in chunks], batch_first=True)
    true = pad_sequence([true for _, true in chunks], batch_first=True)
    lengths = torch.tensor([len(true) for _, true in chunks])
    return {"inputs": inputs, "target": true, "counts": torch.arange(true.shape[1]) < lengths[:, None]}


@torch.no_grad()
def _judge(task: KeyFrameSelection, records: Sequence[SelectorRecord], settings: SelectorTraining) -> float:
    task.eval()
    return float(task(_padded([(record.inputs, _target(record, settings)) for record in records]))["loss"])


@torch.no_grad()
def _rank_correlation(model: KeyFrameLSTM, records: Sequence[SelectorRecord], settings: SelectorTraining) -> float:
    predicted = np.concatenate([model(record.inputs[None])[0][0].numpy() for record in records])
    true = np.concatenate([_target(record, settings).numpy() for record in records])
    ranks = np.stack([np.searchsorted(np.sort(one), one) + np.searchsorted(np.sort(one), one, side="right") for one in (predicted, true)])
    return float(np.corrcoef(ranks)[0, 1]) if ranks.std(axis=1).min() > 0 else math.nan  # equal values share the mean of their places
