"""The index of a data set's videos, kept next to its manifest: computed once by `prepare_data`, used by every training."""

from pathlib import Path

from vidkd.base.progress import Progress
from vidkd.base.walk import map_files
from vidkd.data.manifest import Manifest
from vidkd.video.index import index_record, write_index_file


def index_file(manifest: Path | str) -> Path:
    """Where the index of the videos of the manifest at this path lies."""
    return Path(manifest).with_suffix(".index")


def build_index(manifest: Manifest, path: Path | str, *, workers: int | None = None, dask: str | None = None) -> dict[str, str]:
    """Read the packets of all videos of the manifest at `path` and write their index; returns path -> reason of those that are no videos.

    Folders of images have none. workers, dask: as for `map_files`. Raises WriteError.
    """
    files = {str(manifest.root / clip.path): clip.path for clip in manifest.clips if not (manifest.root / clip.path).is_dir()}
    records: dict[str, str] = {}
    failed: dict[str, str] = {}
    for found in Progress(len(files), "indexed files", every_steps=10**9, every_s=5).over(
        map_files(index_record, list(files), workers=workers, dask=dask)
    ):
        if found.error is None:
            records[files[found.item]] = str(found.value)
        else:
            failed[files[found.item]] = found.error
    write_index_file(index_file(path), records)
    return failed
