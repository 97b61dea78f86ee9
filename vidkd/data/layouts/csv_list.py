"""A CSV file with the columns path,label and optionally start_s, end_s, group, split, one clip a row."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import Options, Reading, compiled, hashes, may_flip, not_found, shortened
from vidkd.data.layouts.lists import check_overlaps, inside, read_table
from vidkd.data.layouts.own_data import MORE_GROUPS, SPLIT, broken_files, groups_of, one_sided, seeded_split
from vidkd.data.manifest import SUBSETS, Clip, Manifest, check_clip

EXPECTED = "clips.csv (or --list FILE) with the columns path,label and optionally start_s,end_s,group,split"
COLUMNS = ("path", "label", "start_s", "end_s", "group", "split")


def read(root: Path, options: Options) -> Reading:
    """Labels are names, or numbers throughout; an empty one is an unlabelled clip. Without the column split, 70 % of the groups train.

    Intervals must lie inside their videos and, unless `allow_overlap`, not overlap in one.
    """
    if not root.is_dir():
        not_found("csv", root, EXPECTED, f"{root} is {'no folder' if root.exists() else 'missing'}")
    path = options.list_file or root / "clips.csv"
    if not path.is_file():
        not_found("csv", root, EXPECTED, f"{path} is missing")
    rows = read_table(path, ("path", "label"), known=COLUMNS)
    labels = {row["label"] for row in rows.values()} - {""}
    classes = sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
    unnamed = [row["path"] for row in rows.values() if row["path"] and not row.get("group")]
    groups, grouped = groups_of(unnamed, compiled(options.group_pattern))
    clips = [_clip(row, classes, groups, f"{path}:{line}") for line, row in rows.items()]
    absent = tuple(dict.fromkeys(clip.path for clip in clips if not (root / clip.path).is_file()))
    lines = {line: clip for line, clip in zip(rows, clips, strict=True) if clip.path not in set(absent)}
    _check_there(root, path, absent, lines, options)
    broken, left_out = broken_files(list(lines.values()), root, options)
    lines = {line: clip for line, clip in lines.items() if clip.path not in broken}
    durations_s: dict[str, float] = {}
    here = [_checked(clip, root, durations_s, f"{path}:{line}") for line, clip in lines.items()]
    notes = check_overlaps(here, lambda number: f"{path}:{list(lines)[number]}", allowed=options.allow_overlap)
    given = any(row.get("split") for row in rows.values())
    _check_one_group(here, lines, path)
    notes = (*notes, *_both_sides(here, path)) if given else notes
    if not given:
        here = seeded_split(here, options)
    hint = "give rows of them the split that they lack" if given else MORE_GROUPS
    warnings = one_sided(here, classes, SPLIT, where=path, hint=hint)
    manifest = Manifest(
        name=path.stem if options.list_file else root.name or "csv",
        root=root,
        classes=tuple(classes),
        splits=(SPLIT,),
        clips=tuple(here),
        horizontal_flip=may_flip(root, classes),
        sources=hashes(root, [path]),
    )
    return Reading(manifest=manifest, absent=absent, notes=(*left_out, *grouped, *notes, *warnings))


def _check_one_group(clips: Sequence[Clip], lines: Collection[int], path: Path) -> None:
    """Raise DataError if two rows give one file to different groups: held-out groups would share its frames with training."""
    first: dict[str, tuple[str, int]] = {}
    for clip, line in zip(clips, lines, strict=True):
        group, before = first.setdefault(clip.path, (clip.group, line))
        if group != clip.group:
            raise DataError(
                f"{path}:{line}: '{clip.path}' is in group '{clip.group}', in line {before} in group '{group}'",
                hint="give all rows of a file the same group",
            )


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


def _check_there(root: Path, path: Path, absent: tuple[str, ...], here: Collection[object], options: Options) -> None:
    if not here:
        not_found("csv", root, EXPECTED, f"none of the files that {path} names ({shortened(absent)})" if absent else f"no row in {path}")
    if absent and not options.allow_missing:
        raise DataError(
            f"{len(absent)} files that {path} names are missing",
            looked_in=root,
            missing=shortened(absent),
            hint="give paths relative to --root, or leave them out with --allow-missing",
        )


def _checked(clip: Clip, root: Path, durations_s: dict[str, float], where: str) -> Clip:
    """The clip, if its interval lies inside its video; files with an interval are opened once, for their length, and not decoded."""
    if clip.start_s == 0 and clip.end_s is None:
        return clip
    if clip.path not in durations_s:
        from vidkd.video import open_video

        with open_video(root / clip.path) as video:
            durations_s[clip.path] = video.info.duration_s
    return dataclasses.replace(clip, end_s=inside(clip.start_s, clip.end_s, durations_s[clip.path], where, clip.path))


def _clip(row: Mapping[str, str], classes: list[str], groups: Mapping[str, str], where: str) -> Clip:
    if row.get("split") and row["split"] not in SUBSETS:
        raise DataError(f"{where}: split {row['split']!r} is not one of {', '.join(SUBSETS)}")
    if not row["path"]:
        raise DataError(f"{where}: no path", hint="give the path of a video, relative to --root")
    path = PurePosixPath(row["path"])
    clip = Clip(
        path=str(path),
        label=classes.index(row["label"]) if row["label"] else None,
        group=row.get("group") or groups[row["path"]],
        subsets={SPLIT: row["split"]} if row.get("split") else {},
        start_s=_seconds(row, "start_s", where) or 0.0,
        end_s=_seconds(row, "end_s", where),
    )
    check_clip(clip, classes, [SPLIT], where)
    return clip


def _seconds(row: Mapping[str, str], column: str, where: str) -> float | None:
    if not row.get(column):
        return None
    try:
        seconds = float(row[column])
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise DataError(f"{where}: {column} {row[column]!r} is not a number of seconds")
    return seconds
