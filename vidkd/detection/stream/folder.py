"""The folder of a run along a stream: its record, the work that is safe so far, and the files that are written from it."""

import contextlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import atomic_write, lock, read_json, write_json
from vidkd.base.settings import flatten
from vidkd.base.walk import file_fingerprint
from vidkd.detection.stream.stepper import Seen
from vidkd.inference.sources import is_live
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import read_json_lines, to_row, write_coco, write_csv, write_mot
from vidkd.video import VIEWING_CRF, VideoWriter
from vidkd.video.image_sequence import is_image_sequence, list_images
from vidkd.video.writer import join_videos

log = logging.getLogger(__name__)

RECORD, SUMMARY, WORK = "run.json", "summary.json", ".work"
CALLED = "called"
"""In a record, what files were called: for the reader, and no reason to refuse to resume."""
FORMATS = {"video": "annotated.mp4", "jsonl": "detections.jsonl", "coco": "coco.json", "mot": "mot.txt", "csv": "detections.csv"}
"""Format -> file in the folder of an input."""


class Done(msgspec.Struct):
    """What of a run is safe.

    parts: frames of each part. next_index: of the frame after the last one. size: (width, height) of the frames. fps: nominal rate of the
    frames that were seen. lines_bytes: length of the JSON lines. seconds: of work, by stage. ended: whether nothing comes after; trouble:
    why the input broke off, if it did. state: the stepper's after the last part.
    """

    parts: list[int] = []
    next_index: int = 0
    size: tuple[int, int] = (0, 0)
    fps: float = 0.0
    lines_bytes: int = 0
    seconds: dict[str, float] = {}
    ended: bool = False
    trouble: dict[str, Any] | None = None
    state: bytes = b""

    @property
    def frames(self) -> int:
        """Frames of all parts."""
        return sum(self.parts)


class Work:
    """The unfinished output of a run in a folder of its own: one growing file of JSON lines, and a video per part.

    `commit` makes a part safe by replacing one small file; what a killed process wrote after it is cut off.
    Raises DataError if something that was safe is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.done = folder, Done()
        self._lines_path, self._done_path = folder / "lines.jsonl", folder / "done.msgpack"
        if self._done_path.exists():
            try:
                self.done = msgspec.msgpack.decode(self._done_path.read_bytes(), type=Done)
                if self._lines_path.stat().st_size < self.done.lines_bytes:
                    raise ValueError(f"{self._lines_path} is cut off")
                os.truncate(self._lines_path, self.done.lines_bytes)
            except (ValueError, OSError) as error:
                raise DataError(f"the unfinished run is damaged: {folder}", reason=error, hint="--overwrite starts again") from error
        self._next, self._seconds = self.done, self.done.seconds
        self._lines: Any = None
        self._video: VideoWriter | None = None

    def write(self, seen: Seen, class_names: Sequence[str], *, fps: float) -> None:
        """Append a frame to the part in progress. Raises OSError or VideoError where it cannot be written."""
        found = seen.step.detections
        if self._lines is None:
            self._lines = self._lines_path.open("ab")
            self._next = msgspec.structs.replace(self.done, parts=[*self.done.parts, 0], size=seen.size, fps=fps)
            if seen.picture is not None:
                self._first_s = found.time_s or 0.0
                self._video = VideoWriter(self._video_path(len(self.done.parts)), fps=fps, crf=VIEWING_CRF)
        row = {**to_row(found, class_names), **seen.step.extra}
        self._lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        if self._video is not None and seen.picture is not None:
            self._video.write(seen.picture, time_s=(found.time_s or 0.0) - self._first_s)
        self._next.parts[-1] += 1
        self._next.next_index = found.frame_index + 1

    def commit(self, state: bytes, seconds: Mapping[str, float], *, ended: bool, trouble: Mapping[str, Any] | None = None) -> None:
        """Make the part in progress, if there is one, safe. seconds: of all work of this process. ended, trouble: see `Done`."""
        new = self._next
        if self._lines is not None:
            self._lines.flush()
            os.fsync(self._lines.fileno())
            new.lines_bytes = self._lines.seek(0, os.SEEK_END)
            self._lines.close()
        if self._video is not None:
            self._video.close()
        self._lines = self._video = None
        new = msgspec.structs.replace(new, state=state, ended=ended, trouble=None if trouble is None else dict(trouble))
        new.seconds = {**self._seconds, **{name: self._seconds.get(name, 0.0) + spent for name, spent in seconds.items()}}
        with atomic_write(self._done_path, "wb") as file:
            file.write(msgspec.msgpack.encode(new))
        self.done = self._next = new

    def abort(self) -> None:
        """Drop the part in progress, if there is one."""
        if self._lines is not None:
            with contextlib.suppress(OSError):  # of what could not be flushed
                self._lines.close()
        if self._video is not None:
            self._video.abort()

    def _video_path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.mp4"

    def frames(self, class_names: Sequence[str]) -> Iterator[Detections]:
        """The detections of all frames, in order."""
        return read_json_lines(self._lines_path, class_names)

    def found(self) -> Counter[str]:
        """Boxes of all frames, by the name of their class."""
        with self._lines_path.open(encoding="utf-8") as lines:
            return Counter(name for line in lines for name in json.loads(line)["classes"])

    def write_output(self, format_: str, class_names: Sequence[str], *, name: str) -> None:
        """Write the file of a format, a name of FORMATS, into the folder of the work. name: of the input, in COCO JSON.

        Raises OSError or VideoError.
        """
        path = self.folder / FORMATS[format_]
        if format_ == "video":
            times_s = [found.time_s or 0.0 for found in self.frames(class_names)]
            bounds = pairwise(accumulate(self.done.parts, initial=0))
            join_videos(path, ((self._video_path(k), times_s[first:last]) for k, (first, last) in enumerate(bounds)), fps=self.done.fps)
        elif format_ == "jsonl":
            shutil.copyfile(self._lines_path, path)
        else:
            with path.open("w", encoding="utf-8") as file:
                if format_ == "coco":
                    write_coco(file, self.frames(class_names), class_names, size=self.done.size, video=name)
                elif format_ == "mot":
                    write_mot(file, self.frames(class_names))
                else:
                    write_csv(file, self.frames(class_names), class_names)

    def finish(self, folder: Path, summary: Mapping[str, Any]) -> None:
        """Move all files into the folder of the run, the summary last. Raises OSError."""
        write_json(self.folder / SUMMARY, summary)
        shutil.copyfile(self.folder / RECORD, folder / RECORD)
        for name in (*summary["files"], SUMMARY):
            os.replace(self.folder / name, folder / name)
        shutil.rmtree(self.folder, ignore_errors=True)


def claim(folder: Path, record: Mapping[str, Any], *, overwrite: bool, added: Sequence[str] = ()) -> dict[str, Any] | None:
    """Make the folder that of a run with this record; returns the summary if that run is finished, None if there is work to do.

    record: all that the result depends on, of values that JSON can hold. overwrite: remove what a run left there; other files stay.
    added: names of the files that the caller adds to those of a run.
    Raises ConfigError if the folder holds the work of a run with another record, and lists what differs; files under a run's names; or a
    finished run of which a file is missing.
    """
    now, work = json.loads(json.dumps(record, allow_nan=False)), folder / WORK
    own = [folder / name for name in (SUMMARY, RECORD, *FORMATS.values(), *added)]
    if overwrite:
        shutil.rmtree(work, ignore_errors=True)
        for path in own:
            path.unlink(missing_ok=True)
    if (folder / SUMMARY).exists() and (folder / RECORD).exists():
        _check_same(folder, read_json(folder / RECORD), now, "finished")
        summary = dict(read_json(folder / SUMMARY))
        missing = [name for name in summary["files"] if not (folder / name).exists()]
        if missing:
            raise ConfigError(f"the run in {folder} is finished, but {missing[0]} is missing", hint="--overwrite makes it again")
        shutil.rmtree(work, ignore_errors=True)
        return summary
    if not is_empty(Work(work)):
        _check_same(folder, read_json(work / RECORD), now, "unfinished")
        return None
    existing = [path for path in own if path.exists()]
    if existing:
        raise ConfigError(f"the output exists: {existing[0]}", hint="another --out, or --overwrite to replace it")
    shutil.rmtree(work, ignore_errors=True)
    write_json(work / RECORD, now)
    return None


def is_empty(work: Work) -> bool:
    """Whether nothing would be lost by starting again."""
    return not work.done.parts and not work.done.ended


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder, which is made, for the block: two processes would destroy each other's work. A kill releases it.

    Raises ConfigError if another process has it, OSError if it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if os.name == "nt":  # where a folder cannot be opened
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)  # the folder itself: no lock file is left behind
    try:
        lock(descriptor, ConfigError(f"another process works in {folder}", hint="wait for it, or another --out"))
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def cleanup_on_failure(folder: Path) -> Iterator[None]:
    """If the block fails before a part is safe, the work goes again, and the folder if it is empty then."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(DataError, OSError):  # the block's own error is the one to raise
            if is_empty(Work(folder / WORK)):
                shutil.rmtree(folder / WORK, ignore_errors=True)
                folder.rmdir()
        raise


def input_record(name: str) -> dict[str, Any]:
    """What distinguishes inputs: the name, and for files and images their sizes and times of modification."""
    if is_live(name):
        return {"input": shown(name), "fingerprint": "live"}
    if is_image_sequence(name):
        images = list_images(name)
        first, last = (file_fingerprint(str(image)) for image in (images[0], images[-1]))
        return {"input": str(Path(name).resolve()), "fingerprint": f"{len(images)} images, {first} to {last}"}
    return {"input": str(Path(name).resolve()), "fingerprint": file_fingerprint(name)}


def shown(name: str) -> str:
    """A name that may be written down: an address without user and password."""
    if "://" not in name:
        return name
    parts = urlsplit(name)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], state: str) -> None:
    then, today = (flatten({name: value for name, value in record.items() if name != CALLED}) for record in (before, now))
    differing = [name for name in {**then, **today} if then.get(name) != today.get(name)]
    if differing:
        raise ConfigError(
            f"the run in {folder} ({state}) was made with other settings",
            **{name: f"{_short(then.get(name))}, now {_short(today.get(name))}" for name in differing},
            hint="the settings of that run resume it; or another --out; or --overwrite to start again",
        )


def _short(value: Any) -> str:
    text = "not given" if value is None else json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 80 else text[:77] + "..."
