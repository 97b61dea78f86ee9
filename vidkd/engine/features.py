"""Which networks of a run are frozen, and their activations computed once: for training views, and for the windows of an evaluation."""

import itertools
from collections.abc import Mapping

import torch

from vidkd.base.progress import Progress
from vidkd.data.dataset import ClipDataset, collate
from vidkd.data.features import FeatureStore
from vidkd.data.loaders import Item, batch_loader
from vidkd.engine.interrupts import start
from vidkd.tasks import Task
from vidkd.tasks.task import TEACHER, KeptNetwork

Networks = Mapping[str, tuple[str, KeptNetwork]]
"""The entry of a batch in which kept activations stand -> the view that a network sees, and the network."""


def keep_features(dataset: ClipDataset, networks: Networks, *, epochs: int = 1, progress: str = "") -> None:
    """Let `dataset` give the activations of frozen networks in place of what they see, from its store, which is filled first.

    epochs: after how many the views of a clip repeat. A view that a kept entry replaces, or that only the teacher sees, is no longer
    decoded. Raises DataError where the maps pass the bound.
    """
    # one network may be both student and teacher, of other parts of a clip
    identities = {entry: f"{view} {model.kept_identity()}" for entry, (view, model) in networks.items()}
    store = dataset.features = FeatureStore(dataset.config.features, identities)
    views = dataset.views
    for entry, (view, model) in networks.items():
        dataset.views = (view,)
        _fill(dataset, entry, model, epochs, progress)
    store.filled = True
    # one view: it is the student's, who may still read it when only the teacher's activations are kept
    replaced = {view for entry, (view, _) in networks.items() if entry == view or len(views) > 1}
    dataset.views = tuple(view for view in views if view not in replaced)


def _fill(dataset: ClipDataset, entry: str, model: KeptNetwork, epochs: int, progress: str) -> None:
    """Compute what the store lacks of one network. What cannot be read stays for training to count."""
    store = dataset.features
    assert store is not None
    every: list[Item] = list(itertools.product(range(epochs), range(len(dataset))))
    missing = [item for item in every if not dataset.feature_file(entry, item).exists()]
    if not missing:
        return
    batches = [missing[first : first + dataset.config.batch_size] for first in range(0, len(missing), dataset.config.batch_size)]
    loader = batch_loader(dataset, batches, dataset.config.workers, collate)
    shown = Progress(len(batches), progress, rank=0 if progress else 1)
    with torch.inference_mode():
        for items, batch in zip(batches, shown.over(start(loader)), strict=True):
            maps = model.kept_maps(batch[dataset.views[0]]) if "index" in batch else {}
            row, clips = 0, batch["index"].tolist() if maps else []
            for item in items:
                if row < len(clips) and item[1] // dataset.views_per_clip == clips[row]:
                    scalars = {name: batch[name][row] for name in ("held", "held_future") if name in batch}
                    store.write(dataset.feature_file(entry, item), {stage: of[row].cpu() for stage, of in maps.items()}, scalars)
                    row += 1


def frozen_networks(task: Task) -> dict[str, tuple[str, KeptNetwork]]:
    """The networks of a task whose activations can be kept, by the entry of the batch that they read: the teacher, a frozen student."""
    view = task.student.view
    networks: dict[str, tuple[str, KeptNetwork]] = {}
    if (student := task.kept_student) is not None:
        networks[view] = (view, student)
    if (teacher := task.kept_teacher) is not None:
        others = [other for other in task.views if other != view]
        networks[TEACHER] = (others[0] if others else view, teacher)
    return networks
