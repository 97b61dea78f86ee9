"""A CSV file with the columns path,label and optionally start_s, end_s, group, split, one clip a row."""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from vidkd.base.errors import DataError, VideoError
from vidkd.data.layouts.common import Options, Reading, manifest_of, not_found, shortened
from vidkd.data.layouts.lists import check_overlaps, inside, read_table
from vidkd.data.layouts.own_data import MORE_GROUPS, SPLIT, groups_of, one_sided, seeded_split
from vidkd.data.manifest import SUBSETS, Clip, check_clip

EXPECTED = "clips.csv (or --list FILE) with the columns path,label and optionally start_s,end_s,group,split"
COLUMNS = ("path", "label", "start_s", "end_s", "group", "split")


def read(root: Path, options: Options) -> Reading:
    """Labels are names, or numbers throughout; an empty one is an unlabelled clip. Without the column split, 70 % of the groups train.

    Intervals must lie inside their videos and, unless `allow_overlap`, not overlap in one.
    """
    path = options.list_file or root / "clips.csv"
    for there, kind in ((root, root.is_dir()), (path, path.is_file())):
        if not kind:
            not_found("csv", root, EXPECTED, f"{there} is missing")
    rows = read_table(path, ("path", "label"), known=COLUMNS)
    labels = {row["label"] for row in rows.values()} - {""}
    classes = sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
    groups, grouped = groups_of([row["path"] for row in rows.values() if row["path"] and not row.get("group")], options.group_pattern)
    named = {where: _clip(row, classes, groups, where) for where, row in rows.items()}
    absent = tuple(dict.fromkeys(clip.path for clip in named.values() if not (root / clip.path).is_file()))
    left_out = {*absent, *options.broken}
    named = {where: clip for where, clip in named.items() if clip.path not in left_out}
    if not named:
        not_found("csv", root, EXPECTED, f"none of the files that {path} names ({shortened(absent)})" if absent else f"no row in {path}")
    if absent and not options.allow_missing:
        hint = "give paths relative to --data.root, or leave them out with --allow-missing"
        raise DataError(f"{len(absent)} files that {path} names are missing", looked_in=root, missing=shortened(absent), hint=hint)
    clips = _checked(named, root)
    places = list(named)
    notes = check_overlaps(clips, lambda number: places[number], allowed=options.allow_overlap)
    if any(row.get("split") for row in rows.values()):
        notes += _both_sides(clips, path)
        notes += one_sided(clips, classes, where=path, hint="give rows of them the split that they lack")
    else:
        clips = seeded_split(clips, options)
        notes += one_sided(clips, classes, where=path, hint=MORE_GROUPS)
    name = path.stem if options.list_file else root.name or "csv"
    return Reading(manifest=manifest_of(name, root, classes, [SPLIT], clips, [path]), absent=absent, notes=(*grouped, *notes))


def _clip(row: Mapping[str, str], classes: list[str], groups: Mapping[str, str], where: str) -> Clip:
    if row.get("split") and row["split"] not in SUBSETS:
        raise DataError(f"{where}: split {row['split']!r} is not one of {', '.join(SUBSETS)}")
    if not row["path"]:
        raise DataError(f"{where}: no path", hint="give the path of a video, relative to --data.root")
    try:
        start_s, end_s = (float(row[column]) if row.get(column) else None for column in ("start_s", "end_s"))
        if not math.isfinite((start_s or 0) + (end_s or 0)):
            raise ValueError("not finite")
    except ValueError as error:
        raise DataError(f"{where}: start_s and end_s are numbers of seconds", reason=error) from None
    clip = Clip(
        path=str(PurePosixPath(row["path"])),
        label=classes.index(row["label"]) if row["label"] else None,
        group=row.get("group") or groups[row["path"]],
        subsets={SPLIT: row["split"]} if row.get("split") else {},
        start_s=start_s or 0.0,
        end_s=end_s,
    )
    check_clip(clip, classes, [SPLIT], where)
    return clip


def _checked(named: Mapping[str, Clip], root: Path) -> list[Clip]:
    """The clips, whose intervals lie inside their videos: those of files with an interval are opened once, for their length.

    Raises DataError for an interval outside, and where rows give a file to different groups: held-out groups would share frames with
    training.
    """
    from vidkd.video import open_video

    durations_s: dict[str, float] = {}
    first: dict[str, tuple[str, str]] = {}
    clips = []
    for where, clip in named.items():
        before, group = first.setdefault(clip.path, (where, clip.group))
        if group != clip.group:
            hint = "give all rows of a file the same group"
            raise DataError(f"{where}: '{clip.path}' is in group '{clip.group}', in {before} in group '{group}'", hint=hint)
        if clip.start_s or clip.end_s is not None:
            if clip.path not in durations_s:
                durations_s[clip.path] = math.inf  # of a file that is no video, which is found out with all others
                with contextlib.suppress(VideoError), open_video(root / clip.path) as video:
                    durations_s[clip.path] = video.info.duration_s
            clip = dataclasses.replace(clip, end_s=inside(clip.start_s, clip.end_s, durations_s[clip.path], where, clip.path))
        clips.append(clip)
    return clips


def _both_sides(clips: Sequence[Clip], path: Path) -> tuple[str, ...]:
    """A warning of groups, among them files, that the column split puts into training and into another subset."""
    subsets: dict[str, set[str]] = {}
    for clip in clips:
        subsets.setdefault(clip.group, set()).update(clip.subsets.values())
    leaking = [group for group, found in subsets.items() if "train" in found and len(found) > 1]
    if not leaking:
        return ()
    what = f"warning: {len(leaking)} groups are in training and in another subset: a test on them overstates the model"
    hint = "give all rows of a group (a file, a person, a scene) the same split"
    return (str(DataError(what, groups=shortened(leaking), where=path, hint=hint)),)
