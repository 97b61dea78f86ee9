"""What a user names as inputs: single videos, image sequences and live sources, and their frames from any frame on."""

import contextlib
import glob
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkd.base.errors import DataError, VideoError
from vidkd.base.files import near_files
from vidkd.detection.stream.folder import shown
from vidkd.inference.sources import is_live, open_source, whole_from
from vidkd.video import Frame, open_video
from vidkd.video.files import VIDEO_SUFFIXES, is_video_file, video_files
from vidkd.video.image_sequence import IMAGE_SUFFIXES, is_image_sequence, list_images


@dataclass(frozen=True, kw_only=True)
class StreamSource:
    """fps: average rate, of a live source a guess. count: frames of the whole input, None if unknown. frames: from `start` on.

    frames raises VideoError where the input cannot be read on, and at its end if the file promised more.
    """

    name: str
    live: bool
    fps: float
    count: int | None
    frames: Iterator[Frame]


@contextlib.contextmanager
def open_from(name: str, *, start: int = 0, sequence_fps: float | None = None) -> Iterator[StreamSource]:
    """An input open for one pass that begins at the frame `start`; a live source begins where it is.

    As `open_source`, which knows no start and no count. Raises VideoError if it is missing, or no video.
    """
    if is_live(name):
        with open_source(name) as live:
            yield StreamSource(name=name, live=True, fps=live.fps, count=None, frames=live.frames)
    else:
        with open_video(name, backend="pyav", sequence_fps=sequence_fps) as video:
            yield StreamSource(name=name, live=False, fps=video.info.average_fps, count=len(video), frames=whole_from(video, start))


def constant_size(frames: Iterator[Frame], before: tuple[int, int] | None = None) -> Iterator[Frame]:
    """The frames, as long as they have one size. Raises VideoError at the first that has another.

    before: (width, height) of those that came before these, None for the first frames of all.
    """
    for frame in frames:
        height, width = frame.image.shape[:2]
        before = before or (width, height)
        if (width, height) != before:
            reason = f"{width} x {height}, {before[0]} x {before[1]} before"
            raise VideoError("the size of the frames changes", after_frames=frame.index, reason=reason)
        yield frame


log = logging.getLogger(__name__)


def find_inputs(names: Sequence[str], *, leave_out: Path) -> list[str]:
    """The single inputs that these names lead to, each once, in order.

    names: files; folders of videos (searched to any depth) or, without one, of images; globs of videos or of images; patterns (`%05d.png`);
    a camera's number, an address. leave_out: a folder whose videos are not inputs. Raises DataError for a name that leads to nothing,
    VideoError for a sequence with a gap.
    """
    found: dict[str, None] = {}
    outside = leave_out.resolve()
    for name in names:
        inputs = [file for file in _inputs_at(name) if is_live(file) or outside not in Path(file).resolve().parents]
        if not inputs:
            raise _nothing_in(name)
        found.update(dict.fromkeys(inputs))
    _tell_loose_images(names)
    return list(found)


def _nothing_in(name: str) -> DataError:
    path, lines = Path(name), {"suffixes": " ".join(sorted({*VIDEO_SUFFIXES, *IMAGE_SUFFIXES}))}
    if path.is_dir():
        what = f"no video and no image in the folder: {name}"
    elif _is_glob(name):
        what = f"no video and no image matches: {name}"
    else:
        what, lines = f"no such file or folder: {name}", near_files(path, (path.suffix.lower(),))
    mend = "name a file, a folder or quoted glob of videos or images, a camera's number, or an address (rtsp://...)"
    return DataError(what, **lines, hint=mend)


def _tell_loose_images(names: Sequence[str]) -> None:
    """A glob that the shell has expanded is one input an image, which is seldom meant."""
    images = [path for path in map(Path, names) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if len(images) > 1 and len({image.parent for image in images}) == 1:
        glob_of = images[0].parent / f"*{images[0].suffix}"
        log.warning("%d images are taken as %d inputs; as one sequence: '%s', in quotes", len(images), len(images), glob_of)


def _inputs_at(name: str) -> list[str]:
    path = Path(name)
    if is_live(name) or path.is_file():
        return [name]
    if not path.is_dir() and not is_image_sequence(name):
        return []
    videos = [str(file) for file in (video_files(path, deep=True) if path.is_dir() else _matches(name))]
    if videos or (_is_glob(name) and not path.is_dir() and not glob.glob(name, recursive=True)):  # noqa: PTH207 - see _matches
        return videos
    if path.is_dir() and not any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir()):
        return videos
    list_images(name)
    return [name]


def _is_glob(name: str) -> bool:
    return any(character in name for character in "*?[")


def _matches(pattern: str) -> list[Path]:
    """The videos of a glob."""
    files = map(Path, sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute patterns
    return [file for file in files if is_video_file(file) and file.is_file()]


def folder_names(inputs: Sequence[str]) -> dict[str, str]:
    """A name for each input: its stem, with as many of the folders above as it takes to distinguish those of one stem.

    Names do not change with the order of the inputs.
    """
    names = {name: _parts(name) for name in inputs}
    chosen = {name: parts[-1] for name, parts in names.items()}
    for depth in range(2, max((len(parts) for parts in names.values()), default=0) + 1):
        for name in _clashing(chosen):
            chosen[name] = "_".join(names[name][-depth:])
    for name in _clashing(chosen):
        chosen[name] += Path(name).suffix
    for number, name in enumerate(_clashing(chosen), start=1):
        chosen[name] += f"-{number}"
    return chosen


def _clashing(chosen: dict[str, str]) -> list[str]:
    values = list(chosen.values())
    return [name for name, value in chosen.items() if values.count(value) > 1]


def _parts(name: str) -> list[str]:
    """Folders and stem of a file; the folder of a sequence; of a live source one word."""
    if is_live(name):
        return [re.sub(r"\W+", "_", shown(name)).strip("_") if "://" in name else f"camera{name}"]
    path = Path(name).resolve()
    if not path.exists():  # a glob or pattern of images
        path = path.parent
    return [part for part in (*path.parent.parts[1:], path.stem if path.is_file() else path.name) if part] or ["input"]
