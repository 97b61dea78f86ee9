"""Train the LSTM that chooses key frames, on videos along which a student learns while the oracle sees every frame.

What each video shows is recorded once and kept: interrupted, the same command goes on with the videos that are left.
docs/guides/streams.md tells the rest.

  vidkd train_selector train/*.mp4 --validate other/*.mp4 --student tiny.cfg --weights tiny.weights --names coco.names
    --oracle yolox_nano.onnx --out selector.pt
"""

import argparse
import itertools
import json
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.random_streams import derived_seed, random_stream
from vidkd.cli.learning import (
    add_learning_arguments,
    add_settings_flag,
    budget_of,
    open_oracle,
    open_student,
    oracle_files,
    recorded,
    student_files,
)
from vidkd.cli.number_flags import add_count, add_number, add_share

if TYPE_CHECKING:
    from vidkd.detection.online import Oracle, Student
    from vidkd.detection.online.config import SelectorRunConfig
    from vidkd.detection.online.records import SelectorRecord
    from vidkd.detection.policies.train import TrainedSelector

log = logging.getLogger(__name__)

TAKES_SETTINGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("inputs", nargs="+", metavar="VIDEO", help="videos to learn from: files, folders, globs in quotes, image sequences")
    parser.add_argument("--validate", nargs="+", required=True, metavar="VIDEO", help="other videos, by which training is judged and ended")
    add_learning_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="F", help="the selector's file, for `vidkd tkd --policy F`")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where records are kept (default: records/ beside the selector)")
    parser.add_argument("--joined", action="store_true", help="the videos of each side are one stream, in the order named")
    add_count(
        parser,
        "--records",
        default=1,
        metavar="N",
        help="records of each stream to learn from, each with other calls; of joined videos in another order (default: 1)",
    )
    add_count(parser, "--every", default=1, metavar="N", help="look at every N-th frame only (default: 1)")
    add_number(parser, "--seconds", above=0, metavar="S", help="stop after so many seconds of each video")
    add_number(parser, "--fps", above=0, metavar="N", help="frames a second of an image sequence (default: 25)")
    add_share(parser, "--score", metavar="P", help="least score of the student's boxes (default: the model's)")
    add_share(parser, "--nms", metavar="IOU", help="overlap above which the weaker of two of its boxes falls")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    add_count(parser, "--threads", default=0, metavar="N", help="threads of the models on a processor (default: their choice)")
    parser.add_argument("--overwrite", action="store_true", help="replace the selector's file if it is there")
    add_settings_flag(parser, _settings)


def _settings() -> "type[SelectorRunConfig]":
    from vidkd.detection.online.config import SelectorRunConfig

    return SelectorRunConfig


def run(arguments: argparse.Namespace) -> int:
    """Record all videos, train, write the selector."""
    from vidkd.base.cores import check_threads
    from vidkd.detection.online.config import load_learning_config
    from vidkd.detection.policies import save_selector
    from vidkd.detection.policies.train import about, train_selector

    check_threads(arguments.threads, where="--threads")
    log.info("opening %s and %s", arguments.student, arguments.oracle)
    config = load_learning_config(_settings(), arguments.settings, seed=arguments.seed)
    training, judging = _videos(arguments)
    recorder = Recorder(arguments, config)
    learned = [
        recorder.record(_in_order(stream, arguments.seed, number), number)
        for stream in _streams(training, arguments)
        for number in range(arguments.records)
    ]
    judged = [recorder.record(stream) for stream in _streams(judging, arguments)]
    trained = train_selector(learned, judged, config.selector)
    made_of = {"train": [Path(video).name for video in training], "validate": [Path(video).name for video in judging]}
    whence = recorder.provenance(training, judging)
    save_selector(arguments.out, trained.selector, {**about(trained, config.selector), **made_of, **whence, "made_from": recorder.settings})
    sys.stdout.write(report(trained, sum(map(len, learned)), sum(map(len, judged))) + f"\nwritten: {arguments.out}\n")
    return 0


def _streams(videos: Sequence[str], arguments: argparse.Namespace) -> list[list[str]]:
    """The streams that a student learns along: a video each, or all of them one after another."""
    return [list(videos)] if arguments.joined else [[video] for video in videos]


def _in_order(videos: list[str], seed: int, number: int) -> list[str]:
    """The videos of a stream as they are named for its first record, in an order that is drawn for every further one."""
    if number == 0:
        return videos
    return [videos[place] for place in random_stream(seed, "order of videos", number).permutation(len(videos)).tolist()]


def _videos(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The videos of both sides. Raises ConfigError where they share one, name a camera, or the selector's file cannot be written."""
    from vidkd.base.errors import ConfigError
    from vidkd.detection.stream.inputs import find_inputs
    from vidkd.inference.sources import is_live
    from vidkd.video.files import content_of

    if arguments.out.exists() and not arguments.overwrite:
        raise ConfigError(f"the output exists: {arguments.out}", hint="another --out, or --overwrite to replace it")
    training, judging = (find_inputs(names, leave_out=_cache(arguments)) for names in (arguments.inputs, arguments.validate))
    if live := [name for name in (*training, *judging) if is_live(name)]:
        raise ConfigError(f"a live source cannot be recorded twice: {live[0]}", hint="name videos")
    learned = {content_of(name): name for name in training}
    for name in judging:
        if (same := learned.get(content_of(name))) is not None:
            raise ConfigError(f"a video to learn from is one to be judged by too: {same}, {name}", hint="--validate other videos")
    _make_folder_of(arguments.out)
    return training, judging


def _make_folder_of(out: Path) -> None:
    """Make the folder of the selector's file before the hours that it takes. Raises ConfigError if it cannot be."""
    from vidkd.base.errors import ConfigError

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write selector: {out}", reason=error.strerror or error, hint="another --out") from error


def _cache(arguments: argparse.Namespace) -> Path:
    given: Path | None = arguments.cache
    return given or arguments.out.parent / "records"


class Recorder:
    """Makes the record of a stream, or finds it. A copy of the student learns along each, from calls at random under the budget."""

    def __init__(self, arguments: argparse.Namespace, config: "SelectorRunConfig") -> None:
        from vidkd.base.settings import as_dict

        light, heavy = student_files(arguments), oracle_files(arguments)
        self._arguments, self._config = arguments, config
        budget_of(arguments)
        self._student: Student = open_student(light)
        self._oracle: Oracle = open_oracle(heavy, self._student, config.update)
        learning = {name: value for name, value in as_dict(config).items() if name in ("update", "replay")}
        seen = {name: getattr(arguments, name) for name in ("every", "seconds", "fps")}
        self.settings: dict[str, Any] = {**recorded(light, heavy, arguments), **seen, **learning}

    def provenance(self, training: Sequence[str], judging: Sequence[str]) -> dict[str, Any]:
        """What the selector's file says of videos and student, by their content."""
        from vidkd.detection.policies.lstm import provenance
        from vidkd.video.files import content_of

        detector = self._student.detector
        return provenance([*map(content_of, training)], [*map(content_of, judging)], detector.net, detector.resize)

    def record(self, videos: Sequence[str], number: int = 0) -> "SelectorRecord":
        """The record of a stream of videos, one after another. number: which of the records of these videos; each has calls of its own.

        Raises VideoError where one cannot be read to its end, DataError where the oracle throws.
        """
        from vidkd.detection.online import cached_record
        from vidkd.video.files import content_of

        made_from = {"video": " ".join(content_of(video) for video in videos), "settings": json.dumps(self.settings, sort_keys=True)}
        made_from |= {"record": str(number)} if number else {}
        return cached_record(_cache(self._arguments), made_from, lambda: self._make(videos, number))

    def _make(self, videos: Sequence[str], number: int) -> "SelectorRecord":
        from vidkd.detection.online import SynchronousLearner, record_stream
        from vidkd.detection.policies import open_policy

        log.info("recording %s", ", ".join(videos))
        policy = open_policy("random", seed=derived_seed(self._arguments.seed, "calls", number))
        learner = SynchronousLearner(
            self._student.copy().for_update(self._config.update, seed=self._arguments.seed),
            self._oracle,
            policy,
            budget_of(self._arguments),
            update=self._config.update,
            replay=self._config.replay,
        )
        return record_stream(learner, itertools.chain.from_iterable(map(self._frames, videos)))

    def _frames(self, video: str) -> "Iterator[NDArray[np.uint8]]":
        from vidkd.base.progress import Progress
        from vidkd.detection.stream import StreamConfig
        from vidkd.detection.stream.run import wanted
        from vidkd.inference.sources import open_source

        arguments = self._arguments
        stream = StreamConfig(every=arguments.every, seconds=arguments.seconds, sequence_fps=arguments.fps)
        with open_source(video, sequence_fps=arguments.fps, stop_s=arguments.seconds) as source:
            total = None if source.count is None else -(-source.count // arguments.every)
            with Progress(total, Path(video).name, every_steps=1 << 60, every_s=15.0) as progress:
                for frame in wanted(source, stream):
                    yield frame.image
                    progress.step()


def report(trained: "TrainedSelector", frames: int, judged: int) -> str:
    """What the verb prints of a selector."""
    loss = trained.validation[trained.best_epoch - 1]
    first = f"trained on {frames} frames, judged on {judged}: best epoch {trained.best_epoch} of {len(trained.validation)}"
    order = f"with the truth {trained.rank_correlation:.3f}"
    if math.isnan(trained.rank_correlation):
        order = "unknown: what it predicts, or the truth, never varies"
    told = f"{first}\nvalidation loss {loss:.4f}, rank correlation {order}"
    if math.isnan(trained.rank_correlation) or trained.rank_correlation > 0:
        return told
    return f"{told}\nit chooses no better than chance on the other videos: give more videos (--joined, --records), or use --policy fixed"
