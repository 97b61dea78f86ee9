"""Training clips on which the ranges of an integer network are found."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, DataError
from vidkd.compress.quantise import Feed
from vidkd.data.manifest import Clip
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig
from vidkd.engine.setup import evaluation_set
from vidkd.runtime.metadata import CLIP, OBSERVED, ClassifierMetadata


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Feeds of an exported classifier, and in words what they are."""

    feeds: Sequence[Feed]
    source: str


def calibration_of(config: RunConfig, metadata: ClassifierMetadata, *, clips: int, seed: int = 0) -> Calibration:
    """Up to `clips` labelled training clips of a run, as an evaluation shows them, in an order drawn by `seed` that walks over the classes.

    Clips that judge (`val`, `test`) are never among them. Where the network is judged at several observed fractions, these take turns.
    Raises DataError without a training clip, ConfigError where all drawn are of one class (a range would miss what the others put out),
    and as `read_clips_of_run` does.
    """
    found = read_clips_of_run(config)
    chosen = drawn_or_refused(found.train, clips, seed, classes=metadata.classes, split=config.data.split)
    labels = {found.train[number].label for number in chosen}
    data = dataclasses.replace(config.data, eval_clips=1, eval_crops=1)
    fractions = data.observe.judged_fractions
    samples = [evaluation_set(found, "train", data, [metadata.view], fraction=fraction) for fraction in fractions]
    dtype = np.dtype(np.uint8 if metadata.view == "rgb" else np.float32)
    stacked = np.empty((len(chosen), *metadata.clip_shape), dtype)
    for turn, number in enumerate(chosen):
        stacked[turn] = samples[turn % len(samples)][(0, number)][metadata.view].numpy()
    shares = np.array([fractions[turn % len(fractions)] or 1.0 for turn in range(len(chosen))], np.float32)
    return Calibration(feeds=feeds_of(stacked, shares, metadata), source=f"{len(chosen)} training clips of {len(labels)} classes")


def drawn_or_refused(clips: Sequence[Clip], count: int, seed: int, *, classes: Sequence[str], split: str) -> list[int]:
    """As `drawn`. Raises DataError for no clips, ConfigError where all that are drawn are of one of several classes."""
    chosen = drawn(clips, count, seed)
    if not chosen:
        raise DataError(f"split '{split}' has no labelled training clips to find ranges on")
    labels = {clips[number].label for number in chosen}
    if len(labels) == 1 and len(classes) > 1:
        name = classes[next(iter(labels)) or 0]
        raise ConfigError(f"all {len(chosen)} clips to find ranges on are of one class: {name}", hint="more clips, of every class")
    return chosen


def drawn(clips: Sequence[Clip], count: int, seed: int) -> list[int]:
    """Numbers of up to `count` clips: shuffled within each class, then one of each class after another."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(clips))
    turns: dict[int | None, int] = {}
    rank = []
    for number in order:
        label = clips[number].label
        rank.append((turns.get(label, 0), int(number)))
        turns[label] = turns.get(label, 0) + 1
    return [number for _, number in sorted(rank, key=lambda entry: entry[0])][:count]


def feeds_of(clips: NDArray[Any], shares: NDArray[np.float32], metadata: ClassifierMetadata) -> list[Feed]:
    """Raw clips (N, C, T, S, S), and the shares (N,) that are seen of them where the network takes them, as inputs of one clip each."""
    spans = [slice(number, number + 1) for number in range(len(clips))]
    return [{CLIP: clips[span], **({OBSERVED: shares[span]} if metadata.observed else {})} for span in spans]
