"""What a verb writes: files are looked at before any work and never replaced without being asked; lines may lose their reader."""

import itertools
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vidkd.base.errors import ConfigError, WriteError


def check_outputs(outputs: Mapping[str, str | None], *, source: str, overwrite: bool) -> None:
    """Raise ConfigError where an output can not be, or must not be, written; nothing is made or changed.

    outputs: what each flag names, None for one that is not given; of a flag that names several the path follows it. source: what the verb
    reads. Refused are the source itself, one file for two flags, a folder, a file in what is no folder or may not be written to, and
    without `overwrite` a file that is there. An empty file is no loss and may be replaced; a pipe or a device (/dev/stdout) is written to
    as it is.
    """
    named = {flag: Path(name) for flag, name in outputs.items() if name}
    for flag, path in named.items():
        _check_not_source(flag, path, Path(source))
    for (flag, path), (other, other_path) in itertools.combinations(named.items(), 2):
        if path.resolve() == other_path.resolve():
            raise ConfigError(f"{flag} and {other} name one file: {path}", hint="name another file")
    for words, path in named.items():
        flag = words.partition(" ")[0]
        _check_place(flag, path)
        if not overwrite and path.is_file() and path.stat().st_size:
            raise ConfigError(
                f"the output exists: {path}",
                hint=f"another {flag}, or --overwrite to replace it, also where a run that was interrupted left it",
            )


def check_video_ending(flag: str, name: str | None) -> None:
    """Raise ConfigError for a video that is to be written under a name whose ending is none that keeps the times of frames."""
    from vidkd.video.writer import KEEPS_TIMES

    if name and Path(name).suffix.lower() not in KEEPS_TIMES:
        raise ConfigError(f"{flag} is no video that can be written: {name}", known=", ".join(KEEPS_TIMES), hint="one of these endings")


def check_folder(flag: str, folder: Path) -> None:
    """Raise ConfigError or WriteError where nothing can be written in a folder, by trying it in the nearest one that is there."""
    above = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not above.is_dir():
        raise ConfigError(f"cannot write {flag} {folder}", reason=f"{above} is no folder", hint=f"another {flag}")
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise WriteError.of(folder, error) from error


def drop_output() -> None:
    """Standard output leads nowhere from now on, also for what is still in its buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _check_not_source(flag: str, path: Path, source: Path) -> None:
    if source.exists() and path.exists() and path.samefile(source):
        what = "is the folder of images itself" if source.is_dir() else "would replace the video itself"
        raise ConfigError(f"{flag} {what}: {path}", hint="name another file")


def _check_place(flag: str, path: Path) -> None:
    """The file may be made: it is no folder, and the nearest folder above it that is there takes files."""
    if path.is_dir():
        raise ConfigError(f"{flag} names a folder: {path}", hint="name a file, in it or elsewhere")
    if not path.exists():
        check_folder(flag, path.parent)
