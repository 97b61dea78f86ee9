"""Which networks of a run are frozen, and their activations computed once: for training views, and for the windows of an evaluation."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vidkd.base.progress import Progress
from vidkd.data.dataset import ClipDataset, collate
from vidkd.data.features import FeatureStore, Maps
from vidkd.data.loaders import Item, batch_loader
from vidkd.engine.interrupts import start
from vidkd.models import VideoClassifier
from vidkd.tasks import Task
from vidkd.tasks.task import TEACHER, Batch

Networks = Mapping[str, tuple[str, VideoClassifier]]
"""The entry of a batch in which kept activations stand -> the view that a network sees, and the network."""


def keep_features(dataset: ClipDataset, networks: Networks, *, epochs: int = 1, progress: str = "") -> None:
    """Let `dataset` give the activations of frozen networks in place of what they see, from its store, which is filled first.

    epochs: after how many the views of a clip repeat. A view that a kept entry replaces, or that only the teacher sees, is no longer
    decoded. Raises DataError where the maps pass the bound.
    """
    stages = {entry: model.kept_stages() for entry, (_, model) in networks.items()}
    store = FeatureStore(dataset.config.features, {entry: _digest(model, stages[entry]) for entry, (_, model) in networks.items()})
    dataset.features = store
    every: list[Item] = list(itertools.product(range(epochs), range(len(dataset))))
    missing = [item for item in every if not dataset.feature_file(item).exists()]
    batches = [missing[first : first + dataset.config.batch_size] for first in range(0, len(missing), dataset.config.batch_size)]
    modes = [(model, model.training) for _, model in networks.values()]
    for model, _ in modes:
        model.eval()
    loader = batch_loader(dataset, batches, dataset.config.workers, collate)
    shown = Progress(len(batches), progress, rank=0 if batches and progress else 1)
    with torch.inference_mode():
        for items, batch in zip(batches, shown.over(start(loader)), strict=True):
            if "index" in batch:
                found = {entry: _maps(model, batch[view], stages[entry]) for entry, (view, model) in networks.items()}
                _write(dataset, store, items, batch, found)
    for model, was_training in modes:
        model.train(was_training)
    store.filled = True
    # one view: it is the student's, who may still read it when only the teacher's activations are kept
    replaced = {view for entry, (view, _) in networks.items() if entry == view or len(dataset.views) > 1}
    dataset.views = tuple(view for view in dataset.views if view not in replaced)


def _write(dataset: ClipDataset, store: FeatureStore, items: Sequence[Item], batch: Batch, found: Mapping[str, Maps]) -> None:
    """Keep the maps of a batch; what of `items` could not be read has no row in it, and stays for training to count."""
    row, clips = 0, batch["index"].tolist()
    for item in items:
        if row < len(clips) and item[1] // dataset.views_per_clip == clips[row]:
            maps = {entry: {stage: of[stage][row] for stage in of} for entry, of in found.items()}
            scalars = {name: batch[name][row] for name in ("held", "held_future") if name in batch}
            store.write(dataset.feature_file(item), {**maps, **({"sample": scalars} if scalars else {})})
            row += 1


def _maps(model: VideoClassifier, clip: Tensor, stages: tuple[str, ...]) -> dict[str, Tensor]:
    features = model.backbone(model.normalise(clip.to(model.fc.weight.device)))
    return {stage: features[stage].cpu() for stage in stages}


def _digest(model: VideoClassifier, stages: tuple[str, ...]) -> str:
    """What decides the maps of a network: its architecture and all weights of its backbone."""
    rule = hashlib.sha256(repr((model.config.backbone, model.config.temporal.shift, model.view, stages)).encode())
    for name, tensor in model.backbone.state_dict().items():
        rule.update(name.encode())
        rule.update(tensor.cpu().contiguous().numpy().tobytes())
    return rule.hexdigest()


def frozen_networks(task: Task) -> dict[str, tuple[str, VideoClassifier]]:
    """The networks of a task whose activations can be kept, by the entry of the batch that they read: the teacher, a frozen student."""
    student = task.student
    networks: dict[str, tuple[str, VideoClassifier]] = {}
    if student.config.freeze is not None:
        networks[student.view] = (student.view, student)
    if task.teacher is not None:
        others = [view for view in task.views if view != student.view]
        view = others[0] if others else student.view
        networks[TEACHER] = (view, task.teacher)
    return networks
