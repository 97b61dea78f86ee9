"""What folder and csv look at in a user's own data, for which no archive vouches: do the files open, has each class both sides?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vidkd.base.errors import DataError, VideoError
from vidkd.base.walk import map_files
from vidkd.data.layouts.layout import SHOWN, Options, shortened
from vidkd.data.manifest import Clip

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
    """Why a file is no video as far as its first frame tells, None if it is one; no more is decoded (runs in a worker process)."""
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
