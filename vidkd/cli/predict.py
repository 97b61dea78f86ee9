"""Classify videos over time by a sliding window, and as whole clips; draw where the network looks. Or say along a video what comes next.

A network that was trained for anticipation is shown what came before each moment, and names what begins after its gap; along a camera or a
network stream every network is run so. Any other names the action of each window, and in the whole clip: the mean over its windows.
An exported file (`vidkd export`) is run without torch.

  vidkd predict clips/*.mp4 --model runs/student --out answers.jsonl
  vidkd predict street.mp4 --model student.onnx --overlay seen.mp4
  vidkd predict rtsp://camera/stream --model runs/anticipation --json
"""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from vidkd.base.fields import Count, Positive, Whole
from vidkd.base.files import writing
from vidkd.cli.outputs import check_outputs, check_video_ending, drop_output
from vidkd.cli.verb_parser import positional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidkd.base.errors import VidkdError
    from vidkd.cli.classifiers import OpenedClassifier
    from vidkd.inference.anticipate import Decision, Tally
    from vidkd.inference.observation_window import ObservationWindow


STEP_S = 0.5
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is classified, by what, and what is written.

    Args:
        videos: video files, folders of images, globs of images in quotes, a camera's number, or rtsp://...
        model: a checkpoint, the folder of a run, or an exported .onnx or .xml file.
        out: write a JSON line for each window, clip or decision there.
        json: print these lines in place of text.
        all: with the probabilities of all classes in every line.
        overlay: of one video, a video to write with the attention drawn on it, or of anticipation what is expected below it.
        overwrite: replace what --out and --overlay name if it is there.
        top: classes named in each answer.
        step_s: seconds from one window or decision to the next (default: half a window; along a stream 0.5).
        window_s: seconds seen along a stream, where training does not say (default: 2; anticipation from all: 10).
        seconds: along a stream, stop after so many seconds of it.
        fps: frames a second of an image sequence (default: 25).
        batch: decisions computed together from a file.
        device: auto, cpu, cuda or mps.
        threads: threads of the model on a processor; 0 for its choice.
        runtime: what runs an exported .onnx file (default: onnxruntime).
    """

    videos: tuple[str, ...] = positional("VIDEO")
    model: str
    out: str | None = None
    json: bool = False
    all: bool = False
    overlay: str | None = None
    overwrite: bool = False
    top: Count = 3
    step_s: Positive | None = None
    window_s: Positive | None = None
    seconds: Positive | None = None
    fps: Positive | None = None
    batch: Count = 8
    device: str = "auto"
    threads: Whole = 0
    runtime: Literal["onnxruntime", "openvino"] | None = None


def run(given: Settings) -> int:
    """Predict along every video, print, and write what was asked for; returns 1 if one of several could not be read to its end."""
    from vidkd.base.errors import ConfigError, DataError, VideoError
    from vidkd.cli.classifiers import open_classifier
    from vidkd.inference.sources import is_live
    from vidkd.video import open_video

    if given.overlay and len(given.videos) > 1:
        raise ConfigError("--overlay is of one video", hint="a command for each video")
    check_video_ending("--overlay", given.overlay)
    readable = []
    for video in given.videos:
        check_outputs({"--out": given.out, "--overlay": given.overlay}, source=video, overwrite=given.overwrite)
        try:
            if not is_live(video):  # before the model is loaded; what is found of a file is remembered
                open_video(video, backend="pyav", sequence_fps=given.fps).close()
            readable.append(video)
        except VideoError as error:
            _tell(error, given)
    if not readable:
        return 1
    opened = open_classifier(given.model, device=given.device, threads=given.threads, runtime=given.runtime)
    recognises = opened.data.observe.protocol != "anticipation"
    if recognises and (given.seconds or given.window_s) and not any(is_live(video) for video in given.videos):
        raise ConfigError("--seconds and --window-s are of cameras and network streams, and of anticipation", hint="leave them out")
    failed = len(given.videos) - len(readable)
    with Lines(given).opened() as lines:
        for video in readable:
            try:
                if not recognises or is_live(video):
                    if _predict_along(video, opened, given, lines):
                        break
                else:
                    _predict_clip(video, opened, given, lines)
            except (VideoError, DataError) as error:
                _tell(error.with_lines(video=video), given)
                failed += 1
        if given.out:
            lines.say(f"written: {given.out}")
    return int(failed > 0)


def _tell(error: "VidkdError", given: Settings) -> None:
    """Say what is wrong with one of several videos; the error of an only one is raised."""
    if len(given.videos) == 1:
        raise error
    sys.stderr.write(f"vidkd: {error}\n")


class Lines:
    """Answers as they come: JSON lines in the file --out, and text or the same lines on standard output.

    Its reader may go away (| head): while files are written that is logged and later output dropped; else BrokenPipeError ends all.
    """

    def __init__(self, given: Settings) -> None:
        self._given = given
        self._file: TextIO | None = None
        self._files = [name for name in (given.out, given.overlay) if name]

    @contextlib.contextmanager
    def opened(self) -> Iterator["Lines"]:
        """With the file open."""
        if self._given.out is None:
            yield self
            return
        path = Path(self._given.out)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
        try:
            yield self
        finally:
            with writing(path):
                self._file.close()

    def row(self, row: dict[str, Any], text: str) -> None:
        """Write an answer; every line is in the file at once, whatever happens later."""
        line = json.dumps(row, ensure_ascii=False)
        if self._file is not None:
            with writing(str(self._given.out)):
                self._file.write(line + "\n")
                self._file.flush()
        self._print(line if self._given.json else text)

    def say(self, text: str) -> None:
        """Say something that is no answer."""
        if self._given.json:
            sys.stderr.write(text + "\n")
        else:
            self._print(text)

    def _print(self, text: str) -> None:
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            if not self._files:
                raise
            drop_output()
            log.warning("standard output was closed; still writing %s (Ctrl-C ends it)", " and ".join(self._files))


def _predict_clip(video: str, opened: "OpenedClassifier", given: Settings, lines: Lines) -> None:
    """Every window, then the whole clip."""
    import numpy as np

    from vidkd.base.errors import ConfigError
    from vidkd.inference.observation_window import TRAINED_FOR
    from vidkd.inference.predict import predict_video

    if given.overlay and not opened.has_maps:
        mend = "a checkpoint whose model.attention.pooling is soft or probabilistic"
        raise ConfigError("this network has no attention map to draw", hint=mend)
    if given.overlay:
        with writing(given.overlay):
            Path(given.overlay).parent.mkdir(parents=True, exist_ok=True)
    if (protocol := opened.data.observe.protocol) != "whole":
        lines.say(f"trained for {TRAINED_FOR[protocol]}: sees each window as one clip, seen whole, and names its action")
    if len(given.videos) > 1:
        lines.say(video)
    windows, sums = [], []
    for window in predict_video(Path(video), opened.classifier, opened.data, step_s=given.step_s, fps=given.fps):
        row = {"video": video, "start_s": round(window.start_s, 3), "end_s": round(window.end_s, 3)}
        row |= answer(window.probabilities, opened.classes, given)
        lines.row(row, f"{row['start_s']:8.2f} - {row['end_s']:8.2f} s   {as_text(row)}")
        sums.append(window.probabilities)
        windows += [window] if given.overlay else []
    whole = {"video": video, "windows": len(sums), **answer(np.mean(sums, axis=0), opened.classes, given)}
    lines.row(whole, f"{'whole clip':>21}   {as_text(whole)}")
    if given.overlay:
        from vidkd.report.overlay import write_overlay

        frames = write_overlay(Path(video), Path(given.overlay), windows, opened.classes, fps=given.fps)
        lines.say(f"written: {given.overlay} ({frames} frames)")


def _predict_along(video: str, opened: "OpenedClassifier", given: Settings, lines: Lines) -> bool:
    """Predict until the source ends, breaks off, or the user stops it; then say how fast. Returns whether the user did.

    Raises VideoError where the source broke off, with what was done until then, and DataError where no window fitted.
    """
    from vidkd.base.errors import VideoError
    from vidkd.engine.interrupts import Interrupt
    from vidkd.inference.anticipate import Anticipator, too_short
    from vidkd.inference.observation_window import observation_window
    from vidkd.inference.sources import open_source
    from vidkd.report.overlay import OverlayWriter

    observation = observation_window(opened.data, opened.classifier.view, window_s=given.window_s)
    step_s = given.step_s or STEP_S
    anticipator = Anticipator(opened.classifier, observation, step_s=step_s, batch=given.batch, keep_frames=given.overlay is not None)
    interrupt, overlay = Interrupt(), None
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(video, decoder=opened.data.decoder, sequence_fps=given.fps, stop_s=given.seconds))
        if given.overlay:
            overlay = OverlayWriter(Path(given.overlay), opened.classes, fps=source.fps, step_s=step_s, top=given.top)
            stack.enter_context(overlay)
        stack.enter_context(interrupt.caught())
        moments = stack.enter_context(contextlib.closing(anticipator.along(source)))
        lines.say(in_words(observation))
        for moment in moments:
            for decision in moment.decisions:
                row = decision_row(video, decision, opened, observation.protocol, given)
                when = f"in {row['gap_s']:g} s" if row["gap_s"] else "now"
                lines.row(row, f"{row['time_s']:8.2f} s   {when}   {as_text(row)}")
            if overlay is not None and moment.frame is not None:
                overlay.write(moment.frame, moment.decisions)
            if interrupt.asked:
                break
    tally = anticipator.tally
    lines.say(summary(tally, overlay.seconds if overlay else 0.0))
    if tally.trouble is not None:
        done = f"{tally.windows} decisions on {tally.frames} frames, up to {tally.last_s:.2f} s; they stay as written"
        further: dict[str, object] = {**tally.trouble.lines, "until_then": done}
        raise VideoError(tally.trouble.what, **further)
    if tally.windows == 0 and not interrupt.asked:
        raise too_short(video, observation, tally)
    return interrupt.asked


def in_words(observation: "ObservationWindow") -> str:
    """What the network was trained for, and what it is shown here."""
    from vidkd.inference.observation_window import TRAINED_FOR

    seen = f"{observation.seconds:g} s" + (" (--window-s; no setting of its training)" if observation.assumed else "")
    trained = f"trained for {TRAINED_FOR[observation.protocol]}"
    if observation.protocol == "anticipation":
        return f"{trained}: sees {seen}, and names what begins {observation.gap_s:g} s later"
    return f"{trained}, not for anticipation: sees the last {seen} as one clip, and names its action"


def decision_row(video: str, decision: "Decision", opened: "OpenedClassifier", protocol: str, given: Settings) -> dict[str, Any]:
    """One JSON line; times in seconds of the video, `frames` the first and the last that were seen."""
    row: dict[str, Any] = {
        "video": video,
        "time_s": round(decision.time_s, 3),
        "gap_s": round(decision.gap_s, 3),
        "about_s": round(decision.about_s, 3),
        "protocol": protocol,
        "frames": [decision.first, decision.last],
        "held": decision.held,
        **answer(decision.probabilities, opened.classes, given),
    }
    if opened.targets:
        found = {name: answer(decision.targets[name], names, given) for name, names in opened.targets.items()}
        row["targets"] = {name: part["top"] for name, part in found.items()}
        if given.all:
            row["target_probabilities"] = {name: part["probabilities"] for name, part in found.items()}
    return row


def summary(tally: "Tally", draw_s: float) -> str:
    """Frames, decisions, speed, and which share of the time each kind of work took; shares overlap, as the parts run in parallel."""
    total_s = max(tally.total_s, 1e-9)
    parts = {"decoding": tally.decode_s, "preparing": tally.prepare_s, "model": tally.model_s, "drawing": draw_s}
    shares = ", ".join(f"{name} {100 * seconds / total_s:.0f} %" for name, seconds in parts.items())
    skipped = f"; {tally.skipped} times were skipped, with too few frames for a window" if tally.skipped else ""
    return (
        f"{tally.frames} frames, {tally.windows} decisions in {total_s:.1f} s: {tally.frames / total_s:.1f} frames a second{skipped}\n"
        f"of that time, side by side: {shares}"
    )


def answer(probabilities: "NDArray[np.float64]", classes: Sequence[str], given: Settings) -> dict[str, Any]:
    """`top` with the best classes and their probabilities to four digits, and where asked for `probabilities` of all to six."""
    best = (-probabilities).argsort(kind="stable")[: given.top]
    found: dict[str, Any] = {"top": [[classes[k], round(float(probabilities[k]), 4)] for k in best]}
    if given.all:
        found["probabilities"] = {name: round(float(p), 6) for name, p in zip(classes, probabilities, strict=True)}
    return found


def as_text(row: dict[str, Any]) -> str:
    """The classes of a row."""
    return "   ".join(f"{name} {p:.2f}" for name, p in row["top"])
