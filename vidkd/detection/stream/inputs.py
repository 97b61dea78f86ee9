"""What a user names as inputs: single videos, image sequences and live sources, and the folders of their results."""

import glob
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.base.files import near_files
from vidkd.detection.stream.folder import shown
from vidkd.inference.sources import is_live
from vidkd.video.files import is_video_file, video_files
from vidkd.video.image_sequence import IMAGE_SUFFIXES, is_image_sequence, list_images

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
            path, mend = Path(name), "a file, a folder or quoted glob of videos or images, a camera's number, or an address (rtsp://...)"
            lines = {} if path.is_dir() or _is_glob(name) else near_files(path, (path.suffix.lower(),))
            raise DataError(f"no video and no images at: {name}", **lines, hint=f"name {mend}")
        found.update(dict.fromkeys(inputs))
    images = [path for path in map(Path, names) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if len(images) > 1 and len({image.parent for image in images}) == 1:  # a glob that the shell has expanded, which is seldom meant
        glob_of = images[0].parent / f"*{images[0].suffix}"
        log.warning("%d images are taken as %d inputs; as one sequence: '%s', in quotes", len(images), len(images), glob_of)
    return list(found)


def _inputs_at(name: str) -> list[str]:
    path = Path(name)
    if is_live(name) or path.is_file():
        return [name]
    if path.is_dir():
        videos = list(video_files(path, deep=True))
        is_sequence = any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir())
    else:
        matches = [Path(file) for file in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207 - Path.glob takes no absolute patterns
        videos = [file for file in matches if is_video_file(file) and file.is_file()]
        is_sequence = is_image_sequence(name) and (bool(matches) or not _is_glob(name))
    if videos or not is_sequence:
        return list(map(str, videos))
    list_images(name)
    return [name]


def _is_glob(name: str) -> bool:
    return any(character in name for character in "*?[")


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
