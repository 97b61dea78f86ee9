"""Which files are videos, by name, and what a video holds, as a hash: two that hold the same are one, wherever they lie."""

import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from vidkd.base.errors import VideoError
from vidkd.base.files import sha256
from vidkd.video.image_sequence import is_image_sequence, list_images

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
    }
)  # fmt: skip


def is_video_file(path: Path) -> bool:
    """Whether the name is that of a video file; hidden files (the `._x.avi` of macOS archives) are none."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def video_files(folder: Path, *, deep: bool = False) -> list[Path]:
    """The video files of a folder in sorted order; `deep`: those of its subfolders too. A folder that is missing has none."""
    if not folder.is_dir():
        return []
    return sorted(path for path in (folder.rglob("*") if deep else folder.iterdir()) if is_video_file(path) and path.is_file())


def content_of(path: Path | str) -> str:
    """Short SHA-256 of a file, or of names and contents of the images of a sequence (a folder, a pattern, a glob).

    A file or folder is read once a process, as long as it is not modified. Raises OSError for a file that is not there, VideoError as
    `list_images` does.
    """
    if not Path(path).exists():
        return _hash_of(str(path))
    return _hash_since(str(path), Path(path).stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _hash_since(path: str, _changed_ns: int) -> str:
    return _hash_of(path)


def _hash_of(path: str) -> str:
    if not is_image_sequence(path):
        return sha256(path)[:16]
    digest = hashlib.sha256()
    for image in list_images(path):
        digest.update(f"{image.name} {sha256(image)}\n".encode())
    return digest.hexdigest()[:16]


def copies_among(paths: Mapping[str, Path], files: Collection[Path]) -> list[str]:
    """The names whose file or folder of images is one of `files`, or holds what one of them holds under other names.

    What is not there, or a folder without images, is a copy of nothing. Files are read where one of the same size is among the others.
    """
    sizes: dict[tuple[int, ...], list[Path]] = {}
    for file in files:
        if found := _sizes(file):
            sizes.setdefault(found, []).append(file)
    return [
        name for name, path in paths.items() if path in files or any(_hashes(path) == _hashes(file) for file in sizes.get(_sizes(path), ()))
    ]


def _parts(path: Path) -> Sequence[Path]:
    """The file, or the images of a folder, in order."""
    try:
        return list_images(str(path)) if path.is_dir() else [path] if path.exists() else []
    except VideoError:
        return []


def _sizes(path: Path) -> tuple[int, ...]:
    return tuple(part.stat().st_size for part in _parts(path))


def _hashes(path: Path) -> list[str]:
    return [sha256(part) for part in _parts(path)]
