"""Which files in a folder are videos, by name: nothing is opened."""

from pathlib import Path

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
