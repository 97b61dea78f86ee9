"""The index of a data set's videos, kept next to its manifest: computed once by `prepare_data`, used by every training."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vidkd.base.errors import VideoError
from vidkd.base.progress import Progress
from vidkd.base.walk import WalkResult, map_files

FEW_FILES = 2000
"""So many are read in this process, at about a millisecond each: starting others would take as long."""


def index_file(manifest: Path | str) -> Path:
    """Path of the index of the videos of the manifest at this path."""
    return Path(manifest).with_suffix(".index")


@dataclass
class VideoIndex:
    """What `inspect_videos` found, by path from the root: records for `write_index_file`, reasons of files that are no sound videos.

    misread: files of which decord would give other frames than those asked for; it refuses them.
    """

    records: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    misread: list[str] = field(default_factory=list)


def inspect_videos(
    root: Path, paths: Iterable[str], *, decode: bool = False, workers: int | None = None, dask: str | None = None
) -> VideoIndex:
    """Read the packets of all videos, and with `decode` every picture; folders of images are only looked at with it.

    workers, dask: as for `map_files`.
    """
    files = {str(root / path): path for path in paths if decode or not (root / path).is_dir()}
    quick = len(files) <= FEW_FILES and not decode
    workers = 1 if workers is None and dask is None and quick else workers
    index = VideoIndex()
    walk: Iterable[WalkResult] = map_files(functools.partial(_inspect, decode=decode), list(files), workers=workers, dask=dask)
    for found in walk if quick else Progress(len(files), "looked at files", every_steps=10**9, every_s=5).over(walk):
        path, seen = files[found.item], found.value or {"broken": found.error}
        if seen.get("broken"):
            index.broken[path] = seen["broken"]
        elif seen.get("record"):
            index.records[path] = seen["record"]
        if seen.get("misread"):
            index.misread.append(path)
    return index


def _inspect(path: str, *, decode: bool) -> dict[str, str]:
    """What of `VideoIndex` is true of one file (runs in a worker process)."""
    from vidkd.video import check_video, open_video
    from vidkd.video.index import index_record

    try:
        if Path(path).is_dir():
            with open_video(path) as images:
                for _image in images.stream():
                    pass
            return {}
        found = check_video(path) if decode else None
        if found is not None and not found.usable:
            return {"broken": found.first_error or "no frame can be decoded"}
        problem = found.index_problem if found else None
        return {"record": index_record(path, problem=problem), "misread": problem or ""}
    except (VideoError, OSError) as error:
        return {"broken": error.lines.get("reason", error.what) if isinstance(error, VideoError) else error.strerror or str(error)}
