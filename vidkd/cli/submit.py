"""The file that a challenge takes, from what `evaluate` predicted."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vidkd.base.errors import ConfigError, DataError

if TYPE_CHECKING:
    from vidkd.data.manifest import Manifest
    from vidkd.engine.evaluate import Predictions

Levels = tuple[int, int, int]


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


def write_predictions_for_challenge(path: Path, predictions: "Predictions", manifest: "Manifest", levels: Levels) -> None:
    """Write a submission and say so. Raises DataError for a data set without verbs and nouns, or clips that the challenge does not know."""
    from vidkd.engine.submission import action_pairs, submission, write_submission

    pairs = action_pairs(manifest)
    unnamed = [clip.path for clip in predictions.clips if clip.name is None]
    if unnamed:
        raise DataError(f"no submission can be made of '{manifest.name}'", reason=f"{unnamed[0]} has no narration id (`name`)")
    names, (pretraining, labels, data) = [str(clip.name) for clip in predictions.clips], levels
    scores = (predictions.targets["verb"], predictions.targets["noun"], predictions.probabilities)
    try:
        content = submission(names, *scores, pairs, pretraining=pretraining, training_labels=labels, training_data=data)
    except ValueError as error:
        raise DataError(f"no submission can be made of '{manifest.name}'", reason=error) from error
    write_submission(path, content)
    sys.stdout.write(f"written: {path}\n")
