"""What the action anticipation challenge of EPIC-KITCHENS-100 takes: a JSON file with scores of all verbs, all nouns and 100 actions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write
from vidkd.data.manifest import Clip, Manifest
from vidkd.engine.evaluate import Predictions
from vidkd.engine.metrics import MAIN_HEAD, label_frequencies

VERSION = "0.2"
CHALLENGE = "action_anticipation"
ACTIONS = 100
LEVELS = range(6)
DIGITS = 7  # of a score; a float has no more, and there are six million of them
HEADS = ("verb", "noun", MAIN_HEAD)
Floats = NDArray[np.floating[Any]]


class Levels(NamedTuple):
    """The declared supervision, 0 to 5 each: (2, 3, 3) is pretraining on public images and videos, start and end times with verb and noun
    classes, the training list; (..., ..., 4) is training and validation list.

    Source: the challenge's Supervision Levels Scale (arXiv 2008.09890).
    """

    pretraining: int
    training_labels: int
    training_data: int


def submission_of(
    predictions: Predictions, manifest: Manifest, levels: Levels, *, unobservable: Sequence[Clip] = (), trained_split: str
) -> tuple[dict[str, Any], list[str]]:
    """The content of a submission, and in words what is to be known of it.

    unobservable: clips of which nothing could be observed. The challenge asks for every id, so these get a prior, the same for all.
    trained_split: the split that the model was trained on, whose training labels the prior counts.
    Raises DataError for a data set without verbs and nouns, or clips that the challenge does not know.
    """
    pairs, clips = action_pairs(manifest), [*predictions.clips, *unobservable]
    if unnamed := [clip.path for clip in clips if clip.name is None]:
        raise DataError(f"no submission can be made of '{manifest.name}'", reason=f"{unnamed[0]} has no narration id (`name`)")
    found = {**predictions.targets, MAIN_HEAD: predictions.probabilities}
    prior, words = label_prior(manifest, trained_split, {head: found[head].shape[1] for head in HEADS})
    verbs, nouns, actions = (np.concatenate([found[head], np.tile(prior[head], (len(unobservable), 1))]) for head in HEADS)
    content = submission([str(clip.name) for clip in clips], verbs, nouns, actions, pairs, levels)
    remark = f"{len(unobservable)} of {len(clips)} actions of the submission, of which nothing can be observed, have {words}"
    return content, [remark] if unobservable else []


def label_prior(manifest: Manifest, split: str, sizes: Mapping[str, int]) -> tuple[dict[str, NDArray[np.float64]], str]:
    """Scores of a clip that could not be observed, by head, and these in words.

    The frequencies of the labels among the training clips of a split, which is the one that the model was trained on: those of another
    may hold labels that it must not know. Uniform for all heads where the manifest has no labels of one for that split.
    """
    clips = manifest.select(split, "train") if split in manifest.splits else []
    found = {head: label_frequencies(clips, size, head) for head, size in sizes.items()}
    known = {head: shares for head, shares in found.items() if shares is not None}
    if len(known) == len(found):
        return known, f"the frequencies of the labels among the {len(clips)} training clips of split '{split}'"
    uniform = {head: np.full(size, 1 / size) for head, size in sizes.items()}
    return uniform, f"the same score for all classes: the manifest has no training labels of split '{split}'"


def action_pairs(manifest: Manifest) -> list[tuple[int, int]]:
    """(verb, noun) of every class of a manifest with the targets "verb" and "noun", whose classes are named "<verb> <noun>".

    Raises DataError if the targets are not there or a class is no such pair.
    """
    verbs, nouns = (manifest.targets.get(head, ()) for head in ("verb", "noun"))
    known = {f"{verb} {noun}": (v, n) for v, verb in enumerate(verbs) for n, noun in enumerate(nouns)}
    if strangers := [name for name in manifest.classes if name not in known]:
        reason = f"class '{strangers[0]}' is no pair of a verb and a noun" if known else "it has no verbs and nouns"
        raise DataError(f"no submission can be made of '{manifest.name}'", reason=reason, hint="prepare it with layout epic100")
    return [known[name] for name in manifest.classes]


def submission(
    names: Sequence[str], verb_scores: Floats, noun_scores: Floats, action_scores: Floats, pairs: Sequence[tuple[int, int]], levels: Levels
) -> dict[str, Any]:
    """The content of a submission.

    names: N narration ids, each once. verb_scores (N, V), noun_scores (N, U), action_scores (N, K): higher is likelier, all finite.
    pairs: (verb, noun) of the K actions, of which the 100 highest-scoring ones are written; equal scores in the order of the classes.
    levels: the declared supervision. Raises DataError for what the challenge refuses: an id twice, scores that are not finite, or fewer
    than 100 actions. Source: evaluation code of the challenge (epic-kitchens/C3-Action-Anticipation).
    """
    wrong = {
        "a narration id is there twice": len(set(names)) < len(names),
        "scores must be finite": not all(np.isfinite(scores).all() for scores in (verb_scores, noun_scores, action_scores)),
        f"the model knows {len(pairs)} actions, {ACTIONS} must be written": len(pairs) < ACTIONS,
    }
    for reason in (reason for reason, is_so in wrong.items() if is_so):
        raise DataError("no submission can be made", reason=reason)
    best = np.argsort(-action_scores, axis=1, kind="stable")[:, :ACTIONS]
    results = {
        name: {
            "verb": {str(verb): _number(score) for verb, score in enumerate(verb_scores[row])},
            "noun": {str(noun): _number(score) for noun, score in enumerate(noun_scores[row])},
            "action": {f"{pairs[action][0]},{pairs[action][1]}": _number(action_scores[row, action]) for action in best[row]},
        }
        for row, name in enumerate(names)
    }
    declared = {"sls_pt": levels.pretraining, "sls_tl": levels.training_labels, "sls_td": levels.training_data}
    return {"version": VERSION, "challenge": CHALLENGE, **declared, "results": results}


def _number(score: float) -> float:
    return float(f"{score:.{DIGITS}g}")


def write_submission(path: Path | str, content: dict[str, Any]) -> None:
    """Write a submission atomically, without blanks. The challenge takes it inside a zip archive."""
    with atomic_write(path) as file:
        json.dump(content, file, allow_nan=False, separators=(",", ":"))
