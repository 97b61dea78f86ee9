"""Say along a long video, an image sequence or a camera what comes next; JSON lines, and an overlay video."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vidkd.cli.classifiers import add_runtime_argument, add_threads_argument
from vidkd.cli.number_flags import add_count, add_number
from vidkd.cli.outputs import Said, add_overwrite_argument, check_outputs, check_video_ending

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidkd.cli.classifiers import OpenedClassifier
    from vidkd.inference.anticipate import Decision, Moment, Tally
    from vidkd.inference.observation_window import ObservationWindow
    from vidkd.report.anticipation_overlay import OverlayWriter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "video", metavar="VIDEO", help="a video file, a folder of images, a glob in quotes, a camera's number, or rtsp://..."
    )
    parser.add_argument(
        "--checkpoint", required=True, metavar="F", help="a checkpoint, the folder of a run, or an exported .onnx or .xml file"
    )
    add_number(parser, "--step-s", above=0, default=0.5, metavar="S", help="seconds from one decision to the next (default: 0.5)")
    add_number(
        parser, "--window-s", above=0, metavar="S", help="seconds seen, where training does not say (default: 2; anticipation from all: 10)"
    )
    add_number(parser, "--seconds", above=0, metavar="S", help="stop after so many seconds of the video")
    add_count(parser, "--batch", default=8, metavar="N", help="decisions computed together from a file (default: 8)")
    add_count(parser, "--top", default=3, metavar="K", help="classes named in each decision (default: 3)")
    parser.add_argument("--all", action="store_true", help="write the probabilities of all classes too")
    parser.add_argument("--out", metavar="OUT.jsonl", help="write the JSON lines there (default: standard output)")
    parser.add_argument("--overlay", metavar="OUT.mp4", help="write the video with what is expected drawn below it")
    add_overwrite_argument(parser, "--out", "--overlay")
    add_number(parser, "--fps", above=0, metavar="N", help="frames a second of an image sequence (default: 25)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    add_threads_argument(parser)
    add_runtime_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Anticipate until the source ends, breaks off, or the user stops it; then say how fast."""
    from vidkd.cli.classifiers import open_classifier
    from vidkd.engine.interrupts import Interrupt
    from vidkd.inference.anticipate import Anticipator
    from vidkd.inference.observation_window import observation_window
    from vidkd.inference.sources import is_live, open_source
    from vidkd.video import open_video

    _check(arguments)
    if not is_live(arguments.video):  # before the model is loaded; what is found of a file is remembered
        open_video(arguments.video, backend="pyav", sequence_fps=arguments.fps).close()
    opened = open_classifier(arguments.checkpoint, device=arguments.device, threads=arguments.threads, runtime=arguments.runtime)
    observation = observation_window(opened.data, opened.classifier.view, window_s=arguments.window_s)
    anticipator = Anticipator(
        opened.classifier,
        observation,
        step_s=arguments.step_s,
        batch=arguments.batch,
        keep_frames=arguments.overlay is not None,
    )
    interrupt = Interrupt()
    with (
        open_source(arguments.video, decoder=opened.data.decoder, sequence_fps=arguments.fps, stop_s=arguments.seconds) as source,
        _written(arguments, opened, observation, source.fps) as written,
        interrupt.caught(),
        contextlib.closing(anticipator.along(source)) as moments,
    ):
        say = written.said.line if arguments.out else _to_standard_error
        say(in_words(observation))
        for moment in moments:
            written.take(moment)
            if interrupt.asked:
                break
    say(summary(anticipator.tally, written.draw_s))
    _end_of(anticipator.tally, observation, arguments.video, stopped=interrupt.asked)
    return 0


def _to_standard_error(text: str) -> None:
    sys.stderr.write(text + "\n")


class _Written:
    """What is written of every moment: JSON lines, a line of text beside a file of them, and a frame of the overlay.

    lines: the file of them; without one they go to standard output. said: standard output.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        opened: "OpenedClassifier",
        protocol: str,
        lines: TextIO | None,
        overlay: "OverlayWriter | None",
    ) -> None:
        self._arguments, self._opened, self._protocol, self._lines, self._overlay = arguments, opened, protocol, lines, overlay
        self.said = Said([name for name in (arguments.out, arguments.overlay) if name])

    @property
    def draw_s(self) -> float:
        """Seconds spent on the overlay."""
        return self._overlay.seconds if self._overlay else 0.0

    def take(self, moment: "Moment") -> None:
        """Write a moment; every line is in the file at once, whatever happens later."""
        for decision in moment.decisions:
            row = decision_row(decision, self._opened, protocol=self._protocol, top=self._arguments.top, complete=self._arguments.all)
            line = json.dumps(row, ensure_ascii=False)
            if self._lines is not None:
                self._lines.write(line + "\n")
                self._lines.flush()
            self.said.line(line if self._lines is None else _as_text(row))
        if self._overlay is not None and moment.frame is not None:
            self._overlay.write(moment.frame, moment.decisions)


@contextlib.contextmanager
def _written(arguments: argparse.Namespace, opened: "OpenedClassifier", observation: "ObservationWindow", fps: float) -> Iterator[_Written]:
    """The files that were asked for, opened when the video is and complete on leaving."""
    from vidkd.report.anticipation_overlay import OverlayWriter

    with contextlib.ExitStack() as stack:
        lines = None
        if arguments.out:
            lines = stack.enter_context(_new_file(Path(arguments.out)))
        overlay = None
        if arguments.overlay:
            overlay = OverlayWriter(Path(arguments.overlay), opened.classes, fps=fps, step_s=arguments.step_s, top=arguments.top)
            stack.enter_context(overlay)
        yield _Written(arguments, opened, observation.protocol, lines, overlay)


def _new_file(path: Path) -> TextIO:
    from vidkd.base.errors import ConfigError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write --out {path}", reason=error.strerror) from error


def _end_of(tally: "Tally", observation: "ObservationWindow", video: str, *, stopped: bool) -> None:
    """Raise VideoError where the source broke off, with what was done until then, and DataError where no window fitted."""
    from vidkd.base.errors import VideoError
    from vidkd.inference.anticipate import too_short

    if tally.trouble is not None:
        done = f"{tally.windows} decisions on {tally.frames} frames, up to {tally.last_s:.2f} s; they stay as written"
        lines: dict[str, object] = {**tally.trouble.lines, "until_then": done}
        raise VideoError(tally.trouble.what, **lines)
    if tally.windows == 0 and not stopped:
        raise too_short(video, observation, tally)


def _check(arguments: argparse.Namespace) -> None:
    outputs = {"--out": arguments.out, "--overlay": arguments.overlay}
    check_outputs(outputs, source=arguments.video, overwrite=arguments.overwrite)
    check_video_ending("--overlay", arguments.overlay)


def in_words(observation: "ObservationWindow") -> str:
    """What the network was trained for, and what it is shown here."""
    from vidkd.inference.observation_window import TRAINED_FOR

    seen = f"{observation.seconds:g} s" + (" (--window-s; no setting of its training)" if observation.assumed else "")
    trained = f"trained for {TRAINED_FOR[observation.protocol]}"
    if observation.protocol == "anticipation":
        return f"{trained}: sees {seen}, and names what begins {observation.gap_s:g} s later"
    return f"{trained}, not for anticipation: sees the last {seen} as one clip, and names what goes on in it"


def decision_row(decision: "Decision", opened: "OpenedClassifier", *, protocol: str, top: int, complete: bool) -> dict[str, Any]:
    """One JSON line; times in seconds of the video, `frames` the first and the last that were seen, probabilities to four digits.

    top: so many classes are named. complete: all probabilities too, to six digits.
    """
    row: dict[str, Any] = {
        "time_s": round(decision.time_s, 3),
        "gap_s": round(decision.gap_s, 3),
        "about_s": round(decision.about_s, 3),
        "protocol": protocol,
        "frames": [decision.first, decision.last],
        "held": decision.held,
        "top": _best(decision.probabilities, opened.classes, top),
    }
    if opened.targets:
        row["targets"] = {name: _best(decision.targets[name], names, top) for name, names in opened.targets.items()}
    if complete:
        row["probabilities"] = _by_class(decision.probabilities, opened.classes)
        if opened.targets:
            row["target_probabilities"] = {name: _by_class(decision.targets[name], names) for name, names in opened.targets.items()}
    return row


def _best(probabilities: "NDArray[Any]", classes: Sequence[str], top: int) -> list[list[Any]]:
    return [[classes[k], round(float(probabilities[k]), 4)] for k in (-probabilities).argsort(kind="stable")[:top]]


def _by_class(probabilities: "NDArray[Any]", classes: Sequence[str]) -> dict[str, float]:
    return {name: round(float(p), 6) for name, p in zip(classes, probabilities, strict=True)}


def _as_text(row: dict[str, Any]) -> str:
    when = f"in {row['gap_s']:g} s" if row["gap_s"] else "now"
    return f"{row['time_s']:8.2f} s   {when}   " + "   ".join(f"{name} {p:.2f}" for name, p in row["top"])


def summary(tally: "Tally", draw_s: float) -> str:
    """Frames, decisions, speed, and which share of the time each kind of work took; shares overlap, as work goes on side by side."""
    total_s = max(tally.total_s, 1e-9)
    parts = {"decoding": tally.decode_s, "preparing": tally.prepare_s, "model": tally.model_s, "drawing": draw_s}
    shares = ", ".join(f"{name} {100 * seconds / total_s:.0f} %" for name, seconds in parts.items())
    skipped = f"; {tally.skipped} times were skipped, with too few frames for a window" if tally.skipped else ""
    return (
        f"{tally.frames} frames, {tally.windows} decisions in {total_s:.1f} s: {tally.frames / total_s:.1f} frames a second{skipped}\n"
        f"of that time, side by side: {shares}"
    )
