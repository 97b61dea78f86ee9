"""A folder of images, a glob or a numbered pattern, read as a video."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from vidkd.base.errors import VideoError
from vidkd.video.reader import VideoReader, check_frame_size
from vidkd.video.times import Times
from vidkd.video.types import Image, VideoInfo

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_NUMBER = re.compile(r"%(0?)(\d*)d")


def is_image_sequence(path: str) -> bool:
    """Whether `path` is a folder, or names no file but a printf pattern (`%05d`) or a glob (`*`, `?`, `[`)."""
    if Path(path).is_dir():
        return True
    return not Path(path).exists() and bool(_NUMBER.search(path) or re.search(r"[*?\[]", path))


def list_images(path: str) -> list[Path]:
    """The images of a sequence in order: numbers inside names count as numbers. Raises VideoError for none, or a gap in a pattern."""
    if Path(path).is_dir():
        images = [image for image in Path(path).iterdir() if image.suffix.lower() in IMAGE_SUFFIXES]
    elif _NUMBER.search(Path(path).name):
        return _numbered(Path(path))
    else:
        images = list(Path(path).parent.glob(Path(path).name))
    if not images:
        raise VideoError(f"no images in: {path}", looked_for=", ".join(sorted(IMAGE_SUFFIXES)))
    return sorted(images, key=lambda image: _natural(image.name))


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _numbered(pattern: Path) -> list[Path]:
    """The run of numbers that exists, wherever it starts; a number missing inside it would shift every later frame."""
    before, after = _NUMBER.split(pattern.name)[0], _NUMBER.split(pattern.name)[-1]
    shape = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    found = {
        int(match[1])
        for file in pattern.parent.glob("*")
        if (match := shape.fullmatch(file.name)) and file.name == pattern.name % int(match[1])
    }
    if not found:
        raise VideoError(f"no images match: {pattern}")
    missing = sorted(set(range(min(found), max(found))) - found)
    if missing:
        raise VideoError(
            f"an image is missing: {pattern.parent / (pattern.name % missing[0])}", pattern=pattern, missing=f"{len(missing)} numbers"
        )
    return [pattern.parent / (pattern.name % number) for number in sorted(found)]


class ImageSequenceReader(VideoReader):
    """Images as frames at a constant rate; they are read when asked for and must all have one size."""

    def __init__(self, path: str, *, fps: float, short_side: int | None, max_pixels: int) -> None:
        super().__init__(path, short_side)
        if fps <= 0:
            raise VideoError(f"the frame rate of an image sequence must be positive, not {fps}", path=path)
        self._files = list_images(path)
        self._fps = fps
        self._height, self._width = _read(self._files[0]).shape[:2]
        check_frame_size(path, self._width, self._height, max_pixels)

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
            rotation_deg=0,
        )

    def _images(self, indices: Sequence[int]) -> Iterator[Image]:
        for index in indices:
            image = _read(self._files[index])
            if image.shape[:2] != (self._height, self._width):
                size = f"{image.shape[1]} x {image.shape[0]}, the first is {self._width} x {self._height}"
                raise VideoError(f"an image of another size: {self._files[index]}", size=size)
            yield image

    def _images_from(self, start_index: int) -> Iterator[Image]:
        return self._images(range(start_index, len(self._files)))

    def _release(self) -> None:
        """Nothing is held open."""


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
