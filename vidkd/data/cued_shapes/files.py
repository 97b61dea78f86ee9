"""The files of the data set: their names, their sides of the split, and what happens in each."""

from typing import Literal

import numpy as np

from vidkd.data.cued_shapes.config import CuedShapesConfig

# what a stream of random numbers is for; motion_shapes has 0 to 3
LABELS, SCENE, NOISE = range(4, 7)


def subset_of_file(config: CuedShapesConfig, number: int) -> Literal["train", "test"]:
    """The side of the split of a file, by its number from 1: training files come first."""
    return "train" if number <= config.files_train else "test"


def is_labelled(config: CuedShapesConfig, number: int) -> bool:
    """Whether the manifest tells the classes of a file: the last `unlabelled_share` of the training files keep theirs to themselves."""
    labelled = config.files_train - round(config.unlabelled_share * config.files_train)
    return number <= labelled or subset_of_file(config, number) == "test"


def group_of(number: int) -> str:
    """The group of a file, which is a file alone."""
    return f"g{number:03d}"


def cued_video_path(number: int) -> str:
    """videos/v_g<ggg>.mp4, relative to the data set's folder."""
    return f"videos/v_{group_of(number)}.mp4"


def labels_of(config: CuedShapesConfig, number: int) -> list[int]:
    """The class of every episode of a file: uniform, and independent of the other episodes of the file.

    As many files of one side as there are classes share a draw: among their first episodes is each class once, among their second ones too.
    """
    subset, count = subset_of_file(config, number), len(config.classes)
    first = 1 if subset == "train" else config.files_train + 1
    block, column = divmod(number - first, count)
    rng = np.random.default_rng([config.seed, LABELS, int(subset == "test"), block])
    return [int(rng.permutation(count)[column]) for _ in range(config.episodes)]
