"""The report of a stream along which a student learned: whether learning helped, in words, tables and figures, and its key frames."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.files import read_json
from vidkd.bench.intervals import Cell, Interval, paired_difference
from vidkd.detection.metrics import IOU, SCORE
from vidkd.detection.online.account import Account, FrozenComparison, KeyFrameRow, evenly
from vidkd.detection.policies import BLIND
from vidkd.report.annotate import draw_boxes
from vidkd.report.figures import SERIES, canvas, finish, thinned
from vidkd.report.parts import Estimate, Figure, Report, Strip, Table, format_number
from vidkd.report.strips import png_data_uri, resized, side_by_side
from vidkd.report.study import CALLS, condition_figures, study_tables
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import from_row
from vidkd.video import open_video

STRETCHES = 20
"""Parts of a stream that are drawn as a whole for an interval: key frames that lie close are alike."""
FEWEST = 8
"""Key frames below which no verdict is given."""

DISAGREEMENT = (
    "Disagreement is 1 \N{MINUS SIGN} F1 of the student's boxes against the oracle's: 0 % where all boxes agree, 100 % where none does. "
    f"Boxes count from a score of {SCORE:g} on, on both sides (the student's from its own --score, where that is higher); two are the same "
    f"if they have one class and overlap with an IoU of at least {IOU:g}."
)
LIMITS = (
    "The oracle is taken as ground truth, though it errs too, and only key frames are judged, each before the student learned from it. "
    "Of the frames between them this says as much as they resemble the key frames, and nothing of another video."
)
LOOKED = (
    "These frames were chosen by what the student that had learned made of them, often where it was in doubt, and the other had no say: "
    "it looks worse here, compared with the initial student, than on all frames."
)
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
SPANS = 200
"""Bars of the calls, one for each of so many equal stretches: thin enough that even distances look even."""
REST = "nothing learned"
KINDS = {"learned": SERIES[2], "undone": SERIES[1], REST: SERIES[5]}
KIND_OF = {"kept": "learned", "rolled_back": "undone", "not_finite": "undone"}


def verdict(account: Account, judged: Sequence[FrozenComparison] = (), *, blind: bool = True) -> str:
    """A paragraph: whether learning helped on the key frames, and what that says; empty for a stream without any disagreement.

    judged: see `compare_with_frozen`; without them only the first and the last quarter of the key frames are known. blind: whether the key
    frames were chosen without a look at the student; else they cannot show that learning did harm.
    """
    if account.quarters is None:
        return ""
    updated = [one for one in judged if one.updated]
    if not judged:
        return f"{_by_quarters(account)} {LIMITS}"
    if not updated:
        return "The student learned nothing before its last key frame: no update was kept, or only the last one."
    return " ".join([_by_pairs(updated, blind=blind), *([] if blind else [LOOKED]), LIMITS])


def _by_pairs(updated: Sequence[FrozenComparison], *, blind: bool) -> str:
    difference = _difference(updated)
    learned, frozen = (_mean(updated, name) for name in ("learned", "frozen"))
    frames = f"the {len(updated)} key frames" if len(updated) > 1 else "the one key frame"
    numbers = (
        f"On {frames} after its first update the student's disagreement with the oracle was {_percent(learned)}; that of the frozen "
        f"student is {_percent(frozen)} on the same frames"
    )
    if difference.ci95 is None:
        return f"{numbers}. These are too few to say whether learning helped."
    low, high = difference.ci95
    bounds = f"{_points(difference.mean)} points, 95 % interval {_points(low)} to {_points(high)}"
    if high < 0:
        return f"Learning helped on the key frames. {numbers} ({bounds})."
    if low > 0 and blind:
        return f"Learning did harm on the key frames. {numbers} ({bounds})."
    if low > 0:
        return f"Whether learning helped cannot be judged from these key frames. {numbers} ({bounds})."
    return f"Whether learning helped cannot be distinguished from chance. {numbers} ({bounds})."


def _by_quarters(account: Account) -> str:
    assert account.quarters is not None
    first, last = account.quarters
    count = math.ceil(sum(key.disagreement is not None for key in account.keys) / 4)
    return (
        f"Whether learning helped cannot be judged from this run. The student's disagreement with the oracle was {_percent(first)} on "
        f"the first quarter of the key frames and {_percent(last)} on the last ({count} each), but what is to be seen changes along a "
        "stream too, and the frames cannot be shown again to a student that learned nothing."
    )


def learning_table(judged: Sequence[FrozenComparison], *, answered: int) -> Table:
    """Disagreement of both students on the first and the last quarter of the key frames, and on all after the first update.

    judged: at least one. answered: how many key frames the oracle answered, of which these may be a part.
    """
    quarter = math.ceil(len(judged) / 4)
    parts = {"first quarter": judged[:quarter], "last quarter": judged[-quarter:]}
    if updated := [one for one in judged if one.updated]:
        parts["all after the first update"] = updated
    rows = []
    for name, part in parts.items():
        learned, frozen = (_mean(part, which) for which in ("learned", "frozen"))
        found = _difference(part) if part is updated else None
        change = Estimate(value=learned - frozen, ci95=None if found is None else found.ci95, signed=True)
        rows.append((name, len(part), Estimate(value=learned), Estimate(value=frozen), change))
    columns = ("key frames", "number", "learning (%)", "frozen (%)", "difference (points)")
    of = "" if len(judged) == answered else f" Judged on {len(judged)} of {answered} key frames, spread evenly."
    brackets = "" if len(updated) < FEWEST else " In brackets the 95 % interval over stretches of the stream."
    caption = f"{DISAGREEMENT} Frozen: the student without any learning, on the same frames.{brackets}{of}"
    return Table(title="Disagreement with and without learning", columns=columns, rows=tuple(rows), caption=caption)


def _difference(part: Sequence[FrozenComparison]) -> Interval:
    """Learning minus frozen, over stretches of the stream; without an interval for fewer than FEWEST frames."""
    groups = [str(place * min(STRETCHES, len(part)) // len(part)) for place in range(len(part))]
    learned, frozen = (
        [Cell(seed=0, place="all", correct=[getattr(one, name) for one in part], group=groups)] for name in ("learned", "frozen")
    )
    return paired_difference(learned, frozen, over=("groups",) if len(part) >= FEWEST else ("seeds",))


def _mean(part: Sequence[FrozenComparison], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in part]))


def _percent(share: float) -> str:
    return f"{format_number(share, percent=True)} %"


def _points(share: float) -> str:
    return format_number(share, percent=True, signed=True)


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
    answered = [key for key in account.keys if key.disagreement is not None]
    tables = [learning_table(judged, answered=len(answered))] if judged else []
    if account.keys:
        tables.append(_outcomes(account))
    tables.append(_seconds(account, summary))
    figures = [time_line(account, judged)] if answered else []
    if any(key.loss_before is not None and key.loss_after is not None for key in account.keys):
        figures.append(loss_figure(account))
    if policies is not None:
        tables.append(study_tables(policies)[0])
        figures += condition_figures(policies, (CALLS,), ("f1",))
    notes = {"key frames chosen by": policy, "frames": format_number(account.frames), "budget": _percent(budget)}
    notes |= {"calls": f"{format_number(len(account.keys))}, {_percent(account.share)}", "answered": format_number(len(answered))}
    if (speed := summary["frames_per_second"].get("end_to_end")) is not None:
        notes["frames a second, all together"] = format_number(speed)
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
        notes=notes,
    )


def _shown(strips: int, keys: int) -> str:
    """How many of the key frames have pictures; a line only where some have none."""
    spread = ", spread evenly over those that the oracle answered" if strips > 1 else ""
    boxes = f"Only boxes of a score of at least {SCORE:g} are drawn: those that count in the disagreement."
    return f"{strips} of {keys} key frames{spread}. {boxes}" if strips < keys else boxes


def _outcomes(account: Account) -> Table:
    rows = tuple((WORDS.get(name, name), count, Estimate(value=count / len(account.keys))) for name, count in account.outcomes.items())
    return Table(title="What became of the key frames", columns=("outcome", "key frames", "of them (%)"), rows=rows)


def _seconds(account: Account, summary: Mapping[str, Any]) -> Table:
    """Parts of the steps, then the stages of the stream."""
    events = {"oracle": len(account.keys), "update": sum(key.disagreement is not None for key in account.keys)}
    stages = {name.replace("total", "all together"): spent for name, spent in summary["seconds"].items() if name != "infer"}
    rows = []
    for name, spent in {**account.seconds, **stages}.items():
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
    disagreement = "" if key.disagreement is None else f"disagreement {_percent(key.disagreement)}"
    caption = f"Left the student before it learned from the frame, right the oracle. {WORDS.get(key.outcome, key.outcome).capitalize()}."
    if key.loss_before is not None and key.loss_after is not None:
        caption += f" Loss {format_number(key.loss_before)} before, {format_number(key.loss_after)} after."
    if key.interpolated is not None:
        caption += f" Of what had been learned before, {_percent(key.interpolated)} stayed."
    return Strip(title=f"frame {key.frame}{at}: {disagreement}", rows=(("", png_data_uri(side_by_side(both))),), caption=caption)


def _drawn(picture: NDArray[np.uint8], found: Detections, class_names: Sequence[str]) -> NDArray[np.uint8]:
    """A picture of PICTURE_PX with the boxes that count in the disagreement; drawn when small, so that lines and letters can be read."""
    small, sure = resized(picture, min(PICTURE_PX, len(picture))), found.select(found.scores >= SCORE)
    scaled = Detections(boxes=sure.boxes * (len(small) / len(picture)), scores=sure.scores, labels=sure.labels)
    return draw_boxes(small, scaled, class_names)


def time_line(account: Account, judged: Sequence[FrozenComparison] = ()) -> Figure:
    """Disagreement of student and oracle on the key frames along the stream; below it the calls and what became of them.

    At least one key frame has a disagreement. Many key frames are drawn as means of MOST_POINTS spans. judged: see
    `compare_with_frozen`; the frozen student is drawn too.
    """
    answered = [key for key in account.keys if key.disagreement is not None]
    at, unit = _places(account.keys)
    known = np.array([key.disagreement is not None for key in account.keys])
    values = np.array([key.disagreement for key in answered], np.float64) * 100
    with canvas(4.0, 9.2) as (drawing, axes):
        axes.remove()
        above, below = drawing.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.2]})
        x, y = thinned(at[known], values)
        above.plot(x, y, "-", color=SERIES[0], lw=1.2, alpha=0.6)
        above.plot(x, y, "o", color=SERIES[0], ms=4, label="learning" if judged else None)
        if judged:
            places = {key.frame: place for key, place in zip(account.keys, at, strict=True)}
            there = np.array([places[one.frame] for one in judged])
            above.plot(*thinned(there, np.array([one.frozen for one in judged]) * 100), "o:", color=SERIES[4], lw=1.2, ms=3, label="frozen")
        above.set(ylim=(-3, 103), ylabel="disagreement (%)")
        _call_bars(below, at, account.keys)
        below.set(xlabel=unit, ylabel="calls")
        below.yaxis.get_major_locator().set_params(integer=True)
        drawing.legend(loc="outside upper right", ncols=5, fontsize=9, handlelength=1.2)
        means = [format_number(mean, percent=True) for mean in account.quarters or ()]
        caption = (
            f"{DISAGREEMENT} Each frame is judged before the student learned from it. "
            f"Mean of the first quarter of key frames {means[0]} %, of the last {means[-1]} %."
        )
        return finish(drawing, "Disagreement, calls and updates", caption=caption, wide=True)


def loss_figure(account: Account) -> Figure:
    """The loss on each key frame before and after its update. At least one key frame has both."""
    known = [key for key in account.keys if key.loss_before is not None and key.loss_after is not None]
    at, unit = _places(known)
    before, after = (np.array([getattr(key, name) for key in known], np.float64) for name in ("loss_before", "loss_after"))
    with canvas(3.1) as (drawing, axes):
        for values, name, colour in ((before, "before", SERIES[1]), (after, "after", SERIES[2])):
            axes.plot(*thinned(at, values), "o-", ms=3, lw=1.2, label=name, color=colour)
        axes.set(xlabel=unit, ylabel="loss")
        drawing.legend(loc="outside upper left", ncols=2, fontsize=9, handlelength=1.4)
        caption = (
            f"On the key frame itself. Means: {format_number(float(before.mean()))} before, {format_number(float(after.mean()))} after."
        )
        return finish(drawing, "Loss before and after each update", caption=caption)


def _places(keys: Sequence[KeyFrameRow]) -> tuple[NDArray[np.float64], str]:
    """Where along the stream key frames lie: seconds, or frames where one has no time."""
    times = [key.time_s for key in keys]
    if all(time_s is not None for time_s in times):
        return np.array(times, np.float64), "seconds of the video"
    return np.array([key.frame for key in keys], np.float64), "frame"


def _call_bars(axes: Any, at: NDArray[np.float64], keys: Sequence[KeyFrameRow]) -> None:
    """Calls in SPANS equal stretches, stacked by what became of them."""
    kinds = np.array([KIND_OF.get(key.outcome, REST) for key in keys])
    found = {kind: at[kinds == kind] for kind in KINDS if kind in kinds}
    bins = np.linspace(at.min(), max(at.max(), at.min() + 1e-6), SPANS + 1)
    axes.hist(list(found.values()), bins, stacked=True, rwidth=0.85, color=[KINDS[kind] for kind in found], label=list(found))
