"""The files that a finished run leaves, each written from its parts, one frame in memory at a time."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

from vidkd.base.files import atomic_write
from vidkd.detection.stream.parts import Part
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import write_coco, write_csv, write_mot
from vidkd.video.joining import join_videos

FORMATS = {"video": "annotated.mp4", "jsonl": "detections.jsonl", "coco": "coco.json", "mot": "mot.txt", "csv": "detections.csv"}
"""Format -> file in the folder of an input."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """All parts of a run, at least one. name: of the input, as COCO JSON names its frames."""

    parts: Sequence[Part]
    class_names: Sequence[str]
    name: str

    def frames(self) -> Iterator[Detections]:
        """The detections of all frames, in order."""
        return chain.from_iterable(part.detections(self.class_names) for part in self.parts)

    def write_video(self, path: Path) -> None:
        """The pictures of all parts in one file."""
        join_videos(path, ((part.video, self._times_s(part)) for part in self.parts), fps=self.parts[0].fps)

    def _times_s(self, part: Part) -> list[float]:
        return [detections.time_s or 0.0 for detections in part.detections(self.class_names)]

    def write_lines(self, path: Path) -> None:
        """The lines of all parts, as they are."""
        with atomic_write(path, "wb") as file:
            for part in self.parts:
                with part.lines.open("rb") as lines:
                    shutil.copyfileobj(lines, file)

    def write_text(self, path: Path, write: Callable[[IO[str], Iterator[Detections]], None]) -> None:
        """A text file by a writer of `vidkd.runtime.formats`."""
        with atomic_write(path) as file:
            write(file, self.frames())


def write_outputs(folder: Path, formats: Sequence[str], run: Joined) -> None:
    """Write the files of these formats, names of FORMATS; each is there whole or as it was. Raises OSError or VideoError."""
    names, size = run.class_names, run.parts[0].size
    writers: dict[str, Callable[[Path], None]] = {
        "video": run.write_video,
        "jsonl": run.write_lines,
        "coco": lambda path: run.write_text(path, lambda file, frames: write_coco(file, frames, names, size=size, video=run.name)),
        "mot": lambda path: run.write_text(path, write_mot),
        "csv": lambda path: run.write_text(path, lambda file, frames: write_csv(file, frames, names)),
    }
    for format_ in formats:
        writers[format_](folder / FORMATS[format_])
