"""What the action anticipation challenge of EPIC-KITCHENS-100 takes: a JSON file with scores of all verbs, all nouns and 100 actions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write
from vidkd.data.manifest import Manifest

VERSION = "0.2"
CHALLENGE = "action_anticipation"
ACTIONS = 100
LEVELS = range(6)
DIGITS = 7  # of a score; a float has no more, and there are six million of them
Floats = NDArray[np.floating[Any]]


def action_pairs(manifest: Manifest) -> list[tuple[int, int]]:
    """(verb, noun) of every class of a manifest with the targets "verb" and "noun", whose classes are named "<verb> <noun>".

    Raises DataError if the targets are not there or a class is no such pair.
    """
    if not {"verb", "noun"} <= set(manifest.targets):
        raise DataError(f"data set '{manifest.name}' has no verbs and nouns", to_mend="prepare it with layout epic100")
    verbs, nouns = manifest.targets["verb"], manifest.targets["noun"]
    known = {f"{verb} {noun}": (v, n) for v, verb in enumerate(verbs) for n, noun in enumerate(nouns)}
    strangers = [name for name in manifest.classes if name not in known]
    if strangers:
        raise DataError(f"class '{strangers[0]}' of data set '{manifest.name}' is no pair of a verb and a noun")
    return [known[name] for name in manifest.classes]


def submission(
    names: Sequence[str],
    verb_scores: Floats,
    noun_scores: Floats,
    action_scores: Floats,
    pairs: Sequence[tuple[int, int]],
    *,
    pretraining: int,
    training_labels: int,
    training_data: int,
    actions: int = ACTIONS,
) -> dict[str, Any]:
    """The content of a submission.

    names: N narration ids, each once. verb_scores (N, V), noun_scores (N, U), action_scores (N, K): higher is likelier, all finite.
    pairs: (verb, noun) of the K actions. actions: how many of the highest-scoring ones are written, of which the challenge takes exactly
    100; equal scores in the order of the classes.
    pretraining, training_labels, training_data: the declared supervision, 0 to 5 each: (2, 3, 3) is pretraining on public images and
    videos, start and end times with verb and noun classes, the training list; (…, …, 4) is training and validation list.
    Raises ValueError for values that do not fit together or that the challenge refuses.
    Source: evaluation code of the challenge (epic-kitchens/C3-Action-Anticipation) and its Supervision Levels Scale (arXiv 2008.09890).
    """
    levels = {"sls_pt": pretraining, "sls_tl": training_labels, "sls_td": training_data}
    for name, level in levels.items():
        if level not in LEVELS:
            raise ValueError(f"{name} must be one of 0 to 5, not {level}")
    _check(names, {"verb": verb_scores, "noun": noun_scores, "action": action_scores}, pairs, actions)
    best = np.argsort(-action_scores, axis=1, kind="stable")[:, :actions]
    results = {
        name: {
            "verb": {str(verb): _number(score) for verb, score in enumerate(verb_scores[row])},
            "noun": {str(noun): _number(score) for noun, score in enumerate(noun_scores[row])},
            "action": {f"{pairs[action][0]},{pairs[action][1]}": _number(action_scores[row, action]) for action in best[row]},
        }
        for row, name in enumerate(names)
    }
    return {"version": VERSION, "challenge": CHALLENGE, **levels, "results": results}


def _check(names: Sequence[str], scores: dict[str, Floats], pairs: Sequence[tuple[int, int]], actions: int) -> None:
    if len(set(names)) < len(names):
        raise ValueError("a narration id stands twice")
    for kind, values in scores.items():
        if values.ndim != 2 or len(values) != len(names):
            raise ValueError(f"{kind} scores of {len(names)} clips must have shape ({len(names)}, classes), not {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{kind} scores must be finite")
    verbs, nouns, known = (scores[kind].shape[1] for kind in ("verb", "noun", "action"))
    if len(pairs) != known or len(set(pairs)) < known:
        raise ValueError(f"{known} actions need as many different pairs, not {len(set(pairs))}")
    if any(not (0 <= verb < verbs and 0 <= noun < nouns) for verb, noun in pairs):
        raise ValueError(f"a pair lies outside the {verbs} verbs and {nouns} nouns")
    if known < actions:
        raise ValueError(f"the model knows {known} actions, {actions} must be written")


def _number(score: float) -> float:
    return float(f"{score:.{DIGITS}g}")


def write_submission(path: Path | str, content: dict[str, Any]) -> None:
    """Write a submission atomically, without blanks. The challenge takes it inside a zip archive."""
    with atomic_write(path) as file:
        json.dump(content, file, allow_nan=False, separators=(",", ":"))
