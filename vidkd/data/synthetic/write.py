"""Writing a generated data set: every video on its own, so that the work spreads over processes and resumes after an interruption."""

import functools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import atomic_write, read_json, write_json
from vidkd.base.progress import Progress
from vidkd.base.walk import map_files
from vidkd.video import write_video

GENERATOR_VERSION = 1  # raised whenever the same config would give other frames


class GeneratedConfig(Protocol):
    """The config of a generated data set."""

    @property
    def fps(self) -> float:
        """Frames a second of its videos."""
        ...

    @property
    def data_set(self) -> str:
        """Which data set."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON holds them."""
        ...


Config = TypeVar("Config", bound="GeneratedConfig")


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a call did: videos written now, videos that were there, the seconds it took, and what the data set holds, by name."""

    out: Path
    written: int
    kept: int
    seconds: float
    counts: Mapping[str, int] = field(default_factory=dict)


def write_data_set(
    out: Path,
    config: Config,
    paths: Sequence[str],
    frames_of: Callable[[Config, str], Iterable[NDArray[np.uint8]]],
    write_truth: Callable[[Path, Config], None],
    workers: int | None,
) -> Written:
    """Write config.json, the videos `paths` (relative to `out`) that are not there, and the lists of the data set.

    frames_of: importable by name; depends on its arguments only. workers: processes (None: one a CPU; 0 or 1: this process).
    Raises ConfigError if `out` holds another config's data set, DataError if it holds other files in videos/ or a video cannot be written.
    """
    started = time.perf_counter()
    claim(out, config)
    todo = [path for path in paths if not (out / path).is_file()]
    work = map_files(
        functools.partial(_write_one, out=str(out), config=config, frames_of=frames_of), todo, workers=workers, fingerprint=_no_fingerprint
    )
    for result in Progress(len(todo), "videos", every_steps=1 << 60).over(work) if todo else ():
        if result.error is not None:
            raise DataError(
                f"cannot write a video: {out / result.item}", reason=result.error, hint="fix it and run again; videos written stay"
            )
    write_truth(out, config)
    return Written(out=out, written=len(todo), kept=len(paths) - len(todo), seconds=time.perf_counter() - started)


def _write_one(path: str, *, out: str, config: Config, frames_of: Callable[[Config, str], Iterable[NDArray[np.uint8]]]) -> None:
    target = Path(out, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_video(target, iter(frames_of(config, path)), fps=config.fps)


def _no_fingerprint(_item: str) -> str:
    return ""


def claim(out: Path, config: GeneratedConfig) -> None:
    """Record the config in `out`, or check that it is the one recorded there.

    Raises ConfigError if `out` holds another config's data set, DataError if it holds videos and no config.
    """
    record = {"schema_version": 1, "data_set": config.data_set, "generator_version": GENERATOR_VERSION, "config": config.as_dict()}
    path = out / "config.json"
    if path.exists():
        _check_same(path, read_json(path), record)
    elif (out / "videos").exists():
        raise DataError(f"videos/ is there, but no config.json that says what made it: {out}", hint="choose an empty folder with --out")
    else:
        write_json(path, record)


def _check_same(path: Path, there: Any, asked: dict[str, Any]) -> None:
    if there == asked:
        return
    found = there.get("config", {}) if isinstance(there, dict) else {}
    differing = [
        f"{key}: {found.get(key)!r} there, {value!r} asked" for key, value in asked["config"].items() if found.get(key, None) != value
    ]
    raise ConfigError(
        f"the folder holds a data set that was generated with a different config: {path.parent}",
        recorded_in=path,
        differing="; ".join(differing) or "made by another version of the generator",
        hint="choose another folder with --out, or delete this one yourself",
    )


def write_text_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text atomically."""
    with atomic_write(path) as file:
        file.writelines(f"{line}\n" for line in lines)


def json_line(row: Mapping[str, Any]) -> str:
    """A row as JSON without its newline; NaN is refused (ValueError)."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)
