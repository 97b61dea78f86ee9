"""UT-Interaction: segmented clips (set1/<number>_<sequence>_<class>.avi), or uncut videos (seq<k>.avi) with a table of intervals."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.extras import require
from vidkd.data.layouts.common import ClipFiles, Options, Reading, first_folder, from_folders, hashes, not_found, relative, shortened
from vidkd.data.layouts.lists import check_overlaps
from vidkd.data.manifest import Clip, Manifest
from vidkd.video.files import video_files

EXPECTED = "set1/<number>_<sequence>_<class>.avi (or segmented_set1/, videos/), class 0 to 5"
CLASSES = ("hand-shaking", "hugging", "kicking", "pointing", "punching", "pushing")
SEQUENCES_IN_FOLD = 2
_NAME = re.compile(r"\d+_(?P<sequence>\d+)_(?P<label>[0-5])")


def read(root: Path, options: Options) -> Reading:
    """Splits "seq<k>" (that sequence is the test) and "fold<k>" (the k-th pair of sequences is); a group is a sequence."""
    videos = first_folder("ut_interaction", root, ("set1", "segmented_set1", "videos"), EXPECTED)
    files = [(*_parts(path), path) for path in video_files(videos)]
    tests = sequence_splits(sorted({sequence for sequence, _, _ in files}))
    clips = [
        Clip(
            path=relative(path, root),
            label=label,
            group=f"seq{sequence}",
            subsets={split: "test" if sequence in test else "train" for split, test in tests.items()},
        )
        for sequence, label, path in sorted(files, key=lambda item: int(item[2].stem.partition("_")[0]))
    ]
    return from_folders(
        name="ut_interaction",
        root=root,
        classes=CLASSES,
        splits=list(tests),
        clips=clips,
        options=options,
        looked_in=videos,
        expected=EXPECTED,
    )


def sequence_splits(sequences: Sequence[int], first_fold: int = 0) -> dict[str, set[int]]:
    """Split -> the sequences that it tests: "seq<k>" that one, "fold<first_fold + k>" the k-th pair in the order given."""
    tests = {f"seq{sequence}": {sequence} for sequence in sequences}
    for first in range(0, len(sequences), SEQUENCES_IN_FOLD):
        tests[f"fold{first_fold + first // SEQUENCES_IN_FOLD + 1}"] = set(sequences[first : first + SEQUENCES_IN_FOLD])
    return tests


def _parts(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise DataError(f"not a UT-Interaction name: {path}", expected=EXPECTED, hint="move the file away, or use layout folder")
    return int(match["sequence"]), int(match["label"])


UNTRIMMED = "ut_interaction_untrimmed"
EXPECTED_UNTRIMMED = "ut-interaction_labels_110912.xls and ut-interaction_set1/seq<k>.avi (or set1/, videos/, or in the root itself)"
FOLDERS = ("ut-interaction_set1", "ut-interaction_set2", "set1", "set2", "videos", ".")
SEQUENCES_IN_SET = 10
Times = NDArray[np.float64]
_SEQUENCE = re.compile(r"seq(\d+)")


@dataclass(frozen=True, kw_only=True)
class Action:
    """A row of the labels. Frames are indices from 0, the last one exclusive; box: x1, y1, x2, y2 in pixels, around both persons."""

    sequence: int
    label: int
    start_frame: int
    end_frame: int
    box: tuple[float, float, float, float]
    where: str


def read_untrimmed(root: Path, options: Options) -> Reading:
    """A clip is an action; splits as in the segmented set, those of set 2 (sequences 11 to 20) apart from those of set 1.

    Times are the decoded timestamps of the frames that the labels name. Actions under "others:" go on behind the labelled ones at the same
    time and are no part of the protocol; they are left out, and so is a set of which there is no video at all.
    """
    labels = _labels_file(root)
    actions, others = read_labels(labels)
    videos, missing = _videos(root, sorted({action.sequence for action in actions}), options)
    here = [action for action in actions if action.sequence in videos]
    splits = _splits(sorted({action.sequence for action in actions}), videos)
    clips = _clips(root, here, videos, splits)
    notes = check_overlaps(clips, lambda number: here[number].where, allowed=options.allow_overlap)
    notes += (f"left out, under 'others:' in the labels: {others} actions that go on at the same time",) if others else ()
    manifest = Manifest(
        name=UNTRIMMED, root=root, classes=CLASSES, splits=tuple(splits), clips=tuple(clips), sources=hashes(root, [labels])
    )
    return Reading(manifest=manifest, absent=tuple(action.where for action in actions if action.sequence in missing), notes=notes)


def _labels_file(root: Path) -> Path:
    first_folder(UNTRIMMED, root, (".",), EXPECTED_UNTRIMMED)
    files = sorted(root.glob("ut-interaction_labels*.xls"))
    if not files:
        there = shortened(sorted(path.name for path in root.iterdir())) or "nothing"
        not_found(UNTRIMMED, root, EXPECTED_UNTRIMMED, f"no ut-interaction_labels_110912.xls; there: {there}")
    return files[-1]


def read_labels(path: Path) -> tuple[list[Action], int]:
    """The actions of every sheet, and how many are listed under "others:". Needs the extra "xls".

    Raises DataError for a file or a row that is not as it should be.
    """
    xlrd = require("xlrd", "xls")
    try:
        sheets = xlrd.open_workbook(str(path)).sheets()
    except Exception as error:  # a damaged file raises whatever its parser happens to trip over
        raise DataError(f"not an Excel table: {path}", reason=repr(error), hint="take it from the archive again") from None
    actions, others = [], 0
    for sheet in sheets:
        rows = (sheet.row_values(number) for number in range(sheet.nrows))
        found, more = read_rows(rows, f"{path}, sheet {sheet.name}")
        actions += found
        others += more
    if not actions:
        raise DataError(f"no action in: {path}", expected="rows that begin with seq<k>, class, first frame, last frame, four corners")
    return actions, others


def read_rows(rows: Iterable[Sequence[object]], where: str) -> tuple[list[Action], int]:
    """The actions of one sheet, rows as cells, and how many stand under "others:"; `where` begins the message of the DataError."""
    actions: list[Action] = []
    others: int | None = None
    for number, row in enumerate(rows, start=1):
        first = str(row[0]).strip() if row else ""
        if first.startswith("others"):
            others = 0
        elif match := _SEQUENCE.fullmatch(first):
            action = _action(int(match[1]), row[1:8], f"{where}, row {number}")
            if others is None:
                actions.append(action)
            else:
                others += 1
    return actions, others or 0


def _action(sequence: int, cells: Sequence[object], where: str) -> Action:
    if len(cells) < 7 or not all(isinstance(cell, float) for cell in cells):
        raise DataError(f"{where}: not an action: {list(cells)}", expected="class, first frame, last frame, x1, y1, x2, y2 as numbers")
    label, start, end, x1, y1, x2, y2 = (float(cell) for cell in cells if isinstance(cell, float))
    if label not in range(len(CLASSES)):
        raise DataError(f"{where}: class {label:g} is none", expected=f"0 to {len(CLASSES) - 1}")
    if not 0 <= start < end or start % 1 or end % 1:
        raise DataError(f"{where}: frames {start:g} to {end:g} are no interval", expected="whole numbers, the last after the first")
    return Action(sequence=sequence, label=int(label), start_frame=int(start), end_frame=int(end), box=(x1, y1, x2, y2), where=where)


def _videos(root: Path, sequences: Sequence[int], options: Options) -> tuple[dict[int, str], set[int]]:
    """Sequence -> path of its video, and the sequences that lack one though others of their set are there."""
    files = ClipFiles(root, root, FOLDERS)
    found = {sequence: next(filter(None, (files.find((folder, f"seq{sequence}")) for folder in FOLDERS)), None) for sequence in sequences}
    videos = {sequence: path for sequence, path in found.items() if path is not None}
    if not videos:
        not_found(UNTRIMMED, root, EXPECTED_UNTRIMMED, "no seq<k>.avi")
    sets = {_set_of(sequence) for sequence in videos}
    missing = {sequence for sequence in sequences if sequence not in videos and _set_of(sequence) in sets}
    if missing and not options.allow_missing:
        raise DataError(
            f"data set '{UNTRIMMED}' is incomplete: {len(missing)} of {len(missing) + len(videos)} videos that its labels name are missing",
            looked_in=root,
            missing=shortened([f"seq{sequence}" for sequence in sorted(missing)]),
            hint="unpack the archive again, or leave them out with --allow-missing",
        )
    return videos, missing


def _set_of(sequence: int) -> int:
    return (sequence - 1) // SEQUENCES_IN_SET


def _splits(sequences: Sequence[int], videos: Mapping[int, str]) -> dict[str, dict[int, str]]:
    """Split -> sequence -> subset, each set by itself; a split whose test sequences have no video is left out."""
    splits = {}
    for number in sorted({_set_of(sequence) for sequence in videos}):
        members = [sequence for sequence in sequences if _set_of(sequence) == number]
        first_fold = number * SEQUENCES_IN_SET // SEQUENCES_IN_FOLD
        for split, test in sequence_splits(members, first_fold).items():
            if test & set(videos):
                splits[split] = {sequence: "test" if sequence in test else "train" for sequence in members}
    return splits


def _clips(root: Path, actions: Sequence[Action], videos: Mapping[int, str], splits: Mapping[str, Mapping[int, str]]) -> list[Clip]:
    from vidkd.video import open_video

    clips = []
    times_s: dict[int, tuple[Times, float]] = {}
    for action in actions:
        if action.sequence not in times_s:
            with open_video(root / videos[action.sequence]) as video:
                times_s[action.sequence] = video.timestamps_s, video.info.duration_s
        start_s, end_s = _interval(action, *times_s[action.sequence], videos[action.sequence])
        clips.append(
            Clip(
                path=videos[action.sequence],
                label=action.label,
                group=f"seq{action.sequence}",
                subsets={split: subsets[action.sequence] for split, subsets in splits.items() if action.sequence in subsets},
                start_s=start_s,
                end_s=end_s,
                boxes=((start_s, *action.box),),
            )
        )
    return clips


def _interval(action: Action, times_s: Times, duration_s: float, path: str) -> tuple[float, float]:
    if action.end_frame > len(times_s):
        raise DataError(
            f"{action.where}: the interval lies outside the video",
            interval=f"frames {action.start_frame} to {action.end_frame}",
            video=f"{path}, {len(times_s)} frames",
            hint="take the video from the archive again; it may be cut short, or have another frame rate",
        )
    end_s = duration_s if action.end_frame == len(times_s) else float(times_s[action.end_frame])
    return float(times_s[action.start_frame]), end_s
