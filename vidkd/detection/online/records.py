"""Records for the training of a selector: the student on a stream, and its disagreement with the oracle on every frame."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.detection.online.lesson import agreement_of
from vidkd.detection.online.oracle import Answer
from vidkd.detection.online.synchronous import SynchronousLearner
from vidkd.detection.policies.records import AGAIN, SelectorRecord, read_record, write_record
from vidkd.models.selector import SIGNALS

log = logging.getLogger(__name__)


def record_stream(learner: SynchronousLearner, frames: Iterable[NDArray[np.uint8]]) -> SelectorRecord:
    """Let the learner run along frames (H, W, 3), asking its oracle on every one, and keep what a selector would have seen.

    The learner learns from the key frames of its own policy alone, so a record holds a student as it will be; with `Update(steps=0)` one
    that stays as it is. A policy that calls at random shows the selector every number of frames since a call. Raises DataError where there
    is no frame, or the oracle throws: a record without its answer would be none.
    """
    rows: list[tuple[NDArray[np.float32], tuple[float, ...], bool]] = []
    for frame in frames:
        answer = _asked(learner, frame)
        step = learner.step(frame, answer=answer)
        seen = step.observation
        signals = tuple(float(getattr(seen, name)) for name in SIGNALS)
        counts = agreement_of(step.look, answer, score=learner.pupil.score)
        errors = float(counts.false_positives.sum() + counts.false_negatives.sum())
        rows.append((seen.features, (*signals, 1 - counts.f1, errors), step.record.called))
    if not rows:
        raise DataError("a stream without frames leaves no record")
    features, signals_of, called = zip(*rows, strict=True)
    table = np.asarray(signals_of, np.float32)
    return SelectorRecord(
        features=np.stack(features),
        **{name: table[:, place] for place, name in enumerate(SIGNALS)},
        disagreement=table[:, -2],
        errors=table[:, -1],
        called=np.asarray(called, bool),
    )


def _asked(learner: SynchronousLearner, frame: NDArray[np.uint8]) -> Answer:
    try:
        return learner.oracle(frame)
    except Exception as error:  # whatever library runs the oracle
        raise DataError(
            f"the oracle failed at frame {learner.position} of the stream", reason=f"{type(error).__name__}: {error}", hint=AGAIN
        ) from error


def cached_record(folder: Path | str, made_from: Mapping[str, str], make: Callable[[], SelectorRecord]) -> SelectorRecord:
    """The record of `folder` that was made from just this, else a new one, which is kept there as .npz.

    made_from: all that the record depends on by name, such as hashes of the student's weights, the oracle and the video, and the settings.
    A file that is damaged is made anew, and logged.
    """
    digest = hashlib.sha256(json.dumps(dict(made_from), sort_keys=True).encode()).hexdigest()
    path = Path(folder) / f"{digest[:24]}.npz"
    if path.exists():
        try:
            record, known = read_record(path)
            if known == dict(made_from):
                return record
        except DataError as error:
            log.warning("made anew: %s", error)
    record = make()
    write_record(path, record, made_from)
    return record
