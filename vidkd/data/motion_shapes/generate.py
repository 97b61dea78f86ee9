"""Write the data set: every clip on its own, so that the work spreads over processes and goes on after an interruption."""

import functools
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import read_json, write_json
from vidkd.base.progress import Progress
from vidkd.base.walk import map_files
from vidkd.data.motion_shapes.config import MotionShapesConfig
from vidkd.data.motion_shapes.scene import ClipPlace, draw_scene, render
from vidkd.data.motion_shapes.truth import clip_places, subset_of, video_path, write_lists
from vidkd.video import write_video

# raised whenever the same config would give other frames
GENERATOR_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class MotionShapesWritten:
    """What a call did: rows on each side of the split, videos drawn now, videos that lay there whole, and the seconds it took."""

    out: Path
    train: int
    test: int
    written: int
    kept: int
    seconds: float


def write_motion_shapes(out: Path | str, config: MotionShapesConfig | None = None, *, workers: int | None = None) -> MotionShapesWritten:
    """Write videos, split lists, manifest.jsonl, truth.jsonl and config.json under `out`, keeping whole clips that lie there.

    workers: processes (default: one a CPU; 0 or 1: this process). The decoded frames depend on the config alone, not on `workers`.
    Raises ConfigError if `out` holds another config's data set, DataError if it holds other files in videos/ or a clip cannot be written.
    """
    started = time.perf_counter()
    out, config = Path(out), config or MotionShapesConfig()
    claim(out, config, GENERATOR_VERSION)
    places = _places_by_path(config)
    written = write_missing(out, list(places), functools.partial(_write_clip, out=str(out), config=config), workers)
    write_lists(out, config)
    train = sum(subset_of(config, place) == "train" for place in places.values())
    return MotionShapesWritten(
        out=out,
        train=train,
        test=len(places) - train,
        written=written,
        kept=len(places) - written,
        seconds=time.perf_counter() - started,
    )


def write_missing(out: Path, paths: Sequence[str], write_one: Callable[[str], None], workers: int | None) -> int:
    """Call `write_one` for every path (relative to `out`) where no whole MP4 file lies; returns how many those were.

    write_one, workers: see `map_files`. Raises DataError with the path and reason if a file cannot be written.
    """
    todo = [path for path in paths if not is_whole_mp4(out / path)]
    work = map_files(write_one, todo, workers=workers, fingerprint=_no_fingerprint)
    for result in Progress(len(todo), "videos", every_steps=1 << 60).over(work) if todo else ():
        if result.error is not None:
            raise DataError(
                f"cannot write a clip: {out / result.item}", reason=result.error, hint="mend it and run again; clips written stay"
            )
    return len(todo)


def is_whole_mp4(path: Path) -> bool:
    """Whether the top-level boxes of an MP4 file end exactly where the file ends, and hold an index and frames."""
    if not path.is_file():
        return False
    size, position, kinds = path.stat().st_size, 0, set()
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            head = file.read(16)
            if len(head) < 8:
                return False
            length, kind = struct.unpack(">I4s", head[:8])
            if length == 1 and len(head) == 16:
                length = struct.unpack(">Q", head[8:])[0]
            if length < 8:
                return False
            kinds.add(kind)
            position += length
    return position == size and {b"moov", b"mdat"} <= kinds


@functools.lru_cache(maxsize=1)
def _places_by_path(config: MotionShapesConfig) -> dict[str, ClipPlace]:
    return {video_path(config, place): place for place in clip_places(config)}


def _write_clip(path: str, *, out: str, config: MotionShapesConfig) -> None:
    frames = render(config, draw_scene(config, _places_by_path(config)[path]))
    target = Path(out, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_video(target, iter(frames), fps=config.fps)


def _no_fingerprint(_item: str) -> str:
    return ""


class GeneratedConfig(Protocol):
    """The config of a generated data set."""

    @property
    def data_set(self) -> str:
        """Which data set."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON holds them."""
        ...


def claim(out: Path, config: GeneratedConfig, generator_version: int) -> None:
    """Record the config in `out`, or check that it is the one recorded there.

    Raises ConfigError if `out` holds another config's data set, DataError if it holds videos and no config.
    """
    record = {"schema_version": 1, "data_set": config.data_set, "generator_version": generator_version, "config": config.as_dict()}
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
        f"the folder holds a generated data set made otherwise: {path.parent}",
        recorded_in=path,
        differing="; ".join(differing) or "made by another version of the generator",
        hint="choose another folder with --out, or delete this one yourself",
    )
