"""What `vidkd train_selector` does: records of students that learn along videos, and the training on them."""

import itertools
import json
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.cores import check_threads
from vidkd.base.errors import ConfigError
from vidkd.base.progress import Progress
from vidkd.base.random_streams import derived_seed, random_stream
from vidkd.base.settings import as_dict
from vidkd.cli.learning import budget_of, open_both, oracle_files, recorded, student_files
from vidkd.cli.train_selector import Settings
from vidkd.detection.online import SynchronousLearner
from vidkd.detection.online.update import load_learning_config
from vidkd.detection.policies import open_policy, save_selector
from vidkd.detection.policies.lstm import provenance
from vidkd.detection.policies.train import (
    SelectorRecord,
    SelectorRunConfig,
    TrainedSelector,
    about,
    cached_record,
    record_stream,
    train_selector,
)
from vidkd.detection.stream import StreamConfig
from vidkd.detection.stream.inputs import find_inputs
from vidkd.detection.stream.run import frames_wanted, wanted
from vidkd.inference.sources import is_live, open_source
from vidkd.video.files import content_of

log = logging.getLogger(__name__)


def train(given: Settings) -> int:
    """Record all videos, train, write the selector."""
    check_threads(given.threads, where="--threads")
    log.info("opening %s and %s", given.model, given.oracle)
    config = load_learning_config(SelectorRunConfig, given.settings, seed=given.seed)
    training, judging = _videos(given)
    recorder = Recorder(given, config)
    learned = [
        recorder.record(_in_order(stream, given.seed, number), number)
        for stream in _streams(training, given)
        for number in range(given.records)
    ]
    judged = [recorder.record(stream) for stream in _streams(judging, given)]
    trained = train_selector(learned, judged, config.selector)
    names = {"train": [Path(video).name for video in training], "validate": [Path(video).name for video in judging]}
    detector = recorder.student.detector
    seen = provenance([*map(content_of, training)], [*map(content_of, judging)], detector.net, detector.resize)
    save_selector(given.out, trained.selector, {**about(trained, config.selector), **names, **seen, "made_from": recorder.settings})
    sys.stdout.write(report(trained, sum(map(len, learned)), sum(map(len, judged))) + f"\nwritten: {given.out}\n")
    return 0


def _streams(videos: Sequence[str], given: Settings) -> list[list[str]]:
    """The streams that a student learns along: a video each, or all of them one after another."""
    return [list(videos)] if given.joined else [[video] for video in videos]


def _in_order(videos: list[str], seed: int, number: int) -> list[str]:
    """The videos of a stream as they are named for its first record, in an order that is drawn for every further one."""
    if number == 0:
        return videos
    return [videos[place] for place in random_stream(seed, "order of videos", number).permutation(len(videos)).tolist()]


def _videos(given: Settings) -> tuple[list[str], list[str]]:
    """The videos of both sides. Raises ConfigError where they share one, name a camera, or the selector's file cannot be written."""
    if given.out.exists() and not given.overwrite:
        raise ConfigError(f"the output exists: {given.out}", hint="another --out, or --overwrite to replace it")
    training, judging = (find_inputs(names, leave_out=given.records_in) for names in (given.inputs, given.validate))
    if live := [name for name in (*training, *judging) if is_live(name)]:
        raise ConfigError(f"a live source cannot be recorded twice: {live[0]}", hint="name videos")
    learned = {content_of(name): name for name in training}
    for name in judging:
        if (same := learned.get(content_of(name))) is not None:
            raise ConfigError(f"a video to learn from is one to be judged by too: {same}, {name}", hint="--validate other videos")
    try:  # before the hours that it takes
        given.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write selector: {given.out}", reason=error.strerror or error, hint="another --out") from error
    return training, judging


class Recorder:
    """Makes the record of a stream, or finds it. A copy of the student learns along each, from calls at random under the budget."""

    def __init__(self, given: Settings, config: SelectorRunConfig) -> None:
        light, heavy = student_files(given), oracle_files(given)
        self._given, self._config = given, config
        self.student, self._oracle = open_both(light, heavy, config.update)
        learning = {name: value for name, value in as_dict(config).items() if name in ("update", "replay")}
        seen = {name: getattr(given, name) for name in ("every", "seconds", "fps")}
        self.settings: dict[str, Any] = {**recorded(light, heavy, given), **seen, **learning}

    def record(self, videos: Sequence[str], number: int = 0) -> SelectorRecord:
        """The record of a stream of videos, one after another. number: which of the records of these videos; each has calls of its own.

        Raises VideoError where one cannot be read to its end, DataError where the oracle throws.
        """
        made_from = {"video": " ".join(content_of(video) for video in videos), "settings": json.dumps(self.settings, sort_keys=True)}
        made_from |= {"record": str(number)} if number else {}
        return cached_record(self._given.records_in, made_from, lambda: self._make(videos, number))

    def _make(self, videos: Sequence[str], number: int) -> SelectorRecord:
        log.info("recording %s", ", ".join(videos))
        seed, update = self._given.seed, self._config.update
        student, policy = self.student.copy().for_update(update, seed=seed), open_policy("random", seed=derived_seed(seed, "calls", number))
        learner = SynchronousLearner(student, self._oracle, policy, budget_of(self._given), update=update, replay=self._config.replay)
        return record_stream(learner, itertools.chain.from_iterable(map(self._frames, videos)))

    def _frames(self, video: str) -> Iterator[NDArray[np.uint8]]:
        stream = StreamConfig(every=self._given.every, seconds=self._given.seconds)
        with (
            open_source(video, sequence_fps=self._given.fps, stop_s=self._given.seconds) as source,
            Progress(frames_wanted(source, stream), Path(video).name, every_steps=1 << 60, every_s=15.0) as progress,
        ):
            for frame in wanted(source, stream):
                yield frame.image
                progress.step()


def report(trained: TrainedSelector, frames: int, judged: int) -> str:
    """What the verb prints of a selector."""
    loss, correlation = trained.validation[trained.best_epoch - 1], trained.rank_correlation
    order = "unknown: what it predicts, or the truth, never varies" if math.isnan(correlation) else f"with the truth {correlation:.3f}"
    first = f"trained on {frames} frames, judged on {judged}: best epoch {trained.best_epoch} of {len(trained.validation)}"
    said = f"{first}\nvalidation loss {loss:.4f}, rank correlation {order}"
    if correlation <= 0:
        said += "\nit chooses no better than chance on the other videos: give more videos (--joined, --records), or use --policy fixed"
    return said
