"""Writing a generated data set: every video on its own, so that the work spreads over processes and resumes after an interruption."""

import functools
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, DataError, unknown_name
from vidkd.base.files import atomic_write, claim_record
from vidkd.base.progress import Progress
from vidkd.base.walk import map_files
from vidkd.video import write_video

CONFIG_FILE = "config.json"
GENERATOR_VERSION = 1  # raised whenever the same config would give other frames
PURPOSES = (
    *("look", "background", "scene", "noise", "cued labels", "cued scene", "cued noise"),
    *("street look", "street traffic", "street noise", "street schedule"),
)


def random_numbers(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """The generator for one purpose, out of PURPOSES, and place: what is drawn for a file of a data set depends on no other file."""
    return np.random.default_rng([seed, PURPOSES.index(purpose), *place])


class GeneratedConfig:
    """What the configs of all generated data sets, frozen dataclasses, have in common.

    data_set: its name. ranges: least and largest value of fields.
    """

    data_set: ClassVar[str]
    ranges: ClassVar[Mapping[str, tuple[float, float]]]
    size: int
    fps: float

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def error(self, what: str, **lines: object) -> ConfigError:
        """The error for fields that do not fit together."""
        return ConfigError(f"{self.data_set}: {what}", **lines)

    def check(self, key: str, what: str, known: Collection[str], least: int) -> None:
        """Raise ConfigError for a field outside its range, an odd size, or a name in field `key` that is unknown or given twice.

        what: the names are of. least: of them there must be.
        """
        names = getattr(self, key)
        for name in names:
            if name not in known:
                raise unknown_name(what, name, known, key=key)
        if len(set(names)) < max(least, len(names)):
            raise self.error(f"{key} must be at least {least}, all different", found=", ".join(names))
        for name, (low, high) in self.ranges.items():
            if not low <= getattr(self, name) <= high:
                raise self.error(f"{name} must lie in [{low:g}, {high:g}], not {getattr(self, name):g}")
        if self.size % 2:
            raise self.error(f"size must be even for the video codec, not {self.size}")


Config = TypeVar("Config", bound=GeneratedConfig)
Place = TypeVar("Place")


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
    places: Mapping[str, Place],
    frames_of: Callable[[Config, Place], Iterable[NDArray[np.uint8]]],
    write_truth: Callable[[Path, Config], None],
    workers: int | None,
    counts: Mapping[str, int],
) -> Written:
    """Write config.json, the videos that are not there, and the lists of the data set.

    places: path relative to `out` -> what `frames_of`, importable by name, makes the video of. workers: processes (None: one a CPU; 0 or
    1: this process). counts: what the data set holds.
    Raises ConfigError if `out` holds another config's data set, DataError if it holds other files in videos/ or a video cannot be written.
    """
    started = time.perf_counter()
    record = {"schema_version": 1, "data_set": config.data_set, "generator_version": GENERATOR_VERSION, "config": config.as_dict()}
    if (out / "videos").exists() and not (out / CONFIG_FILE).exists():
        what = f"videos/ is there, but no {CONFIG_FILE} that says what made it: {out}"
        raise DataError(what, hint="choose an empty folder with --out")
    claim_record(out / CONFIG_FILE, record, what="a generated data set")
    todo = [path for path in places if not (out / path).is_file()]
    write = functools.partial(_write_one, out=str(out), config=config, places=places, frames_of=frames_of)
    work = map_files(write, todo, workers=workers, fingerprint=str)
    for result in Progress(len(todo), "videos", every_steps=1 << 60).over(work) if todo else ():
        if result.error is not None:
            hint = "fix it and run again; videos written stay"
            raise DataError(f"cannot write a video: {out / result.item}", reason=result.error, hint=hint)
    write_truth(out, config)
    seconds = time.perf_counter() - started
    return Written(out=out, written=len(todo), kept=len(places) - len(todo), seconds=seconds, counts=counts)


def _write_one(path: str, *, out: str, config: Config, places: Mapping[str, Any], frames_of: Callable[..., Any]) -> None:
    write_video(Path(out, path), frames_of(config, places[path]), fps=config.fps)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text atomically."""
    with atomic_write(path) as file:
        file.writelines(f"{line}\n" for line in lines)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines atomically; NaN is refused (ValueError)."""
    write_lines(path, (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows))
