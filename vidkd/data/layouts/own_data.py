"""A user's own data, which has no official lists: which clips belong together, a split by groups, whether the files open."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from vidkd.base.errors import DataError, VideoError
from vidkd.base.walk import map_files
from vidkd.data.groups import hold_out_groups
from vidkd.data.layouts.common import SHOWN, Options, shortened
from vidkd.data.manifest import Clip

SPLIT = "1"
MORE_GROUPS = "a drawn split needs two groups of a class, of which one may be tested: add videos, or let --group cut finer"
FEW_FILES = 5000
"""So many are opened in this process, at about a millisecond each: starting others and sending them every name would take as long."""


def broken_files(clips: Sequence[Clip], root: Path, options: Options) -> tuple[frozenset[str], tuple[str, ...]]:
    """The paths of clips whose files do not open as videos, to be left out, and a remark on them; none if `options.open_files` is off.

    Raises DataError that names the files and why they do not open, unless `allow_missing`; always if none opens.
    """
    if not options.open_files:
        return frozenset(), ()
    files = {str(root / clip.path): clip.path for clip in clips}
    workers = 1 if options.workers is None and len(files) <= FEW_FILES else options.workers
    broken: dict[str, str] = {}
    for found in map_files(why_not_openable, list(files), workers=workers):
        if reason := found.error or found.value:
            broken[files[found.item]] = reason
    if broken and (not options.allow_missing or len(broken) == len(files)):
        raise _unusable(broken, len(files), root)
    remark = (f"left out, cannot be opened: {len(broken)} files: {shortened(sorted(broken))}",) if broken else ()
    return frozenset(broken), remark


def why_not_openable(path: str) -> str | None:
    """Why a file is no video, None if its first frame decodes; no more is decoded (runs in a worker process)."""
    from vidkd.video.containers import decoded_frames, opened

    try:
        if not Path(path).stat().st_size:
            return "the file is empty"
        with opened(path) as (container, stream):
            first = next(decoded_frames(container, stream, path), None)
    except OSError as error:
        return error.strerror or str(error)
    except VideoError as error:
        return error.lines.get("reason", error.what)
    return "it holds no frame" if first is None else None


def _unusable(broken: Mapping[str, str], files: int, root: Path) -> DataError:
    first = sorted(broken.items())[:SHOWN]
    more = {"and": f"{len(broken) - SHOWN} more"} if len(broken) > SHOWN else {}
    return DataError(
        f"{len(broken)} of {files} video files cannot be opened",
        looked_in=root,
        **{("first" if place == 0 else f"then {place}"): f"{path}: {reason}" for place, (path, reason) in enumerate(first)},
        **more,
        hint=f"replace or remove them, or leave them out with --allow-missing   (all that is wrong: vidkd check_videos {root})",
    )


def one_sided(clips: Sequence[Clip], classes: Sequence[str], split: str, *, where: object, hint: str) -> tuple[str, ...]:
    """Warnings of classes none of whose clips are in `train`, or in `test`, of a split: what, where and how to mend.

    Such a class is never learned, or never judged. Classes without any clip are not counted.
    """
    labels = {subset: {clip.label for clip in clips if clip.subsets.get(split) == subset} for subset in ("train", "test")}
    every = sorted({clip.label for clip in clips if clip.label is not None})
    warnings = []
    for subset, found in labels.items():
        if lacking := [classes[label] for label in every if label not in found]:
            what = f"warning: {len(lacking)} of {len(classes)} classes have no {subset} clip"
            warnings.append(str(DataError(what, classes=shortened(lacking), where=where, hint=hint)))
    return tuple(warnings)


CLIP_OF_GROUP = (
    r"(?<=g\d)_c\d+$|(?<=g\d\d)_c\d+$|(?<=g\d\d\d)_c\d+$",  # v_Punch_g13_c06: UCF101 and what is named like it
    r"_\d{6}_\d{6}$",  # <YouTube id>_000010_000020: Kinetics
    r"(?i)[ _.-]+(clip|part|seg|segment|scene|shot|chunk|cut|take|split)[ _.-]*\d+$",  # anna_take2, film.part03
)
"""Ends of names of which several belong to one group; the first one that more than half of the files have is taken."""


def groups_of(paths: Sequence[str], pattern: re.Pattern[str] | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """The group of each file, and a remark where it was inferred: the file's name up to the pattern, or the file itself without one in it.

    pattern: None infers one from the names, see CLIP_OF_GROUP.
    """
    inferred = None if pattern is not None else _common_end(paths)
    groups = {path: _group_of(path, pattern or inferred) for path in paths}
    if inferred is None or len(set(groups.values())) == len(groups):
        return groups, ()
    path = next(path for path in paths if inferred.search(PurePosixPath(path).stem))
    example = f"{PurePosixPath(path).name} belongs to {groups[path]}"
    count = len(set(groups.values()))
    return groups, (f"groups are inferred from the names: {count} of {len(groups)} files, as {example}; --group REGEX sets others",)


def _common_end(paths: Sequence[str]) -> re.Pattern[str] | None:
    for end in map(re.compile, CLIP_OF_GROUP):
        if 2 * sum(end.search(PurePosixPath(path).stem) is not None for path in paths) > len(paths):
            return end
    return None


def _group_of(path: str, pattern: re.Pattern[str] | None) -> str:
    file = PurePosixPath(path)
    match = pattern.search(file.stem) if pattern else None
    return file.stem[: match.start()] if match and match.start() else str(file.with_suffix(""))


def seeded_split(clips: list[Clip], options: Options) -> list[Clip]:
    """The clips with split "1" drawn: whole groups, every class on both sides where it has two groups."""
    _, test = hold_out_groups(clips, options.test_fraction, options.seed)
    groups = {clip.group for clip in test}
    return [dataclasses.replace(clip, subsets={SPLIT: "test" if clip.group in groups else "train"}) for clip in clips]
