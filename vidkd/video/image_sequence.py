"""A folder of images, a glob or a numbered pattern, read as a video."""

import itertools
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidkd.base.errors import VideoError
from vidkd.base.lru import LRUCache
from vidkd.video.containers import check_frame_size
from vidkd.video.reader import Image, Times, VideoInfo, VideoReader

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SEQUENCE_FPS = 25.0
SHOWN = 5  # runs of missing numbers listed in a message before "and N more"
SETTLED_NS = 2 * 10**9  # a folder changed this lately may change again without its time of modification showing it
_NUMBER = re.compile(r"%(0?)(\d*)d")
_NAME = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>\.\w+)")

_listed: LRUCache[tuple[str | int, ...], Sequence[Path]] = LRUCache(most_entries=4096, most_bytes=64 * 2**20)


def is_image_sequence(path: str) -> bool:
    """Whether `path` is a folder, or names no file but a printf pattern (`%05d`) or a glob (`*`, `?`, `[`)."""
    return Path(path).is_dir() or (not Path(path).exists() and bool(_NUMBER.search(path) or re.search(r"[*?\[]", path)))


def list_images(path: str) -> Sequence[Path]:
    """The images of a sequence in order: numbers inside names count as numbers.

    Raises VideoError for none, and for a number missing inside a pattern or inside a folder whose images are all numbered alike (it would
    shift every later frame); a glob takes what is there. A folder is listed once a process, as long as it is not modified.
    """
    if Path(path).is_dir():
        return _of_folder(path)
    pattern = Path(path)
    if not _NUMBER.search(pattern.name):
        return _in_order(path, list(pattern.parent.glob(pattern.name)))
    before, after = _NUMBER.split(pattern.name)[0], _NUMBER.split(pattern.name)[-1]
    shape = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    names = [file.name for file in pattern.parent.glob("*")]
    found = {int(match[1]) for name in names if (match := shape.fullmatch(name)) and name == pattern.name % int(match[1])}
    if not found:
        raise VideoError(f"no images match: {pattern}")
    return NumberedImages(pattern.parent, lambda number: pattern.name % number, found)


def _of_folder(path: str) -> Sequence[Path]:
    status = Path(path).stat()
    key = (path, status.st_dev, status.st_ino, status.st_mtime_ns)
    images = _listed.get(key)
    if images is None:
        with os.scandir(path) as entries:  # without hidden files, as the `._x.jpg` of macOS archives
            names = [entry.name for entry in entries if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and entry.name[0] != "."]
        images = _numbered_alike(Path(path), names) or _in_order(path, [Path(path, name) for name in names])
        if time.time_ns() - status.st_mtime_ns > SETTLED_NS:
            _listed.put(key, images, 256 if isinstance(images, NumberedImages) else 256 * len(images))
    return images


def _in_order(path: str, images: Sequence[Path]) -> Sequence[Path]:
    if not images:
        raise VideoError(
            f"no images in: {path}",
            looked_for=", ".join(sorted(IMAGE_SUFFIXES)),
            hint="a folder is taken for the frames of one video: name a folder of images, or the video files themselves",
        )
    return sorted(images, key=lambda image: [(not part.isdigit(), int(part) if part.isdigit() else part) for part in _parts(image.name)])


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d+)", name) if part]


class NumberedImages(Sequence[Path]):
    """Images numbered without a gap. Paths are made when asked for: a folder may hold a hundred thousand.

    Raises VideoError if a number between the first and the last is missing.
    """

    def __init__(self, folder: Path, name_of: Callable[[int], str], found: Collection[int]) -> None:
        self._folder, self._name_of, self._numbers = folder, name_of, range(min(found), max(found) + 1)
        if count := len(self._numbers) - len(found):
            pairs = itertools.pairwise(sorted(found))
            gaps = [str(low + 1) if high - low == 2 else f"{low + 1} to {high - 1}" for low, high in pairs if high - low > 1]
            name = name_of(int(gaps[0].split()[0]))
            raise VideoError(
                f"images {min(found)} to {max(found)} lack {count} in: {folder}",
                missing=", ".join(gaps[:SHOWN]) + (f" and {len(gaps) - SHOWN} more gaps" if len(gaps) > SHOWN else ""),
                first=name,
                hint=f"put them there, or, if nothing is missing, name the images by a glob: {folder / '*'}{Path(name).suffix}",
            )

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        numbers = self._numbers[index]
        return [*map(self._path, numbers)] if isinstance(index, slice) else self._path(numbers)

    def _path(self, number: int) -> Path:
        return self._folder / self._name_of(number)


def _numbered_alike(folder: Path, names: Collection[str]) -> Sequence[Path] | None:
    """The images in the order of their numbers if their names differ in nothing else, as frame_0000000001.jpg; None otherwise."""
    parts = [(match["before"], match["number"], match["after"]) for match in map(_NAME.fullmatch, names) if match]
    if not names or len(parts) < len(names) or len({(before, after) for before, _, after in parts}) > 1:
        return None
    before, _, after = parts[0]
    digits = {int(number): number for _, number, _ in parts}
    width = len(digits[min(digits)])
    if len(digits) < len(names) or any(text != f"{number:0{width}d}" for number, text in digits.items()):
        return None
    return NumberedImages(folder, lambda number: f"{before}{number:0{width}d}{after}", digits)


class ImageSequenceReader(VideoReader):
    """Images as frames at a constant rate; they are read when asked for and must all have one size."""

    def __init__(self, path: str, *, fps: float | None, short_side: int | None) -> None:
        super().__init__(path, short_side)
        self._files = list_images(path)
        self._fps = SEQUENCE_FPS if fps is None else fps
        self._height, self._width = _read(self._files[0]).shape[:2]
        check_frame_size(path, self._width, self._height)

    @property
    def timestamps_s(self) -> Times:
        """See VideoReader: index divided by the rate that was given."""
        return np.arange(len(self._files), dtype=np.float64) / self._fps

    @property
    def info(self) -> VideoInfo:
        """See VideoReader; codec is the suffix of the files."""
        return VideoInfo(
            path=self.path,
            backend="images",
            codec=self._files[0].suffix[1:].lower(),
            width=self._width,
            height=self._height,
            frame_count=len(self._files),
            average_fps=self._fps,
            duration_s=len(self._files) / self._fps,
        )

    def _images(self, indices: Sequence[int]) -> Iterator[Image]:
        for index in indices:
            image = _read(self._files[index])
            if image.shape[:2] != (self._height, self._width):
                size = f"{image.shape[1]} x {image.shape[0]}, the first is {self._width} x {self._height}"
                raise VideoError(f"an image of another size: {self._files[index]}", size=size)
            yield image


def _read(file: Path) -> Image:
    """RGB of one image, EXIF rotation applied; bytes are read by Python since OpenCV cannot open every path on Windows."""
    try:
        content = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise VideoError(f"cannot read image: {file}", reason=error.strerror) from error
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if decoded is None:
        raise VideoError(f"not an image: {file}")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)
