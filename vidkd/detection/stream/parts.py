"""The folder of a run along a stream: its record, its finished parts, and the files that are written from them."""

import contextlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import atomic_write, read_json, write_json
from vidkd.base.walk import file_fingerprint
from vidkd.detection.stream.pipeline import Seen
from vidkd.engine.sources import is_live
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import read_json_lines, to_row, write_coco, write_csv, write_mot
from vidkd.video import VIEWING_CRF, VideoWriter
from vidkd.video.image_sequence import is_image_sequence, list_images
from vidkd.video.joining import join_videos

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


log = logging.getLogger(__name__)

RECORD, SUMMARY, PARTS = "run.json", "summary.json", ".parts"
CALLED = "called"
"""In a record, what files were called: told to who reads it, and no reason to refuse to go on."""


def claim(folder: Path, record: Mapping[str, Any], *, overwrite: bool, further: Sequence[str] = ()) -> dict[str, Any] | None:
    """Make the folder that of a run with this record; returns the summary if that run is finished, None if there is work to do.

    record: all that the result depends on, of values that JSON can hold. overwrite: remove what a run left there; other files stay.
    further: names of files that are the run's too, beside those of the stream.
    Raises ConfigError if the folder holds the work of a run with another record, and lists what differs; files under a run's names; or a
    finished run of whose files one was taken away.
    """
    now = json.loads(json.dumps(record, allow_nan=False))
    own = (SUMMARY, *FORMATS.values(), *further)
    _sweep(folder, [*own, RECORD])
    if overwrite:
        _clear(folder, [*own, RECORD])
    if (folder / RECORD).exists() and _has_work(folder):
        _same(folder, read_json(folder / RECORD), now)
        return _finished(folder) if (folder / SUMMARY).exists() else None
    taken = [name for name in own if (folder / name).exists()]
    if taken:
        raise ConfigError(f"the output exists: {folder / taken[0]}", hint="another --out, or --overwrite to replace it")
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    write_json(folder / RECORD, now)
    return None


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made, for the block: two processes would tear each other's parts. A kill lets go of it.

    Raises ConfigError if another process holds it, OSError if it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no such lock on Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)  # the folder itself: no file of a lock is left behind
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"another process works in {folder}", hint="wait for it, or another --out") from None
    except OSError as error:
        log.warning("%s cannot be held (%s): start no other run in it", folder, error.strerror)
    try:
        yield
    finally:
        os.close(descriptor)


def input_record(name: str) -> dict[str, Any]:
    """What tells one input from another: its name, and for files and images their sizes and times of modification."""
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


@contextlib.contextmanager
def nothing_left_of_nothing(folder: Path, *, made: bool) -> Iterator[None]:
    """If the block fails before a part is whole, the run's record goes again, and the folder too if the run made it and it is empty.

    Whole parts, a finished run and files of others stay.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(DataError, OSError):  # the block's own error is the one to tell
            if not _has_work(folder):
                _clear(folder, [RECORD])
                if made:
                    folder.rmdir()
        raise


def _has_work(folder: Path) -> bool:
    """Whether something would be lost by beginning anew."""
    parts = Parts(folder / PARTS)
    return (folder / SUMMARY).exists() or bool(parts.whole) or parts.ending() is not None


def _finished(folder: Path) -> dict[str, Any]:
    """The summary of a run whose files are all there."""
    summary = dict(read_json(folder / SUMMARY))
    missing = [name for name in summary["files"] if not (folder / name).exists()]
    if missing:
        raise ConfigError(f"the run in {folder} is finished, and {missing[0]} is not there any more", hint="--overwrite makes it again")
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    return summary


def _same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differing = [difference for difference in _differences(before, now) if difference[0].partition(".")[0] != CALLED]
    if differing:
        state = "finished" if (folder / SUMMARY).exists() else "unfinished"
        raise ConfigError(
            f"the run in {folder} ({state}) was made in another way",
            **{name: f"{then}, now {today}" for name, then, today in differing},
            hint="give the settings of that run to go on with it; another --out; or --overwrite to begin anew",
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


def _sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove the temporary files of a killed run."""
    for name in names:
        for file in folder.glob(f".{name}.*.tmp"):
            file.unlink(missing_ok=True)


def _clear(folder: Path, names: Iterable[str]) -> None:
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    for name in names:
        (folder / name).unlink(missing_ok=True)


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
