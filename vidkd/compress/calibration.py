"""Training clips on which the ranges of an integer network are found."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vidkd.base.errors import ConfigError, DataError
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.quantise import Feed, Integers
from vidkd.data.manifest import Clip
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig
from vidkd.engine.setup import evaluation_set
from vidkd.runtime.metadata import CLIP, OBSERVED, ClassifierMetadata


def integers_of(run: RunConfig, metadata: ClassifierMetadata, config: QuantiseConfig) -> Integers:
    """Integers with ranges on labelled training clips of a run, as an evaluation shows them, drawn over the classes.

    Clips that judge (`val`, `test`) are never among them. Where the network is judged at several observed fractions, these take turns.
    Raises as `drawn` and `read_clips_of_run` do.
    """
    found = read_clips_of_run(run)
    chosen = drawn(found.train, config, metadata.classes)
    data = dataclasses.replace(run.data, eval_clips=1, eval_crops=1)
    fractions = data.observe.judged_fractions
    samples = [evaluation_set(found, "train", data, [metadata.view], fraction=fraction) for fraction in fractions]
    feeds: list[Feed] = []
    for turn, number in enumerate(chosen):
        clip = samples[turn % len(samples)][(0, number)][metadata.view].numpy()
        share = np.array([fractions[turn % len(fractions)] or 1.0], np.float32)
        feeds.append(
            {CLIP: clip[None].astype(np.uint8 if metadata.view == "rgb" else np.float32)} | ({OBSERVED: share} if metadata.observed else {})
        )
    labels = {found.train[number].label for number in chosen}
    return Integers(config=config, feeds=feeds, source=f"{len(chosen)} training clips of {len(labels)} classes")


def drawn(clips: Sequence[Clip], config: QuantiseConfig, classes: Sequence[str]) -> list[int]:
    """Numbers of up to as many clips as the settings say: shuffled within each class, then one of each class after another.

    Raises DataError for no clips, ConfigError where all are of one of several classes (a range would miss the outputs of the others).
    """
    rng = np.random.default_rng(config.seed)
    turns: dict[int | None, int] = {}
    rank = []
    for number in rng.permutation(len(clips)):
        label = clips[number].label
        rank.append((turns.get(label, 0), int(number)))
        turns[label] = turns.get(label, 0) + 1
    chosen = [number for _, number in sorted(rank, key=lambda entry: entry[0])][: config.clips]
    labels = {clips[number].label for number in chosen}
    if not chosen:
        raise DataError("there are no labelled training clips to find ranges on")
    if len(labels) == 1 and len(classes) > 1:
        name = classes[next(iter(labels)) or 0]
        raise ConfigError(f"all {len(chosen)} clips to find ranges on are of one class: {name}", hint="more clips, of every class")
    return chosen
