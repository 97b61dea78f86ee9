"""Judging a classifier: every clip's probabilities, averaged over its windows and crops, and the metrics of all."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write
from vidkd.data.dataset import ClipDataset
from vidkd.data.loaders import evaluation_loader
from vidkd.data.manifest import Clip
from vidkd.engine.interrupts import start
from vidkd.engine.metrics import classification_metrics
from vidkd.models import VideoClassifier


@dataclass(frozen=True)
class Predictions:
    """Probabilities (N, K) of N clips, and the clips."""

    probabilities: NDArray[np.float64]
    clips: list[Clip]
    classes: tuple[str, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) true classes, -1 where a clip has no label."""
        return np.array([-1 if clip.label is None else clip.label for clip in self.clips], np.int64)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) most probable classes."""
        return np.asarray(self.probabilities.argmax(1), np.int64)

    def metrics(self) -> dict[str, float]:
        """Metrics over the labelled clips. Raises DataError if none is labelled."""
        labelled = self.labels >= 0
        if not labelled.any():
            raise DataError("no clip has a label, so there is nothing to judge")
        return classification_metrics(self.probabilities[labelled], self.labels[labelled])

    def write_csv(self, path: Path) -> None:
        """One row a clip: clip, start_s, end_s, group, label, predicted, correct, then p_<class> for every class."""
        with atomic_write(path) as file:
            writer = csv.writer(file)
            writer.writerow(["clip", "start_s", "end_s", "group", "label", "predicted", "correct", *(f"p_{name}" for name in self.classes)])
            for clip, row, predicted in zip(self.clips, self.probabilities, self.predicted, strict=True):
                label = "" if clip.label is None else self.classes[clip.label]
                end = "" if clip.end_s is None else clip.end_s
                head = [clip.path, clip.start_s, end, clip.group, label, self.classes[predicted], int(clip.label == predicted)]
                writer.writerow([*head, *(f"{value:.6f}" for value in row)])


def evaluate(
    model: VideoClassifier,
    dataset: ClipDataset,
    classes: Sequence[str],
    *,
    device: torch.device,
    batch_size: int,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Predictions:
    """Mean softmax over the windows and crops of every clip. Raises DataError or VideoError for a clip that cannot be read.

    With several processes each takes its share and all get the whole result. The model is put back into the mode it was in.
    """
    sums = torch.zeros(len(dataset.clips), len(classes), dtype=torch.float64)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in start(evaluation_loader(dataset, batch_size, workers, rank=rank, world_size=world_size)):
            logits = model(batch[model.view].to(device)).logits
            sums.index_add_(0, batch["index"], logits.cpu().double().softmax(1))  # on the CPU: MPS has no float64
    model.train(was_training)
    if world_size > 1:
        sums = sums.to(device if device.type == "cuda" else "cpu")
        torch.distributed.all_reduce(sums)
    return Predictions((sums / dataset.views_per_clip).cpu().numpy(), dataset.clips, tuple(classes))


def predictions_as_rows(predictions: Predictions) -> dict[str, Any]:
    """Compact per-clip predictions for a study's cell: names, groups, labels and top-1 predictions."""
    return {
        "clip": [clip.path for clip in predictions.clips],
        "group": [clip.group for clip in predictions.clips],
        "label": predictions.labels.tolist(),
        "predicted": predictions.predicted.tolist(),
    }
