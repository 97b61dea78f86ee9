"""Which networks of a run are frozen, and their activations computed once: for training views, and for the windows of an evaluation."""

import itertools
from collections.abc import Mapping

import torch

from vidkd.base.errors import VideoError
from vidkd.base.progress import Progress
from vidkd.data.dataset import ClipDataset, collate
from vidkd.data.features import FeatureStore
from vidkd.data.loaders import Item, batch_loader
from vidkd.engine.interrupts import start
from vidkd.tasks import Task
from vidkd.tasks.task import KeptNetwork

Networks = Mapping[str, tuple[str, KeptNetwork]]
"""The entry of a batch in which kept activations stand -> the view that a network sees, and the network."""


def keep_features(dataset: ClipDataset, networks: Networks, *, seen: str | None = None, epochs: int = 1, progress: str = "") -> None:
    """Let `dataset` give the activations of frozen networks in place of what they see, from its store, which is filled first.

    seen: the view that a student sees, who is not among them. epochs: after how many the views of a clip repeat. Views that no network sees
    any longer are not decoded. Raises DataError where the maps pass the bound.
    """
    # one network may be both student and teacher, of other parts of a clip
    identities = {entry: f"{view} {model.kept_identity()}" for entry, (view, model) in networks.items()}
    store = dataset.features = FeatureStore(dataset.config.features, identities)
    views = dataset.views
    for entry, (view, model) in networks.items():
        dataset.views = (view,)
        _fill(dataset, entry, model, epochs, progress)
    store.filled = True
    replaced = {view for view, _ in networks.values()} - {seen}
    dataset.views = tuple(view for view in views if view not in replaced)


def _fill(dataset: ClipDataset, entry: str, model: KeptNetwork, epochs: int, progress: str) -> None:
    """Compute what the store lacks of one network. What cannot be read stays for training to count."""
    store = dataset.features
    assert store is not None
    every: list[Item] = list(itertools.product(range(epochs), range(len(dataset))))
    missing = [item for item in every if not _is_kept(dataset, entry, item)]
    if not missing:
        return
    batches = [missing[first : first + dataset.config.batch_size] for first in range(0, len(missing), dataset.config.batch_size)]
    loader = batch_loader(dataset, batches, dataset.config.workers, collate)
    shown = Progress(len(batches), progress)
    with torch.inference_mode():
        for items, batch in zip(batches, shown.over(start(loader)), strict=True):
            maps = model.kept_maps(batch[dataset.views[0]]) if "index" in batch else {}
            store.unreadable |= dict(batch["bad"])
            row, clips = 0, batch["index"].tolist() if maps else []
            for item in items:
                if row < len(clips) and item[1] // dataset.views_per_clip == clips[row]:
                    scalars = {name: batch[name][row] for name in ("held", "held_future") if name in batch}
                    store.write(dataset.feature_file(entry, item), {stage: of[row].cpu() for stage, of in maps.items()}, scalars)
                    row += 1


def _is_kept(dataset: ClipDataset, entry: str, item: Item) -> bool:
    try:
        return dataset.feature_file(entry, item).exists()
    except VideoError:  # reading the clip says so, and counts it
        return False


def frozen_networks(task: Task) -> dict[str, tuple[str, KeptNetwork]]:
    """The networks of a task whose activations can be kept, by the entry of the batch that they read: what teaches, a frozen student."""
    view, student = task.student.view, task.kept_student
    return {**({} if student is None else {view: (view, student)}), **task.kept_teachers}
