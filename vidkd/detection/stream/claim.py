"""Whose folder it is: what a run was made with, and whether another may go on in it."""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import read_json, write_json
from vidkd.base.walk import file_fingerprint
from vidkd.detection.stream.outputs import FORMATS
from vidkd.detection.stream.parts import Parts
from vidkd.engine.sources import is_live
from vidkd.video.image_sequence import is_image_sequence, list_images

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
