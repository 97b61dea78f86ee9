"""How good predictions are: accuracies, calibration, confusion, and the recalls of EPIC-KITCHENS-100; numpy only."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidkd.data.manifest import Clip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def classification_metrics(probabilities: Floats, labels: Ints) -> dict[str, float]:
    """top1, top5, class_mean, nll and calibration error ("ece", 15 equal bins) of (N, K) probabilities, all but nll in [0, 1].

    top5 is left out where there are no more than five classes: it would always be 1.
    labels: (N,) in 0..K-1. Raises ValueError if a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is not finite")
    truth = probabilities[np.arange(len(labels)), labels]
    return {
        "top1": float((probabilities.argmax(1) == labels).mean()),
        **({"top5": top_k(probabilities, labels, 5)} if probabilities.shape[1] > 5 else {}),
        "class_mean": class_mean(probabilities.argmax(1), labels),
        "ece": reliability(probabilities.max(1), probabilities.argmax(1) == labels).error,
        "nll": float(-np.log(np.maximum(truth, 1e-12)).mean()),
    }


def top_k(probabilities: Floats, labels: Ints, k: int) -> float:
    """Share of clips whose true class is among the k most probable; ties count against the true class."""
    return float(_among_first(probabilities, labels, k).mean())


def _among_first(scores: Floats, labels: Ints, k: int) -> NDArray[np.bool_]:
    truth = scores[np.arange(len(labels)), labels][:, None]
    return np.asarray((scores >= truth).sum(1) - 1 < k)


def class_mean(predicted: Ints, labels: Ints) -> float:
    """Mean of the classes' accuracies, over the classes that have clips."""
    return float(np.mean([(predicted[labels == name] == name).mean() for name in np.unique(labels)]))


class Reliability(NamedTuple):
    """The bins of confidence that hold clips, each (M,): number in 0..bins-1, clips, mean confidence and accuracy."""

    number: Ints
    clips: Ints
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap of confidence and accuracy over the bins, weighted by clips.

        Source: Guo et al. 2017 (arXiv 1706.04599), eq. 3.
        """
        return float((np.abs(self.accuracy - self.confidence) * self.clips).sum() / self.clips.sum())


def reliability(confidence: Floats, correct: NDArray[np.generic], bins: int = 15) -> Reliability:
    """Clips in equal bins of confidence, each closed above.

    confidence: (N,) probability of the predicted class in [0, 1]; correct: (N,) 0 or 1.
    """
    bin_N = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts, trust, hits = (np.bincount(bin_N, weights=weights, minlength=bins) for weights in (None, confidence, correct))
    number = np.flatnonzero(counts)
    clips = counts[number]
    return Reliability(number, clips, trust[number] / clips, hits[number] / clips)


def confusion_matrix(predicted: Ints, labels: Ints, classes: int) -> Ints:
    """(K, K) counts, row = true class, column = predicted class."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def per_class(predicted: Ints, labels: Ints, names: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """For every class its clips, recall and precision (None where undefined)."""
    matrix = confusion_matrix(predicted, labels, len(names))
    rows: list[Mapping[str, Any]] = []
    for number, name in enumerate(names):
        clips, hits, named = int(matrix[number].sum()), int(matrix[number, number]), int(matrix[:, number].sum())
        rows.append(
            {"class": name, "clips": clips, "recall": hits / clips if clips else None, "precision": hits / named if named else None}
        )
    return rows


def area(fractions: Sequence[float], values: Sequence[float]) -> float:
    """Area under a curve over observed fractions by the trapezoid rule, divided by their range; the value itself for a single point."""
    return float(area_weights(fractions) @ np.asarray(values, dtype=np.float64))


def share_reaching(fractions: Sequence[float], values: Sequence[float], part: float = 0.9) -> float:
    """The observed share at which a curve first reaches `part` of its last value, in straight lines between its points.

    The first fraction where it is there already, for nothing is known of less. The measure is ours; the field gives the curve and its mean.
    """
    goal = part * values[-1]
    first = next(number for number, value in enumerate(values) if value >= goal)
    if first == 0:
        return float(fractions[0])
    (low, high), (before, after) = fractions[first - 1 : first + 1], values[first - 1 : first + 1]
    return float(low + (high - low) * (goal - before) / (after - before))


def area_weights(fractions: Sequence[float]) -> Floats:
    """What each point of the curve counts in `area`, summing to one."""
    if len(fractions) == 1:
        return np.ones(1)
    widths = np.diff(fractions)
    return np.asarray((np.append(widths, 0) + np.append(0, widths)) / 2 / widths.sum(), np.float64)


MAIN_HEAD = "label"
"""Name of the head for `Clip.label` (in EPIC the action) next to those named after targets."""
UNSEEN, TAIL, ALL = "unseen", "tail", "all"


def class_mean_recall(scores: Floats, labels: Ints, k: int = 5, *, missed: Sequence[int] | Ints = ()) -> float:
    """Mean over classes of the share of a class's samples whose true class is among the k highest scores, in [0, 1].

    scores: (N, K), any monotone scale. labels: (N,) in 0..K-1. Classes without samples are left out of the mean. A tie counts against the
    true class: it is among the k only if fewer than k others score as high or higher.
    missed: (M,) labels of further samples, of which nothing was predicted: their true class is never among the k, however few there are.
    Source: Damen et al. 2022 (arXiv 2006.13256), "class-mean top-5 recall".
    """
    every = np.concatenate([labels, np.asarray(missed, np.int64)])
    hit = np.concatenate([_among_first(scores, labels, k), np.zeros(len(missed), bool)])
    return float(np.mean([hit[every == name].mean() for name in np.unique(every)]))


def labels_of(clips: Sequence[Clip], head: str = MAIN_HEAD) -> Ints:
    """(N,) the clips' labels for a head: `label`, or the target of that name; -1 where a clip has none."""
    found = [clip.label if head == MAIN_HEAD else clip.targets.get(head) for clip in clips]
    return np.array([-1 if label is None else label for label in found], np.int64)


def label_frequencies(clips: Sequence[Clip], classes: int, head: str = MAIN_HEAD) -> Floats | None:
    """(classes,) share of each class among the clips with a label for the head, summing to one; None if no clip has one."""
    labels = labels_of(clips, head)
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    return counts / counts.sum() if counts.any() else None


def anticipation_recalls(
    scores: Mapping[str, Floats], clips: Sequence[Clip], k: int = 5, *, unobservable: Sequence[Clip] = ()
) -> dict[str, float]:
    """`recall5` of the main head and `<head>_recall5` of the others, and with `_unseen` and `_tail` where clips have such tags.

    unobservable: clips of which nothing could be observed, so that there are no scores. Where there are any, each figure is there with
    `_all` too, in which they count as misses: the official evaluation judges every action of its list.
    scores: head -> (N, K) of the N clips; heads are "label" and names of targets. Clips without the head's label are not judged.
    Unseen: the clips with tag "unseen". Tail: those with tag "tail" for the main head and "tail_<head>" for another; in EPIC an action
    is in the tail if its verb or its noun is.
    """
    figures = {}
    for head, values in scores.items():
        labels, unpredicted = labels_of(clips, head), labels_of(unobservable, head)
        name = f"recall{k}" if head == MAIN_HEAD else f"{head}_recall{k}"
        for suffix, tag in _subsets(head):
            judged = _labelled(clips, labels, tag)
            missed = unpredicted[_labelled(unobservable, unpredicted, tag)]
            if judged.any():
                figures[name + suffix] = class_mean_recall(values[judged], labels[judged], k)
            if unobservable and (judged.any() or len(missed)):
                figures[f"{name}{suffix}_{ALL}"] = class_mean_recall(values[judged], labels[judged], k, missed=missed)
    return figures


def _subsets(head: str) -> Iterator[tuple[str, str | None]]:
    """Suffix of the metric, and the tag of the clips that it judges; None for all."""
    yield "", None
    yield f"_{UNSEEN}", UNSEEN
    yield f"_{TAIL}", TAIL if head == MAIN_HEAD else f"{TAIL}_{head}"


def _labelled(clips: Sequence[Clip], labels: Ints, tag: str | None) -> NDArray[np.bool_]:
    """(N,) which clips have a label and the tag."""
    return np.array([tag is None or tag in clip.tags for clip in clips], bool) & (labels >= 0)
