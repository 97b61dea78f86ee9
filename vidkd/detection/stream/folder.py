"""The folder of a run along a stream: its record, the work that is safe so far, and the files that are written from it."""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import atomic_write, read_json, write_json
from vidkd.base.walk import file_fingerprint
from vidkd.detection.stream.pipeline import Seen
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


class Done(msgspec.Struct, forbid_unknown_fields=True):
    """What of a run is safe.

    parts: frames of each part. next_index: of the frame after the last one. size: (width, height) of the frames. fps: nominal rate of the
    frames that were seen. lines_bytes: length of the JSON lines. found: detections by class name. seconds: of work, by stage.
    ended: whether nothing comes after; trouble: why the input broke off, if it did.
    """

    parts: list[int] = []
    next_index: int = 0
    size: tuple[int, int] = (0, 0)
    fps: float = 0.0
    lines_bytes: int = 0
    found: dict[str, int] = {}
    seconds: dict[str, float] = {}
    ended: bool = False
    trouble: dict[str, Any] | None = None

    @property
    def frames(self) -> int:
        """Frames of all parts."""
        return sum(self.parts)


class Work:
    """The unfinished output of a run in a folder of its own: one growing file of JSON lines, a video per part, the stepper's state.

    `commit` makes a part safe by replacing one small file; what was written after it is cut off by the next process. Raises DataError if
    something that was safe is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines_path, self._done_path = folder / "detections.jsonl", folder / "done.json"
        self.done = self._read()
        self._lines: Any = None
        self._video: VideoWriter | None = None
        self._pending = self.done

    def _read(self) -> Done:
        if not self._done_path.exists():
            return Done()
        try:
            done = msgspec.convert(read_json(self._done_path), Done)
            whole = not done.parts or self._lines_path.stat().st_size >= done.lines_bytes
        except (DataError, msgspec.ValidationError, OSError) as error:
            raise DataError(f"the unfinished run is damaged: {self.folder}", reason=error, hint="--overwrite starts again") from error
        if not whole:
            raise DataError(f"the unfinished run is cut off: {self._lines_path}", hint="--overwrite starts again")
        return done

    @property
    def state(self) -> bytes | None:
        """The stepper's state after the last part; None where there is no part."""
        file = self._state_path(len(self.done.parts))
        return (file.read_bytes() if file.exists() else b"") if self.done.parts else None

    def write(self, seen: Seen, class_names: Sequence[str], *, fps: float, step: int) -> None:
        """Append a frame to the part in progress. Raises OSError or VideoError where it cannot be written."""
        if self._lines is None:
            self._begin(fps)
        detections = seen.step.detections
        row = {**to_row(detections, class_names), **seen.step.extra}
        self._lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        if seen.picture is not None:
            self._draw(seen.picture, detections.time_s or 0.0, fps)
        new = self._pending
        new.parts[-1] += 1
        for name in row["classes"]:
            new.found[name] = new.found.get(name, 0) + 1
        new.size, new.next_index = seen.size, detections.frame_index + step

    def _begin(self, fps: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = {self._lines_path, self._done_path, self._state_path(len(self.done.parts))}
        kept |= {self.video_path(number) for number in range(len(self.done.parts))}
        for path in set(self.folder.iterdir()) - kept:
            path.unlink()
        self._lines = self._lines_path.open("ab")
        self._lines.truncate(self.done.lines_bytes)
        self._lines.seek(self.done.lines_bytes)
        self._pending = msgspec.structs.replace(self.done, parts=[*self.done.parts, 0], found=dict(self.done.found), fps=fps)

    def _draw(self, picture: Any, time_s: float, fps: float) -> None:
        if self._video is None:
            height, width = picture.shape[:2]
            path, self._first_s = self.video_path(len(self.done.parts)), time_s
            self._video = VideoWriter(path, fps=fps, width=width, height=height, crf=VIEWING_CRF)
        self._video.write(picture, time_s=time_s - self._first_s)

    def commit(self, state: bytes, seconds: Mapping[str, float]) -> None:
        """Make the part in progress safe, if there is one, with the stepper's state after it and the seconds of work since the last one."""
        if self._lines is None:
            return
        self._lines.flush()
        os.fsync(self._lines.fileno())
        if self._video is not None:
            self._video.close()
        number = len(self.done.parts)
        if state:
            with atomic_write(self._state_path(number + 1), "wb") as file:
                file.write(state)
        self._pending.lines_bytes = self._lines.tell()
        self._lines.close()
        self._lines = self._video = None
        self._save(self._pending, seconds)
        self._state_path(number).unlink(missing_ok=True)

    def end(self, trouble: Mapping[str, Any] | None, seconds: Mapping[str, float]) -> None:
        """Note that the stream has ended, and why if it broke off; seconds: of work since the last part."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._save(msgspec.structs.replace(self.done, ended=True, trouble=None if trouble is None else dict(trouble)), seconds)

    def _save(self, done: Done, seconds: Mapping[str, float]) -> None:
        done.seconds = {name: done.seconds.get(name, 0.0) + seconds.get(name, 0.0) for name in {**done.seconds, **seconds}}
        write_json(self._done_path, msgspec.to_builtins(done))
        self.done = done

    def abort(self) -> None:
        """Drop the part in progress, if there is one."""
        if self._lines is not None:
            with contextlib.suppress(OSError):  # of what could not be flushed
                self._lines.close()
            self._lines = None
        if self._video is not None:
            self._video.abort()
            self._video = None

    def video_path(self, number: int) -> Path:
        """The pictures of a part, where some were drawn."""
        return self.folder / f"{number:06d}.mp4"

    def _state_path(self, parts: int) -> Path:
        return self.folder / f"state_{parts:06d}.bin"

    def frames(self, class_names: Sequence[str]) -> Iterator[Detections]:
        """The detections of all frames, in order."""
        return islice(read_json_lines(self._lines_path, class_names), self.done.frames)

    def write_outputs(self, folder: Path, formats: Sequence[str], class_names: Sequence[str], *, name: str) -> None:
        """Write the files of these formats, names of FORMATS; each is there whole or as it was. name: of the input, in COCO JSON.

        Raises OSError or VideoError.
        """
        for each in formats:
            path = folder / FORMATS[each]
            if each == "video":
                self._write_video(path, class_names)
                continue
            with atomic_write(path) as file:
                if each == "jsonl":
                    with self._lines_path.open(encoding="utf-8") as lines:
                        file.writelines(islice(lines, self.done.frames))
                elif each == "coco":
                    write_coco(file, self.frames(class_names), class_names, size=self.done.size, video=name)
                elif each == "mot":
                    write_mot(file, self.frames(class_names))
                else:
                    write_csv(file, self.frames(class_names), class_names)

    def _write_video(self, path: Path, class_names: Sequence[str]) -> None:
        """The pictures of all parts in one file."""
        times_s = [found.time_s or 0.0 for found in self.frames(class_names)]
        bounds = pairwise(accumulate(self.done.parts, initial=0))
        parts = ((self.video_path(number), times_s[first:last]) for number, (first, last) in enumerate(bounds))
        join_videos(path, parts, fps=self.done.fps)


def claim(folder: Path, record: Mapping[str, Any], *, overwrite: bool, further: Sequence[str] = ()) -> dict[str, Any] | None:
    """Make the folder that of a run with this record; returns the summary if that run is finished, None if there is work to do.

    record: all that the result depends on, of values that JSON can hold. overwrite: remove what a run left there; other files stay.
    further: names of files that are the run's too, besides those of the stream.
    Raises ConfigError if the folder holds the work of a run with another record, and lists what differs; files under a run's names; or a
    finished run of which a file is missing.
    """
    now = json.loads(json.dumps(record, allow_nan=False))
    own = (SUMMARY, *FORMATS.values(), *further)
    for name in (*own, RECORD):
        for file in folder.glob(f".{name}.*.tmp"):  # of a killed run
            file.unlink(missing_ok=True)
    if overwrite:
        _clear(folder, [*own, RECORD])
    if (folder / RECORD).exists() and _has_work(folder):
        _same(folder, read_json(folder / RECORD), now)
        return _finished(folder) if (folder / SUMMARY).exists() else None
    existing = [name for name in own if (folder / name).exists()]
    if existing:
        raise ConfigError(f"the output exists: {folder / existing[0]}", hint="another --out, or --overwrite to replace it")
    shutil.rmtree(folder / WORK, ignore_errors=True)
    write_json(folder / RECORD, now)
    return None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder, which is made, for the block: two processes would tear each other's work. A kill releases it.

    Raises ConfigError if another process has it, OSError if it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no such lock on Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)  # the folder itself: no lock file is left behind
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"another process works in {folder}", hint="wait for it, or another --out") from None
    except OSError as error:
        log.warning("%s cannot be locked (%s): start no other run in it", folder, error.strerror)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def cleanup_on_failure(folder: Path, *, made: bool) -> Iterator[None]:
    """If the block fails before a part is safe, the run's record goes again, and the folder too if the run made it and it is empty."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(DataError, OSError):  # the block's own error is the one to raise
            if not _has_work(folder):
                _clear(folder, [RECORD])
                if made:
                    folder.rmdir()
        raise


def input_record(name: str) -> dict[str, Any]:
    """What distinguishes inputs: the name, and for files and images their sizes and times of modification."""
    if is_live(name):
        return {"input": shown(name), "fingerprint": "live"}
    if is_image_sequence(name):
        images = list_images(name)
        marks = [file_fingerprint(str(image)) for image in (images[0], images[-1])]
        return {"input": str(Path(name).resolve()), "fingerprint": f"{len(images)} images, {marks[0]} to {marks[1]}"}
    return {"input": str(Path(name).resolve()), "fingerprint": file_fingerprint(name)}


def shown(name: str) -> str:
    """A name that may be written down: an address without user and password."""
    if "://" not in name:
        return name
    parts = urlsplit(name)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _has_work(folder: Path) -> bool:
    """Whether something would be lost by starting again."""
    done = Work(folder / WORK).done
    return (folder / SUMMARY).exists() or bool(done.parts) or done.ended


def _finished(folder: Path) -> dict[str, Any]:
    """The summary of a run whose files are all there."""
    summary = dict(read_json(folder / SUMMARY))
    missing = [name for name in summary["files"] if not (folder / name).exists()]
    if missing:
        raise ConfigError(f"the run in {folder} is finished, but {missing[0]} is missing", hint="--overwrite makes it again")
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return summary


def _same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differing = [difference for difference in _differences(before, now) if difference[0].partition(".")[0] != CALLED]
    if differing:
        state = "finished" if (folder / SUMMARY).exists() else "unfinished"
        raise ConfigError(
            f"the run in {folder} ({state}) was made with other settings",
            **{name: f"{then}, now {today}" for name, then, today in differing},
            hint="the settings of that run resume it; or another --out; or --overwrite to start again",
        )


def _differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield name, _short(before), _short(now)


def _short(value: Any) -> str:
    text = "not given" if value is None else json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 80 else text[:77] + "..."


def _clear(folder: Path, names: Sequence[str]) -> None:
    shutil.rmtree(folder / WORK, ignore_errors=True)
    for name in names:
        (folder / name).unlink(missing_ok=True)
