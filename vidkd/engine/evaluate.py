"""Evaluating a classifier: every clip's probabilities, averaged over its windows and crops, at every observed fraction."""

import csv
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write
from vidkd.base.progress import Progress
from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.loaders import evaluation_loader
from vidkd.data.manifest import Clip
from vidkd.data.observation import is_shortened
from vidkd.engine.clips import Clips
from vidkd.engine.features import keep_features
from vidkd.engine.interrupts import start
from vidkd.engine.metrics import anticipation_recalls, area, classification_metrics, labels_of, share_reaching
from vidkd.engine.setup import evaluation_set
from vidkd.models import VideoClassifier
from vidkd.models.kept import KeptClassifier
from vidkd.models.saved import ExportedModule

PREDICTION_COLUMNS = ("clip", "start_s", "end_s", "group", "label", "predicted", "correct")
LABEL, HELD, UNOBSERVABLE = "label", "held", "unobservable"


@dataclass(frozen=True)
class Predictions:
    """Probabilities (N, K) of N clips, and the clips.

    targets: probabilities (N, K_name) of further labels. target_classes: class names of those that the table of predictions shows.
    held: of how many clips the observed part was so short that frames were repeated.
    unobservable: further clips, of which no frame lay in the observed part; nothing is said of them.
    """

    probabilities: NDArray[np.float64]
    clips: list[Clip]
    classes: tuple[str, ...]
    targets: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    target_classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    held: int = 0
    unobservable: Sequence[Clip] = ()

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) true classes, -1 where a clip has no label."""
        return np.array([-1 if clip.label is None else clip.label for clip in self.clips], np.int64)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) most probable classes."""
        return np.asarray(self.probabilities.argmax(1), np.int64)

    def metrics(self, unobservable: Sequence[Clip] = ()) -> dict[str, float]:
        """Metrics over the labelled clips. Raises DataError if none is labelled.

        With further labels there is class-mean recall too (`recall5`, `verb_recall5`), and all else for each of them over the clips that
        have it (`verb_top1`).
        unobservable: further clips, in no prediction; recalls that count them as misses are added to the others (`recall5_all`).
        """
        labelled = self.labels >= 0
        if not labelled.any():
            raise DataError("no clip has a label, so there is nothing to judge")
        found = classification_metrics(self.probabilities[labelled], self.labels[labelled])
        for name, probabilities in self.targets.items():
            labels = labels_of(self.clips, name)
            judged = labels >= 0
            if judged.any():
                found |= {
                    f"{name}_{metric}": value for metric, value in classification_metrics(probabilities[judged], labels[judged]).items()
                }
        if self.targets:
            found |= anticipation_recalls({"label": self.probabilities, **self.targets}, self.clips, unobservable=unobservable)
        return found

    def rows(self) -> Iterator[dict[str, Any]]:
        """The table of predictions, a row per clip: PREDICTION_COLUMNS, then for every further label (verb, say) <name>, <name>_predicted
        and <name>_correct, then p_<class> for every class.
        """
        guesses = {name: self.targets[name].argmax(1) for name in self.target_classes}
        for number, (clip, row, predicted) in enumerate(zip(self.clips, self.probabilities, self.predicted, strict=True)):
            place = {"clip": clip.path, "start_s": clip.start_s, "end_s": "" if clip.end_s is None else clip.end_s, "group": clip.group}
            cells = {**place, **_label_cells("", clip.label, int(predicted), self.classes)}
            for name, guess in guesses.items():
                cells |= _label_cells(name, clip.targets.get(name), int(guess[number]), self.target_classes[name])
            yield {**cells, **{f"p_{name}": f"{value:.6f}" for name, value in zip(self.classes, row, strict=True)}}


def _label_cells(name: str, label: int | None, predicted: int, classes: Sequence[str]) -> dict[str, Any]:
    """Label (empty without one), prediction and whether that is right."""
    prefix = f"{name}_" if name else ""
    truth = "" if label is None else classes[label]
    return {name or "label": truth, f"{prefix}predicted": classes[predicted], f"{prefix}correct": int(label == predicted)}


def evaluate(
    model: VideoClassifier | ExportedModule,
    dataset: ClipDataset,
    classes: Sequence[str],
    frames: Sequence[int | None] = (None,),
    *,
    device: torch.device,
    batch_size: int,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    target_classes: Mapping[str, Sequence[str]] | None = None,
    progress: str = "",
) -> list[Predictions]:
    """Mean softmax over the windows and crops of every clip of which something can be observed.

    frames: the answers after which frames of the window, in one pass, one result each; None is the answer for the clip.
    target_classes: names of the classes of the data set's further labels; those that the model knows go into the table of predictions.
    progress: what its lines are called; "" writes none. Raises DataError or VideoError for a clip that cannot be read, DataError if an
    output of the network is not finite.

    With several processes each takes its share and all get the whole result. The model is put back into the mode it was in.
    """
    kinds = {LABEL: len(classes), **model.targets}
    sizes: dict[Any, int] = {**{(name, frame): size for name, size in kinds.items() for frame in frames}, HELD: 1, UNOBSERVABLE: 1}
    sums = {name: torch.zeros(len(dataset.clips), size, dtype=torch.float64) for name, size in sizes.items()}
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        loader = evaluation_loader(dataset, batch_size, workers, rank=rank, world_size=world_size)
        for batch in Progress(len(loader), progress, rank=rank, every_steps=1 << 60).over(start(loader)):
            sums[UNOBSERVABLE][batch.get("unobservable", [])] = 1
            if "index" not in batch:
                continue
            observed = batch.get("observed")
            output = model(move_data_to_device(batch[model.view], device), None if observed is None else observed.to(device))
            for frame in frames:
                answers = {"": output.logits, **output.targets} if frame is None else {k: v[:, frame] for k, v in output.frames.items()}
                for name, logits in answers.items():  # softmax on the CPU: MPS has no float64
                    sums[name or LABEL, frame].index_add_(0, batch["index"], logits.cpu().double().softmax(1))
            if "held" in batch:
                sums[HELD].index_add_(0, batch["index"], batch["held"][:, None].double())
    model.train(was_training)
    if world_size > 1:
        for name in sums:
            sums[name] = sums[name].to(device if device.type == "cuda" else "cpu")
            torch.distributed.all_reduce(sums[name])
    found = {name: (total / dataset.views_per_clip).cpu().numpy() for name, total in sums.items()}
    _check_finite(found, dataset.clips)
    seen = found[UNOBSERVABLE][:, 0] == 0
    return [
        Predictions(
            found[LABEL, frame][seen],
            [clip for clip, is_seen in zip(dataset.clips, seen, strict=True) if is_seen],
            tuple(classes),
            targets={name: found[name, frame][seen] for name in model.targets},
            target_classes={name: names for name, names in (target_classes or {}).items() if model.targets.get(name) == len(names)},
            held=int((found[HELD] > 0).sum()),
            unobservable=[clip for clip, is_seen in zip(dataset.clips, seen, strict=True) if not is_seen],
        )
        for frame in frames
    ]


def _check_finite(found: Mapping[Any, NDArray[np.float64]], clips: Sequence[Clip]) -> None:
    """Raise DataError naming the first clip for which the network's output is not finite."""
    wrong = np.flatnonzero(~np.logical_and.reduce([np.isfinite(values).all(1) for values in found.values()]))
    if len(wrong):
        raise DataError(
            f"the network's output is not finite for {len(wrong)} of {len(clips)} clips",
            first=clips[wrong[0]].path,
            hint="its weights diverged: train again with a smaller optim.lr or --train.precision 32-true, or name an earlier checkpoint",
        )


MAIN_METRIC = "top1"


@dataclass(frozen=True)
class Judgement:
    """Predictions of the same clips at rising observed fractions; {None: predictions} where there are none.

    unobservable: clips of the subset of which nothing can be observed, at one of the fractions at least; they are in no prediction.
    shortened: how many clips' files begin after the part that should have been observed, so that less was.
    """

    at: Mapping[float | None, Predictions]
    unobservable: Sequence[Clip] = ()
    shortened: int = 0

    @property
    def fullest(self) -> Predictions:
        """The predictions that saw most."""
        return list(self.at.values())[-1]

    @property
    def fractions(self) -> list[float]:
        """The observed fractions, rising; none where the protocol knows none."""
        return [fraction for fraction in self.at if fraction is not None]

    def metrics(self) -> dict[str, float]:
        """Every metric as its mean over the fractions; then top1 at each (`top1@obs20`), the area under that curve (`top1_area`), and how
        early it is there (`top1_share90`, see `share_reaching`).

        The area is the trapezoid rule's, divided by the range of fractions: a mean accuracy again, which counts the ends half.
        Raises DataError if no clip has a label.
        """
        found = {fraction: predictions.metrics(self.unobservable) for fraction, predictions in self.at.items()}
        means = {name: float(np.mean([metrics[name] for metrics in found.values()])) for name in next(iter(found.values()))}
        if not self.fractions:
            return means
        curve = [found[fraction][MAIN_METRIC] for fraction in self.fractions]
        each = {f"{MAIN_METRIC}@{observed_name(fraction)}": value for fraction, value in zip(self.fractions, curve, strict=True)}
        return {
            **means,
            **each,
            f"{MAIN_METRIC}_area": area(self.fractions, curve),
            f"{MAIN_METRIC}_share90": share_reaching(self.fractions, curve),
        }

    def as_rows(self) -> dict[str, Any]:
        """Compact per-clip predictions for a study's cell: names, groups, labels, top-1; starts where a file has several clips.

        With fractions, `predicted@obs20` too.
        """
        found = self.fullest
        several = len({clip.path for clip in found.clips}) < len(found.clips)
        return {
            "clip": [clip.path for clip in found.clips],
            **({"start_s": [clip.start_s for clip in found.clips]} if several else {}),
            "group": [clip.group for clip in found.clips],
            "label": found.labels.tolist(),
            "predicted": found.predicted.tolist(),
            **{predicted_name(fraction): self.at[fraction].predicted.tolist() for fraction in self.fractions},
        }

    def write_csv(self, path: Path) -> None:
        """`Predictions.rows`; with fractions, all one after the other and the fraction in a column `observed` after "correct"."""
        rows = (
            {**{name: row[name] for name in PREDICTION_COLUMNS}, **({} if fraction is None else {"observed": f"{fraction:g}"}), **row}
            for fraction, predictions in self.at.items()
            for row in predictions.rows()
        )
        first = next(rows, None)  # one at a time: rows of thousands of classes are large
        with atomic_write(path) as file:
            writer = csv.DictWriter(file, PREDICTION_COLUMNS if first is None else first.keys())
            writer.writeheader()
            writer.writerows([] if first is None else itertools.chain([first], rows))

    def remarks(self) -> list[str]:
        """What a reader of the numbers has to know: `remarks_on` the counts."""
        return remarks_on(self.counts())

    def counts(self) -> dict[str, int]:
        """How many clips were judged, were unobservable, shortened, and held (frames repeat); with fractions `held@obs20` for each."""
        held = {held_name(fraction): predictions.held for fraction, predictions in self.at.items()}
        return {"clips": len(self.fullest.clips), "unobservable": len(self.unobservable), "shortened": self.shortened, **held}


def remarks_on(counts: Mapping[str, int]) -> list[str]:
    """Clips of which nothing or less was observed, and parts so short that frames were repeated, in words; counts: `Judgement.counts`."""
    lines = [f"{counts['unobservable']} clips are not judged: nothing of them can be observed"] if counts["unobservable"] else []
    if counts["shortened"]:
        lines.append(f"of {counts['shortened']} clips less than data.observe.observe_s was observed: their files begin later")
    for name, held in counts.items():
        kind, _, condition = name.partition("@")
        if kind == HELD and held:
            where = f" at {condition.removeprefix('obs')} % observed" if condition else ""
            lines.append(f"{held} of {counts['clips']} clips{where} have fewer frames than the window: frames repeat")
    return lines


def held_name(fraction: float | None) -> str:
    """The count of clips in which frames repeat: held, or at an observed fraction held@obs20."""
    return HELD if fraction is None else f"{HELD}@{observed_name(fraction)}"


def observed_name(fraction: float) -> str:
    """The condition in a metric's name: obs20 for 0.2."""
    return f"obs{100 * fraction:g}"


def predicted_name(fraction: float) -> str:
    """The rows of predictions at an observed fraction: predicted@obs20."""
    return f"predicted@{observed_name(fraction)}"


def judged_set(
    model: VideoClassifier | ExportedModule, clips: Clips, subset: str, data: DataConfig, fraction: float | None, *, progress: str = ""
) -> ClipDataset:
    """The samples by which `model` is judged on a subset, as activations of its frozen stages where these are kept.

    progress: what the lines are called while these are computed; "" writes none.
    """
    dataset = evaluation_set(clips, subset, data, [model.view], fraction=fraction)
    if data.features.views and isinstance(model, VideoClassifier) and model.config.freeze is not None:
        keep_features(dataset, {model.view: (model.view, KeptClassifier(model))}, progress=progress and f"{progress}: frozen stages")
    return dataset


def mean_judgement(judgements: Sequence[Judgement]) -> Judgement:
    """How networks answer together: the mean of their class probabilities, clip by clip; of the labels that all of them know.

    Late fusion by averaging, as of two streams in Simonyan and Zisserman 2014 (arXiv 1406.2199). Raises DataError if they were not judged
    on the same clips at the same observed fractions.
    """
    first, *others = judgements
    if any(other.at.keys() != first.at.keys() or other.fullest.clips != first.fullest.clips for other in others):
        raise DataError(
            "networks that answer together were not judged on the same clips at the same observed fractions",
            clips=", ".join(str(len(one.fullest.clips)) for one in judgements),
            fractions="; ".join(", ".join(f"{fraction:g}" for fraction in one.fractions) or "none" for one in judgements),
            hint="the same data.observe for all of them",
        )

    def mean(fraction: float | None, one: Predictions) -> Predictions:
        found = [judgement.at[fraction] for judgement in judgements]
        common = [name for name in one.targets if all(name in each.targets for each in found)]
        return dataclasses.replace(
            one,
            probabilities=np.mean([each.probabilities for each in found], axis=0),
            targets={name: np.mean([each.targets[name] for each in found], axis=0) for name in common},
            target_classes={name: names for name, names in one.target_classes.items() if name in common},
            held=max(each.held for each in found),
        )

    return dataclasses.replace(first, at={fraction: mean(fraction, one) for fraction, one in first.at.items()})


def judge(
    model: VideoClassifier | ExportedModule,
    clips: Clips,
    subset: str,
    data: DataConfig,
    classes: Sequence[str],
    *,
    device: torch.device,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    progress: str = "",
    last_only: bool = False,
) -> Judgement:
    """Judge on a subset at every fraction of `data.observe`, at all of them the same clips. progress: see `evaluate`.

    A classifier that answers after every frame is judged at them in one pass over whole clips, if that is its protocol; with `last_only` by
    its last answer, the one that an exported file gives.
    Raises what `evaluate` raises, and DataError for a subset without clips, or of which nothing can be observed.
    """
    at: dict[float | None, Predictions] = {}
    one_pass = isinstance(model, VideoClassifier) and model.config.temporal.answers == "frames" and data.observe.protocol == "whole"
    frames: Mapping[float, int] = data.observe.judged_frames(data.window) if one_pass and not last_only else {}
    for fraction in data.observe.judged_fractions:
        found = evaluate(
            model,
            judged_set(model, clips, subset, data, fraction),
            classes,
            list(frames.values()) or [None],
            device=device,
            batch_size=data.batch_size,
            workers=workers,
            rank=rank,
            world_size=world_size,
            target_classes=clips.manifest.targets,
            progress=progress and (progress if fraction is None else f"{progress}, {100 * fraction:g} % observed"),
        )
        at |= zip(frames or [fraction], found, strict=True)
        if not found[0].clips:
            raise DataError(
                f"of no '{subset}' clip anything can be observed", observed=fraction if fraction is not None else "before the gap"
            )
        # fractions rise, and more is observed at a larger one: what the first leaves out is all that is ever left out
        clips = clips.without(subset, found[0].unobservable)
    shortened = sum(is_shortened(clip, data.observe) for clip in clips.subset(subset, data.split))
    return Judgement(at, clips.unobservable.get(subset, ()), shortened)
