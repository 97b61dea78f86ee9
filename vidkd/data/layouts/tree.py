"""Video files in a folder tree, found by class and name whatever their container's extension."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.video.files import video_files


def relative(path: Path, root: Path) -> str:
    """`path` as a manifest writes it: from the root, with forward slashes."""
    return path.relative_to(root).as_posix()


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones and what macOS adds to archives."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


class ClipFiles:
    """The video files of `folder/<class>/` for each class (class "": of the folder itself), found by (class, stem).

    The extension plays no part. Names that differ only in Unicode composition or case are matched where the exact name is missing,
    because file systems change both.
    """

    def __init__(self, root: Path, folder: Path, classes: Iterable[str]) -> None:
        self.folder = folder
        self.paths: list[str] = []
        self._exact: dict[tuple[str, str], list[str]] = {}
        self._loose: dict[tuple[str, str], list[str]] = {}
        for name in classes:
            for file in video_files(folder / name):
                path = relative(file, root)
                self.paths.append(path)
                self._exact.setdefault((name, file.stem), []).append(path)
                self._loose.setdefault((name, _fold(file.stem)), []).append(path)

    def find(self, key: tuple[str, str]) -> str | None:
        """The path, relative to the root, of clip (class, stem); None if absent. Raises DataError if two files answer to it."""
        found = self._exact.get(key) or self._loose.get((key[0], _fold(key[1])), [])
        if len(found) > 1:
            raise DataError(f"two files for one clip: {' and '.join(found)}", looked_in=self.folder, hint="keep one of them")
        return found[0] if found else None


def _fold(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()
