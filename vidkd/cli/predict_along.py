"""What `vidkd predict` does along a running video: at every step, what the network says of the seconds before, or of what comes next."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.cli.predict import Lines, Settings, answer, as_text

if TYPE_CHECKING:
    from vidkd.cli.classifiers import OpenedClassifier
    from vidkd.inference.anticipate import Decision, Tally
    from vidkd.inference.observation_window import ObservationWindow

STEP_S = 0.5


def predict_along(video: str, opened: "OpenedClassifier", given: Settings, lines: Lines) -> bool:
    """Predict until the source ends, breaks off, or the user stops it; then say how fast. Returns whether the user did.

    Raises VideoError where the source broke off, with what was done until then, and DataError where no window fitted.
    """
    from vidkd.base.errors import VideoError
    from vidkd.engine.interrupts import Interrupt
    from vidkd.inference.anticipate import Anticipator, too_short
    from vidkd.inference.observation_window import observation_window
    from vidkd.inference.sources import open_source
    from vidkd.report.anticipation_overlay import OverlayWriter

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
