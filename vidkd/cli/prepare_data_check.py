"""Find videos that cannot be read, or that decord would misread.

Every file is decoded once from beginning to end, then sample frames are read by index with PyAV and compared. Files are only read.
Exit code 1 if a file is unusable; an unreliable index is reported but is no failure, since only data.decoder=decord refuses such files.

  vidkd prepare_data check videos/ --out checks.jsonl           a folder, with results kept: run again to resume, or for new files only
  vidkd prepare_data check 'clips/*.avi' --normalise clean/     write clean copies (constant rate H.264) that can be read by index
"""

import glob
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.fields import Whole
from vidkd.cli.verb_parser import positional

COLUMNS = ("file", "codec", "size", "frames", "fps", "seconds", "index", "problem")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which files are checked, and what is written.

    Args:
        paths: video files, folders (searched to any depth) or quoted globs.
        out: keep results in this file of JSON lines; unchanged files are not checked again.
        normalise: write a clean copy of every usable file into this folder.
        workers: processes (default: one a CPU; 1: none besides this one).
        dask: a Dask scheduler (tcp://host:port) to use in place of local processes.
        samples: frames compared besides the first and the last.
        json: print rows and summary as JSON in place of a table.
    """

    paths: tuple[str, ...] = positional("PATH")
    out: Path | None = None
    normalise: Path | None = None
    workers: Whole | None = None
    dask: str | None = None
    samples: Whole = 10
    json: bool = False


def run(given: Settings) -> int:
    """Check, copy if asked to, print; returns 1 if a file is unusable or a copy failed."""
    found = find_videos(given.paths, leave_out=given.normalise)
    rows = check_files(list(found), given)
    copies = normalise_files(rows, found, given.normalise, given) if given.normalise else {}
    failed = {path: copy["error"] for path, copy in copies.items() if copy["error"]}
    summary = summarise(rows, copies)
    if given.json:
        report = {"schema_version": 1, "files": rows, "copies": copies, "summary": summary}
        sys.stdout.write(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(f"{table(rows)}\n{describe(summary, failed, given.normalise)}\n")
    return 1 if summary["unusable"] or failed else 0


def find_videos(paths: Sequence[str], leave_out: Path | None = None) -> dict[str, str]:
    """Files to check, in order, each with its path below the folder or glob that led to it. Raises DataError if one leads to nothing.

    Files named one by one are taken whatever their suffix; folders are searched for known suffixes, hidden files and `leave_out` apart.
    """
    from vidkd.video.files import VIDEO_SUFFIXES

    found: dict[str, str] = {}
    for name in paths:
        files = _files_at(name)
        if not files:
            raise DataError(f"no videos at: {name}", looked_for="a file, a glob, or a folder with " + " ".join(sorted(VIDEO_SUFFIXES)))
        for file, below in files.items():
            if leave_out is None or leave_out.resolve() not in Path(file).resolve().parents:
                found.setdefault(file, below)
    return found


def _files_at(name: str) -> dict[str, str]:
    from vidkd.video.files import video_files

    path = Path(name)
    if path.is_dir():
        return {str(file): str(file.relative_to(path)) for file in video_files(path, deep=True)}
    if path.exists():
        return {name: path.name}
    matches = (Path(match) for match in sorted(glob.glob(name, recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute patterns
    return {str(match): match.name for match in matches if match.is_file()}


def check_files(files: Sequence[str], given: Settings) -> list[dict[str, Any]]:
    """One row a file, in the order of `files`; see vidkd.video.VideoCheck for the columns."""
    from dataclasses import asdict

    from vidkd.base.progress import Progress
    from vidkd.base.walk import map_files
    from vidkd.video.check import VideoCheck

    rows: dict[str, dict[str, Any]] = {}
    check, key = partial(check_file, samples=given.samples), f"check-2-samples-{given.samples}"
    walk = map_files(check, files, out=given.out, workers=given.workers, dask=given.dask, key=key)
    for result in Progress(len(files), "checked", every_steps=1 << 60).over(walk):
        # a file at which the check itself failed, or its process died, is unusable
        rows[result.item] = result.value or asdict(VideoCheck(path=result.item, first_error=result.error))
    return [rows[file] for file in files]


def check_file(item: str, *, samples: int) -> dict[str, Any]:
    """The row of one file; runs in a worker process."""
    from dataclasses import asdict

    from vidkd.video import check_video

    return asdict(check_video(item, samples=samples))


def normalise_files(
    rows: Sequence[Mapping[str, Any]], found: Mapping[str, str], folder: Path, given: Settings
) -> dict[str, dict[str, Any]]:
    """Clean copies of the usable files that have none newer than themselves: source -> {"copy": path, "error": text or None}."""
    from vidkd.base.progress import Progress
    from vidkd.base.walk import map_files

    targets = {source: str(target) for source, target in copy_names(found, folder).items()}
    copies: dict[str, dict[str, Any]] = {row["path"]: {"copy": targets[row["path"]], "error": None} for row in rows if row["usable"]}
    todo = [source for source in copies if not _is_current(Path(source), Path(targets[source]))]
    walk = map_files(partial(normalise_file, targets=targets), todo, workers=given.workers, dask=given.dask)
    for result in Progress(len(todo), "copied", every_steps=1 << 60).over(walk):
        copies[result.item]["error"] = result.error or result.value
    return copies


def normalise_file(item: str, *, targets: Mapping[str, str]) -> str | None:
    """Write the copy of one file; returns what is wrong with it (it is removed then), or None. Runs in a worker process."""
    from vidkd.video import normalise_video

    check = normalise_video(item, targets[item])
    if check.index_reliable:
        return None
    Path(targets[item]).unlink()
    return check.first_error or check.index_problem


def copy_names(found: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Source -> its copy below `folder`, in the same sub-folders with the suffix .mp4; the old suffix stays where names would clash.

    Raises ConfigError if two sources would still get one copy.
    """
    plain = Counter(Path(below).with_suffix(".mp4") for below in found.values())
    names = {}
    for source, below in found.items():
        name = Path(below).with_suffix(".mp4")
        names[source] = folder / (name if plain[name] == 1 else f"{below}.mp4")
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise ConfigError(f"two files would get the same copy: {twice[0]}", hint="check them in two runs, or name the folder above both")
    return names


def _is_current(source: Path, copy: Path) -> bool:
    return copy.exists() and copy.stat().st_mtime >= source.stat().st_mtime


def summarise(rows: Sequence[Mapping[str, Any]], copies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Counts of files: all, unusable, usable with an unreliable index, copies; frames and seconds of the usable ones."""
    usable = [row for row in rows if row["usable"]]
    return {
        "files": len(rows),
        "usable": len(usable),
        "unusable": len(rows) - len(usable),
        "unreliable_index": sum(not row["index_reliable"] for row in usable),
        "frames": sum(row["frame_count"] for row in usable),
        "duration_s": round(sum(row["duration_s"] for row in usable), 3),
        "copies": sum(copy["error"] is None for copy in copies.values()),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a file, columns aligned; unusable files last, where they are seen. Paths are given below the folder that all share."""
    from vidkd.report.page import aligned

    folder = _common_folder([row["path"] for row in rows])
    lines = [COLUMNS, *(_cells(row, folder) for row in sorted(rows, key=lambda row: not row["usable"]))]
    return "\n".join([f"in {folder}"] * bool(folder) + [aligned(lines).rstrip("\n")])


def _common_folder(paths: Sequence[str]) -> str:
    """The folder above all of these; empty where only the root is, or nothing, as for relative and absolute paths mixed."""
    try:
        folder = os.path.commonpath([Path(path).parent for path in paths])
        return "" if folder == os.path.dirname(folder) else folder  # noqa: PTH120 - Path("") is "."
    except ValueError:
        return ""


def _cells(row: Mapping[str, Any], folder: str) -> tuple[str, ...]:
    file = os.path.relpath(row["path"], folder) if folder else row["path"]
    size = f"{row['width']}x{row['height']}" if row["width"] else "-"
    numbers = (str(row["frame_count"]), f"{row['average_fps']:.3f}", f"{row['duration_s']:.2f}") if row["frame_count"] else ("-", "-", "-")
    if not row["usable"]:
        return file, row["codec"] or "-", size, *numbers, "-", f"UNUSABLE: {row['first_error']}"
    return file, row["codec"], size, *numbers, "ok" if row["index_reliable"] else "unreliable", row["index_problem"] or ""


def describe(summary: Mapping[str, Any], failed: Mapping[str, str], folder: Path | None) -> str:
    """The lines under the table."""
    usable = f"{summary['usable']} usable ({summary['frames']} frames, {summary['duration_s'] / 60:.1f} minutes)"
    files = "1 file" if summary["files"] == 1 else f"{summary['files']} files"
    lines = ["", f"{files}: {usable}, {summary['unusable']} unusable"]
    if summary["unreliable_index"]:
        lines.append(f"{summary['unreliable_index']} with an unreliable index: decord refuses them, PyAV reads them, some slowly in order")
        lines += [] if folder else ["fix: --normalise OUT writes copies that every decoder reads by index"]
    if folder:
        lines.append(f"clean copies in {folder}: {summary['copies']}")
        lines += [f"  not copied: {path}: {error.splitlines()[0]}" for path, error in failed.items()]
    return "\n".join(lines)
