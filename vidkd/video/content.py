"""What a video holds, as a hash: two that hold the same are one, wherever they lie and however old they are."""

import functools
import hashlib
from pathlib import Path

from vidkd.base.files import sha256
from vidkd.video.image_sequence import is_image_sequence, list_images


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
