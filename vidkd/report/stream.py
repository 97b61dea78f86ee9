"""The report of a stream along which a student learned: from the files in its folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.files import read_json
from vidkd.detection.metrics import SCORE
from vidkd.detection.online.account import Account, FrozenComparison, KeyFrameRow, evenly
from vidkd.detection.policies import BLIND
from vidkd.report.boxes import draw_boxes
from vidkd.report.parts import Estimate, Report, Strip, Table, format_number
from vidkd.report.stream_figures import loss_figure, time_line
from vidkd.report.stream_learning import learning_notes, learning_table, verdict
from vidkd.report.strips import png_data_uri, side_by_side
from vidkd.report.study import condition_figures
from vidkd.report.study_tables import CALLS, study_tables
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import from_row
from vidkd.video import open_video

MOST_STRIPS = 8
PICTURE_PX = 288
"""Height of a key frame's picture."""

WORDS = {
    "kept": "kept: the student learned",
    "rolled_back": "undone: it made the past worse",
    "not_finite": "undone: a number that is not finite",
    "below_minimum": "nothing to learn: the loss was low enough",
    "no_better": "no step made it better",
    "failed": "the oracle or the update failed",
    "no_answer": "the stream ended before the answer",
}


def stream_report(
    folder: Path,
    account: Account,
    *,
    budget: float,
    policy: str,
    strips: Sequence[Strip] = (),
    judged: Sequence[FrozenComparison] = (),
    policies: Mapping[str, Any] | None = None,
) -> Report:
    """What a stream's folder and its account say.

    budget: the share of frames that might go to the oracle, in (0, 1]. strips: see `key_frame_strips`. judged: see `compare_with_frozen`.
    policies: summary of a study of all policies along the same video.
    """
    summary, made = read_json(folder / "summary.json"), read_json(folder / "run.json")
    answered = sum(key.disagreement is not None for key in account.keys)
    tables = [learning_table(judged, answered=answered)] if judged else []
    tables.append(_calls(account, budget, policy, answered))
    if account.keys:
        tables.append(_outcomes(account))
    tables.append(_seconds(account, summary))
    figures = [time_line(account, judged)] if any(key.disagreement is not None for key in account.keys) else []
    if any(key.loss_before is not None and key.loss_after is not None for key in account.keys):
        figures.append(loss_figure(account))
    if policies is not None:
        tables.append(study_tables(policies)[0])
        figures += condition_figures(policies, (CALLS,), ("f1",))
    return Report(
        title=f"{folder.resolve().name}: a student that learns along the stream",
        subtitle=f"{Path(summary['input']).name}. The oracle was asked on few frames; between them the student ran without it.",
        text=verdict(account, judged, blind=policy in BLIND),
        config_text=json.dumps(made, indent=2, ensure_ascii=False),
        tables=tuple(tables),
        figures=tuple(figures),
        strips=tuple(strips),
        strips_title="Key frames",
        strips_caption=_shown(len(strips), len(account.keys)),
        notes=_notes(account, summary, judged),
    )


def _notes(account: Account, summary: Mapping[str, Any], judged: Sequence[FrozenComparison]) -> dict[str, str]:
    notes = {"frames": format_number(account.frames), "calls": format_number(len(account.keys)), "share": _percent(account.share)}
    notes |= learning_notes(account, judged)
    if (speed := summary["frames_per_second"].get("end_to_end")) is not None:
        notes["frames a second, all together"] = format_number(speed)
    return notes


def _shown(strips: int, keys: int) -> str:
    """How many of the key frames have pictures; a line only where some have none."""
    spread = ", spread evenly over those that the oracle answered" if strips > 1 else ""
    boxes = f"Only boxes of a score of at least {SCORE:g} are drawn: those that count in the disagreement."
    return f"{strips} of {keys} key frames{spread}. {boxes}" if strips < keys else boxes


def _percent(share: float) -> str:
    return f"{format_number(share, percent=True)} %"


def _calls(account: Account, budget: float, policy: str, answered: int) -> Table:
    row = (policy, account.frames, Estimate(value=budget), len(account.keys), Estimate(value=account.share), answered)
    columns = ("key frames chosen by", "frames", "budget (%)", "calls", "called (%)", "answered")
    caption = (
        "The budget holds in every window of the stream, which is the whole stream where that is shorter. "
        "The last window may be cut short, and then holds more or less than its share."
    )
    return Table(title="Calls", columns=columns, rows=(row,), caption=caption)


def _outcomes(account: Account) -> Table:
    rows = tuple((WORDS.get(name, name), count, Estimate(value=count / len(account.keys))) for name, count in account.outcomes.items())
    return Table(title="What became of the key frames", columns=("outcome", "key frames", "of them (%)"), rows=rows)


def _seconds(account: Account, summary: Mapping[str, Any]) -> Table:
    """Parts of the steps, then the stages of the stream."""
    events = {"oracle": len(account.keys), "update": sum(key.disagreement is not None for key in account.keys)}
    stages = {name: spent for name, spent in summary["seconds"].items() if name not in ("infer", "total")}
    whole = {"all together": summary["seconds"]["total"]} if "total" in summary["seconds"] else {}
    rows = []
    for name, spent in {**account.seconds, **stages, **whole}.items():
        each = events.get(name, account.frames)
        rows.append((name, float(spent), spent * 1000 / each if each else None, account.frames / spent if spent > 0 else None))
    caption = (
        "Oracle and update: milliseconds a key frame; all others: a frame. Frames a second: of the whole stream, if that part were all. "
        "The student's parts follow each other; decoding, drawing and encoding run in parallel."
    )
    return Table(title="Time", columns=("part", "seconds", "ms each", "frames a second"), rows=tuple(rows), caption=caption)


def key_frame_strips(video: str, account: Account, class_names: Sequence[str], *, sequence_fps: float | None = None) -> list[Strip]:
    """Strips of at most MOST_STRIPS key frames spread evenly over those with boxes of both sides: the student's boxes, then the oracle's.

    video: a file or image sequence, read once more at these frames. Raises VideoError where it cannot be.
    """
    chosen = evenly([key for key in account.keys if key.boxes is not None], MOST_STRIPS)
    if not chosen:
        return []
    with open_video(video, backend="pyav", sequence_fps=sequence_fps) as frames:
        pictures = frames.frames_at_indices([key.frame for key in chosen])
    return [_strip(picture, key, class_names) for picture, key in zip(pictures, chosen, strict=True)]


def _strip(picture: NDArray[np.uint8], key: KeyFrameRow, class_names: Sequence[str]) -> Strip:
    assert key.boxes is not None
    rows = [{"frame": key.frame, "time_s": key.time_s, **key.boxes[who]} for who in ("student", "oracle")]
    both = [_drawn(picture, from_row(row, class_names), class_names) for row in rows]
    at = "" if key.time_s is None else f", {key.time_s:.1f} s"
    found = "" if key.disagreement is None else f"disagreement {_percent(key.disagreement)}"
    title = f"frame {key.frame}{at}: {found}"
    losses = ""
    if key.loss_before is not None and key.loss_after is not None:
        losses = f" Loss {format_number(key.loss_before)} before, {format_number(key.loss_after)} after."
    what = WORDS.get(key.outcome, key.outcome).capitalize()
    if key.interpolated is not None:
        losses += f" Of what had been learned before, {_percent(key.interpolated)} stayed."
    caption = f"Left the student before it learned from the frame, right the oracle. {what}.{losses}"
    return Strip(title=title, rows=(("", png_data_uri(side_by_side(both))),), caption=caption)


def _drawn(picture: NDArray[np.uint8], found: Detections, class_names: Sequence[str]) -> NDArray[np.uint8]:
    """A picture of PICTURE_PX with the boxes that count in the disagreement; drawn when small, so that lines and letters can be read."""
    height, width = picture.shape[:2]
    scale = min(1.0, PICTURE_PX / height)
    small = cv2.resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    sure = found.select(found.scores >= SCORE)
    scaled = Detections(boxes=sure.boxes * scale, scores=sure.scores, labels=sure.labels)
    return draw_boxes(np.asarray(small, np.uint8), scaled, class_names)
