"""The file that a challenge takes, from what `evaluate` predicted, and a prior where nothing could be observed."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vidkd.base.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidkd.data.manifest import Clip, Manifest
    from vidkd.engine.evaluate import Predictions

Levels = tuple[int, int, int]
HEADS = ("verb", "noun", "label")


def add_submission_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --submission and --supervision."""
    parser.add_argument(
        "--submission", metavar="F", help="EPIC-KITCHENS-100: also write the scores as the challenge of action anticipation takes them"
    )
    parser.add_argument(
        "--supervision",
        metavar="PT,TL,TD",
        help="levels of pretraining, labels and data, 0 to 5 each, that it declares (2,3,3: public pretraining, the training list)",
    )


def declared_levels(arguments: argparse.Namespace) -> Levels | None:
    """The levels that a submission declares; None where none is asked for. ConfigError for one without the other, or other levels."""
    from vidkd.engine.submission import LEVELS

    if arguments.submission is None and arguments.supervision is None:
        return None
    words = (arguments.supervision or "").split(",")
    if arguments.submission is None or len(words) != 3 or not all(word.strip().isdecimal() and int(word) in LEVELS for word in words):
        raise ConfigError(
            "a submission declares three levels of supervision",
            given=f"--submission {arguments.submission}, --supervision {arguments.supervision}",
            to_mend="--submission F --supervision 2,3,3   (each 0 to 5)",
        )
    pretraining, labels, data = (int(word) for word in words)
    return pretraining, labels, data


def write_predictions_for_challenge(
    path: Path, predictions: "Predictions", manifest: "Manifest", levels: Levels, *, unobservable: "Sequence[Clip]" = (), trained_split: str
) -> None:
    """Write a submission and say so. Raises DataError for a data set without verbs and nouns, or clips that the challenge does not know.

    unobservable: clips of which nothing could be observed. The challenge asks for every id, so these get a prior, the same for all.
    trained_split: the split that the model was trained on, whose training labels the prior counts.
    """
    import numpy as np

    from vidkd.engine.submission import action_pairs, submission, write_submission

    pairs, clips = action_pairs(manifest), [*predictions.clips, *unobservable]
    unnamed = [clip.path for clip in clips if clip.name is None]
    if unnamed:
        raise DataError(f"no submission can be made of '{manifest.name}'", reason=f"{unnamed[0]} has no narration id (`name`)")
    found = {**predictions.targets, "label": predictions.probabilities}
    prior, words = label_prior(manifest, trained_split, {head: found[head].shape[1] for head in HEADS})
    verbs, nouns, actions = (np.concatenate([found[head], np.tile(prior[head], (len(unobservable), 1))]) for head in HEADS)
    names, (pretraining, labels, data) = [str(clip.name) for clip in clips], levels
    try:
        content = submission(names, verbs, nouns, actions, pairs, pretraining=pretraining, training_labels=labels, training_data=data)
    except ValueError as error:
        raise DataError(f"no submission can be made of '{manifest.name}'", reason=error) from error
    write_submission(path, content)
    if unobservable:
        sys.stdout.write(
            f"note: {len(unobservable)} of {len(clips)} actions of the submission, of which nothing can be observed, have {words}\n"
        )
    sys.stdout.write(f"written: {path}\n")


def label_prior(manifest: "Manifest", split: str, sizes: Mapping[str, int]) -> "tuple[dict[str, NDArray[np.float64]], str]":
    """What is said of a clip that nobody has seen, by head, and that in words.

    The frequencies of the labels among the training clips of a split, which is the one that the model was trained on: those of another
    may hold labels that it must not know. Uniform for all heads where the manifest has no labels of one for that split.
    """
    import numpy as np

    from vidkd.engine.anticipation_metrics import label_frequencies

    clips = manifest.select(split, "train") if split in manifest.splits else []
    found = {head: label_frequencies(clips, size, head) for head, size in sizes.items()}
    known = {head: shares for head, shares in found.items() if shares is not None}
    if len(known) == len(found):
        return known, f"the frequencies of the labels among the {len(clips)} training clips of split '{split}'"
    uniform = {head: np.full(size, 1 / size) for head, size in sizes.items()}
    return uniform, f"the same score for all classes: the manifest has no training labels of split '{split}'"
