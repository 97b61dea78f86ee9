r"""Turn a data set, as its official archive unpacks, into a checked manifest that training reads.

layouts: ucf101, hmdb51, jhmdb, something, weizmann, ut_interaction, ut_interaction_untrimmed, epic100, folder (one folder a class),
csv (path,label,...).
What each one expects is told by its error when it is not there, and by docs/guides/data.md. Nothing is decoded unless --check is given,
save the first frame of each file of folder and csv, to see that it is a video.

  vidkd prepare_data ucf101 --root /data/ucf101
  vidkd prepare_data folder --root clips --group '_take\d+$'      "anna_take2.mp4" belongs to group "anna"
  vidkd prepare_data ucf101 --root /data/ucf101 --out ucf101.jsonl      where nothing can be written in the root: vidkd train
                                                                        then takes --data.manifest ucf101.jsonl
"""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.base.errors import DataError, VideoError, unknown_name
from vidkd.cli.number_flags import add_count

FEW_FILES = 2000

if TYPE_CHECKING:
    from vidkd.data.layouts import Reading
    from vidkd.data.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("layout", help="how the data set lies on disk (see above)")
    parser.add_argument("--root", type=Path, required=True, help="folder into which the data set was unpacked")
    parser.add_argument("--out", type=Path, help="the manifest to write (default: manifest.jsonl in the root)")
    parser.add_argument("--name", help="name of the data set in results (default: the layout's, or the folder's)")
    parser.add_argument("--allow-missing", action="store_true", help="leave out clips without a (usable) file; they are counted")
    parser.add_argument("--group", metavar="REGEX", help="folder, csv: a clip's group is its file name up to this (default: inferred)")
    add_count(parser, "--seed", least=0, default=0, help="folder, csv without splits: draws the 70/30 split (default: 0)")
    parser.add_argument("--list", type=Path, metavar="CSV", help="csv: the list (default: clips.csv in the root)")
    parser.add_argument("--allow-overlap", action="store_true", help="csv, ut_interaction_untrimmed: actions of a file may overlap in time")
    parser.add_argument("--no-boxes", dest="boxes", action="store_false", help="jhmdb: do not read the puppet masks")
    parser.add_argument("--check", action="store_true", help="decode every video and record whether its random access is reliable")
    add_count(parser, "--workers", least=0, help="processes that open or decode videos (default: one a CPU)")
    parser.add_argument("--dask", metavar="ADDRESS", help="--check: a Dask scheduler, tcp://host:port, instead of processes here")


def run(arguments: argparse.Namespace) -> int:
    """Read the layout, check, write the manifest, print what is in it."""
    from vidkd.data.index import build_index
    from vidkd.data.layouts import LAYOUTS, Options

    if arguments.layout not in LAYOUTS:
        raise unknown_name("layout", arguments.layout, LAYOUTS)
    root = arguments.root.expanduser().absolute()
    out = (arguments.out or root / "manifest.jsonl").expanduser()
    _check_out(out)
    options = Options(
        allow_missing=arguments.allow_missing,
        seed=arguments.seed,
        group_pattern=arguments.group,
        list_file=arguments.list.expanduser().absolute() if arguments.list else None,
        boxes=arguments.boxes,
        allow_overlap=arguments.allow_overlap,
        open_files=not arguments.check,  # which does more
        workers=arguments.workers,
    )
    reading = LAYOUTS[arguments.layout](root, options)
    if arguments.name:
        reading = dataclasses.replace(reading, manifest=dataclasses.replace(reading.manifest, name=arguments.name))
    if arguments.check:
        reading = _checked(reading, arguments.allow_missing, arguments.workers, arguments.dask)
    _write(reading.manifest, out)
    build_index(reading.manifest, out, workers=_index_workers(reading.manifest, arguments.workers), dask=arguments.dask)
    sys.stdout.write(f"{table(reading.manifest)}\n{_remarks(reading)}{_remark_on_groups(reading.manifest, arguments)}written: {out}\n")
    return 0


def _index_workers(manifest: "Manifest", workers: int | None) -> int | None:
    """At about a millisecond a file, starting processes takes longer than reading few."""
    return 1 if workers is None and len(manifest.clips) <= FEW_FILES else workers


def _check_out(out: Path) -> None:
    """Only a manifest may be written over."""
    from vidkd.data.manifest import is_manifest

    if out.is_dir():
        raise DataError(f"--out is a folder: {out}", hint=f"--out {out / 'manifest.jsonl'}")
    if out.exists() and out.stat().st_size and not is_manifest(out):
        raise DataError(f"--out names a file that is no manifest: {out}", hint="name another file; this one was left as it is")


def _write(manifest: "Manifest", out: Path) -> None:
    try:
        manifest.write(out)
    except OSError as error:
        raise DataError(
            f"the manifest cannot be written: {out}", reason=error.strerror or error, hint="name another place with --out"
        ) from error


def table(manifest: "Manifest") -> str:
    """Counts of clips, classes and groups, then for each split its clips by subset and how many groups stand on both sides."""
    groups = {clip.group for clip in manifest.clips}
    lines = [f"{manifest.name}: {len(manifest.clips)} clips, {len(manifest.classes)} classes, {len(groups)} groups"]
    width = max(len("split"), *map(len, manifest.splits))
    lines.append(f"{'split':<{width}}  {'train':>6}  {'val':>6}  {'test':>6}  {'unused':>6}  groups in train and test")
    for split in manifest.splits:
        counts = Counter(clip.subsets.get(split, "unused") for clip in manifest.clips)
        numbers = "  ".join(f"{counts[subset]:>6}" for subset in ("train", "val", "test", "unused"))
        lines.append(f"{split:<{width}}  {numbers}  {len(shared_groups(manifest, split)):>6}")
    return "\n".join(lines)


def shared_groups(manifest: "Manifest", split: str) -> set[str]:
    """Groups with clips both in the training and in the test subset of a split."""
    train, test = ({clip.group for clip in manifest.select(split, subset)} for subset in ("train", "test"))
    return train & test


def _remarks(reading: "Reading") -> str:
    from vidkd.data.layouts.common import shortened

    absent = [f"left out, no file: {len(reading.absent)} clips: {shortened(reading.absent)}"] if reading.absent else []
    return "".join(f"{line}\n" for line in (*absent, *reading.notes))


def _remark_on_groups(manifest: "Manifest", arguments: argparse.Namespace) -> str:
    """What to check where nothing tells which files of a user's own data belong together."""
    alone = len({clip.group for clip in manifest.clips}) == len({clip.path for clip in manifest.clips})
    if not alone or arguments.layout not in ("folder", "csv") or arguments.group is not None:
        return ""
    return (
        "each file is a group of its own; where several show one person, scene or source video, name what they share with --group REGEX, "
        "or training and test clips are not independent\n"
    )


def check_file(path: str) -> dict[str, Any]:
    """What `check_video` finds, as far as the manifest needs it; of a folder of images, whether it is whole (in a worker process)."""
    from vidkd.video import check_video, open_video

    if Path(path).is_dir():
        try:
            with open_video(path) as images:
                for _image in images.stream():
                    pass
        except VideoError as error:
            return {"usable": False, "index_reliable": False, "first_error": str(error)}
        return {"usable": True, "index_reliable": True, "first_error": None}
    found = check_video(path)
    return {"usable": found.usable, "index_reliable": found.index_reliable, "first_error": found.first_error}


def _checked(reading: "Reading", allow_missing: bool, workers: int | None, dask: str | None) -> "Reading":
    """The reading with `index_reliable` as found; unusable videos are an error, or left out with `allow_missing`."""
    from vidkd.base.walk import map_files
    from vidkd.data.layouts.common import shortened

    manifest = reading.manifest
    files = {str(manifest.root / clip.path): clip.path for clip in manifest.clips}
    unusable: dict[str, str] = {}
    reliable: dict[str, bool] = {}
    for result in map_files(check_file, list(files), workers=workers, dask=dask):
        found: Mapping[str, Any] = result.value or {"usable": False, "index_reliable": False, "first_error": result.error}
        reliable[files[result.item]] = found["index_reliable"]
        if not found["usable"]:
            unusable[files[result.item]] = found["first_error"] or "no frame can be decoded"
    if unusable and (not allow_missing or len(unusable) == len(reliable)):
        raise _unusable(unusable, manifest.root)
    clips = tuple(dataclasses.replace(clip, index_reliable=reliable[clip.path]) for clip in manifest.clips if clip.path not in unusable)
    wild = sorted({clip.path for clip in clips if not clip.index_reliable})
    notes = [f"random access is not reliable in {len(wild)} videos, which will be read in order: {shortened(wild)}"] if wild else []
    notes += [f"left out, cannot be decoded: {len(unusable)} videos: {shortened(sorted(unusable))}"] if unusable else []
    return dataclasses.replace(reading, manifest=dataclasses.replace(manifest, clips=clips), notes=(*reading.notes, *notes))


def _unusable(unusable: Mapping[str, str], root: Path) -> DataError:
    from vidkd.data.layouts.common import SHOWN

    first: Sequence[tuple[str, str]] = sorted(unusable.items())[:SHOWN]
    return DataError(
        f"{len(unusable)} videos cannot be decoded",
        looked_in=root,
        **{("first" if place == 0 else f"then {place}"): f"{path}: {reason}" for place, (path, reason) in enumerate(first)},
        hint="take them from the archive again, or leave them out with --allow-missing",
    )
