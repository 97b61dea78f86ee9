"""The parts in which a run is written: a folder each, whole or not there, so that a run that was killed goes on after the last of them."""

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write, read_json, write_json
from vidkd.detection.stream.pipeline import Seen
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import read_json_lines, to_row
from vidkd.video import VIEWING_CRF, VideoWriter

LINES, VIDEO, STATE, FACTS = "detections.jsonl", "video.mp4", "state.bin", "part.json"
UNFINISHED = ".writing"
END = "end.json"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is known of a whole part. next_index: of the frame after its last. size: (width, height) of the frames.

    fps: nominal rate of the frames that were seen. found: detections by class name. seconds: of work, by stage, while it was made.
    """

    folder: Path
    frames: int
    next_index: int
    fps: float
    size: tuple[int, int]
    found: Mapping[str, int]
    seconds: Mapping[str, float]

    def detections(self, class_names: Sequence[str]) -> Iterator[Detections]:
        """Frame after frame, from its lines."""
        return read_json_lines(self.folder / LINES, class_names)

    @property
    def lines(self) -> Path:
        """Its JSON lines."""
        return self.folder / LINES

    @property
    def video(self) -> Path:
        """Its pictures, where some were drawn."""
        return self.folder / VIDEO


class Parts:
    """The parts of a run in a folder of their own.

    Anything unfinished that a killed run left there is removed. Raises DataError if one is damaged, missing, or written by something else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []
        if numbers != list(range(len(numbers))):
            missing = min(set(range(len(numbers))) - set(numbers))
            raise DataError(f"a part of an unfinished run is missing: {folder / _name(missing)}", hint="--overwrite begins anew")
        self.whole = [_read(folder / _name(number)) for number in numbers]

    @property
    def frames(self) -> int:
        """Frames in all whole parts."""
        return sum(part.frames for part in self.whole)

    @property
    def next_index(self) -> int:
        """The frame at which the run goes on."""
        return self.whole[-1].next_index if self.whole else 0

    def state(self) -> bytes | None:
        """The stepper's state after the last part; None where there is no part."""
        if not self.whole:
            return None
        file = self.whole[-1].folder / STATE
        return file.read_bytes() if file.exists() else b""

    def add(self, part: "PartWriter", state: bytes, seconds: Mapping[str, float]) -> None:
        """Finish a part, put it among the whole ones, and drop the state before it, which nobody needs any more."""
        target = self.folder / _name(len(self.whole))
        part.close(target, state, seconds)
        self.whole.append(_read(target))
        if len(self.whole) > 1:
            (self.whole[-2].folder / STATE).unlink(missing_ok=True)

    def end(self, trouble: Mapping[str, Any] | None, seconds: Mapping[str, float]) -> None:
        """Note that the stream has ended, and why if it broke off; seconds: of work since the last part."""
        write_json(self.folder / END, {"trouble": trouble, "seconds": dict(seconds)})

    def ending(self) -> dict[str, Any] | None:
        """What `end` noted; None while there is more to come."""
        return dict(read_json(self.folder / END)) if (self.folder / END).exists() else None


class PartWriter:
    """A part being written. Everything of it lies in one hidden folder until `close` renames that."""

    def __init__(self, folder: Path, class_names: Sequence[str], *, fps: float, step: int) -> None:
        self._folder, self._class_names, self._fps, self._step = folder / UNFINISHED, class_names, fps, step
        self._folder.mkdir(parents=True)
        self._lines = (self._folder / LINES).open("w", encoding="utf-8")
        self._video: VideoWriter | None = None
        self._found: Counter[str] = Counter()
        self._size = (0, 0)
        self._next_index, self._first_s = 0, 0.0
        self.frames = 0

    def write(self, seen: Seen) -> None:
        """Append a frame. Raises OSError or VideoError where it cannot be written."""
        detections = seen.step.detections
        row = {**to_row(detections, self._class_names), **seen.step.extra}
        self._lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        if seen.picture is not None:
            self._picture(seen.picture, detections.time_s or 0.0)
        self._found.update(row["classes"])
        self._size, self._next_index = seen.size, detections.frame_index + self._step
        self.frames += 1

    def _picture(self, picture: Any, time_s: float) -> None:
        if self._video is None:
            height, width = picture.shape[:2]
            path, self._first_s = self._folder / VIDEO, time_s
            self._video = VideoWriter(path, fps=self._fps, width=width, height=height, crf=VIEWING_CRF)
        self._video.write(picture, time_s=time_s - self._first_s)

    def close(self, target: Path, state: bytes, seconds: Mapping[str, float]) -> None:
        """Write the rest to the disk, and give the part its name."""
        self._lines.flush()
        os.fsync(self._lines.fileno())
        self._lines.close()
        if self._video is not None:
            self._video.close()
        if state:
            with atomic_write(self._folder / STATE, "wb") as file:
                file.write(state)
        write_json(
            self._folder / FACTS,
            {
                "frames": self.frames,
                "next_index": self._next_index,
                "fps": self._fps,
                "size": self._size,
                "found": self._found,
                "seconds": seconds,
            },
        )
        self._folder.rename(target)

    def abort(self) -> None:
        """Drop what was written."""
        with contextlib.suppress(OSError):  # of what could not be flushed
            self._lines.close()
        if self._video is not None:
            self._video.abort()
        shutil.rmtree(self._folder, ignore_errors=True)


def _name(number: int) -> str:
    return f"{number:06d}"


def _read(folder: Path) -> Part:
    facts = read_json(folder / FACTS)
    try:
        return Part(folder=folder, **{**facts, "size": tuple(facts["size"])})
    except (KeyError, TypeError) as error:
        raise DataError(f"not a part of a run: {folder}", reason=error, hint="--overwrite begins anew") from error
