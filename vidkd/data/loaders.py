"""Loaders whose every batch is a function of (seed, step): any step can be reached directly, whatever the workers and processes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from vidkd.base.errors import DataError
from vidkd.base.random_streams import random_stream
from vidkd.data.dataset import ClipDataset, Sample, collate

Item = tuple[int, ...]


class StepSampler(Sampler[list[Item]]):
    """Batches of items (epoch, index), cut from one endless stream of shuffled epochs, so that step k is known without walking there.

    The global batch of step k is stream[k * batch_size : (k + 1) * batch_size]; process `rank` of `world_size` takes every
    world_size-th item of it. stream: samplers of unlike names shuffle unlike each other. With `labels`, classes take turns instead
    (class-balanced sampling), and an item is (epoch, index, draw): draw counts the times that the clip came before in the epoch. Batches
    may be larger than `count`. Raises DataError without clips, or with fewer clips a batch than processes.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int,
        first_step: int,
        last_step: int,
        rank: int = 0,
        world_size: int = 1,
        labels: Sequence[int] | None = None,
        stream: str = "labelled",
    ) -> None:
        if count < 1:
            raise DataError("there is no clip to train on")
        if batch_size < world_size:
            raise DataError(f"data.batch_size {batch_size} is smaller than the number of processes, {world_size}", hint="a larger batch")
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.first_step, self.last_step, self.rank, self.world_size = first_step, last_step, rank, world_size
        self.stream = stream
        self.labels = None if labels is None else np.asarray(labels)
        self._epoch: tuple[int, list[Item]] | None = None

    def __len__(self) -> int:
        return max(self.last_step - self.first_step, 0)

    def __iter__(self) -> Iterator[list[Item]]:
        for step in range(self.first_step, self.last_step):
            yield self.batch(step)[self.rank :: self.world_size]

    def batch(self, step: int) -> list[Item]:
        """The global batch of a step."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [self._items(position // self.count)[position % self.count] for position in positions]

    def _items(self, epoch: int) -> list[Item]:
        if self._epoch is None or self._epoch[0] != epoch:
            rng = random_stream(self.seed, f"shuffle {self.stream}", epoch)
            seen: Counter[int] = Counter()  # how often a clip came before
            items: list[Item] = []
            for index in (rng.permutation(self.count) if self.labels is None else self._balanced(rng)).tolist():
                items.append((epoch, index) if self.labels is None else (epoch, index, seen[index]))
                seen[index] += 1
            self._epoch = (epoch, items)
        return self._epoch[1]

    def _balanced(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """An epoch of `count` draws in which classes take turns in random order; a class's clips are walked through before any repeats."""
        assert self.labels is not None
        classes = np.unique(self.labels)
        turns = np.concatenate([rng.permutation(classes) for _ in range(-(-self.count // len(classes)))])[: self.count]
        order = np.empty(self.count, np.int64)
        for name in classes:
            places, members = np.flatnonzero(turns == name), np.flatnonzero(self.labels == name)
            rounds = [rng.permutation(members) for _ in range(-(-len(places) // len(members)))]
            order[places] = np.concatenate(rounds)[: len(places)] if len(places) else places
        return order


class MixedSampler(Sampler[list[Item]]):
    """Batches of labelled clips and unlabelled ones in fixed numbers, each from an endless stream of its own epochs.

    labelled, unlabelled: samplers of the two parts of one data set, in this order: clip k of the second is index labelled.count + k.
    Both walk the same steps. Processes take turns over each part by itself, so that all have as many labels: a loss is a mean over these.
    Raises DataError where a part of the batch cannot be shared evenly.
    """

    def __init__(self, labelled: StepSampler, unlabelled: StepSampler) -> None:
        parts, processes = (labelled.batch_size, unlabelled.batch_size), labelled.world_size
        if any(part % processes for part in parts):
            raise DataError(
                f"{parts[0]} labelled and {parts[1]} unlabelled clips a batch cannot be shared evenly by {processes} processes",
                hint="another data.batch_size or data.unlabelled_ratio",
            )
        self.labelled, self.unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return len(self.labelled)

    def __iter__(self) -> Iterator[list[Item]]:
        first, rank, processes = self.labelled.count, self.labelled.rank, self.labelled.world_size
        for step in range(self.labelled.first_step, self.labelled.last_step):
            others = [(epoch, first + index, *draw) for epoch, index, *draw in self.unlabelled.batch(step)]
            yield [*self.labelled.batch(step)[rank::processes], *others[rank::processes]]


def batch_parts(batch_size: int, unlabelled_ratio: float) -> tuple[int, int]:
    """How many of a batch's clips are (labelled, unlabelled), `unlabelled_ratio` of these for each of those. DataError if one is none."""
    unlabelled = round(batch_size * unlabelled_ratio / (1 + unlabelled_ratio))
    if not 0 < unlabelled < batch_size:
        raise DataError(
            f"a batch of {batch_size} cannot hold {unlabelled_ratio:g} unlabelled clips for each labelled one",
            hint="a larger data.batch_size, or data.unlabelled_ratio nearer to 1",
        )
    return batch_size - unlabelled, unlabelled


def _worker_init(_: int) -> None:
    """Loader processes are many: one thread each."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def training_loader(dataset: ClipDataset, sampler: Sampler[list[Item]], workers: int, *, pin_memory: bool = False) -> DataLoader[Sample]:
    """Batches of the sampler's steps, in order; kept activations, where nothing is decoded, are read faster by this process alone."""
    return batch_loader(dataset, sampler, workers if dataset.views else 0, collate, pin_memory=pin_memory)


def evaluation_loader(dataset: ClipDataset, batch_size: int, workers: int, *, rank: int = 0, world_size: int = 1) -> DataLoader[Sample]:
    """Every sample of an evaluation data set once, in order; those of which nothing can be observed are listed in their batch."""
    numbers: list[Item] = [(0, number) for number in range(rank, len(dataset), world_size)]
    batches = [numbers[start : start + batch_size] for start in range(0, len(numbers), batch_size)]
    return batch_loader(dataset, batches, workers if dataset.views else 0, collate)


def batch_loader(
    dataset: Dataset[Any],
    batches: Iterable[list[Item]] | Iterable[list[int]],
    workers: int,
    collate_fn: Callable[[list[Any]], Sample],
    *,
    pin_memory: bool = False,
) -> DataLoader[Sample]:
    """Batches of any data set in the sampler's order, read by `workers` processes of one thread each, or in this one (0)."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate_fn,
        generator=torch.Generator(),  # or starting to load would draw from the global one
        pin_memory=pin_memory,
        worker_init_fn=_worker_init,
        multiprocessing_context="spawn" if workers else None,
    )
