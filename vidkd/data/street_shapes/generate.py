"""Write the data set: every video on its own, so that the work spreads over processes and goes on after an interruption."""

import functools
import time
from dataclasses import dataclass
from pathlib import Path

from vidkd.data.motion_shapes.generate import claim, write_missing
from vidkd.data.street_shapes.config import StreetShapesConfig
from vidkd.data.street_shapes.files import VideoPlace, video_places
from vidkd.data.street_shapes.scene import draw_street, render_street
from vidkd.data.street_shapes.truth import write_truth
from vidkd.video import write_video

# raised whenever the same config would give other frames
GENERATOR_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class StreetShapesWritten:
    """What a call did: videos of short scenes, streams, videos drawn now, videos that lay there whole, and the seconds it took."""

    out: Path
    videos: int
    streams: int
    written: int
    kept: int
    seconds: float


def write_street_shapes(out: Path | str, config: StreetShapesConfig | None = None, *, workers: int | None = None) -> StreetShapesWritten:
    """Write videos/, streams/, truth.jsonl and config.json under `out`, keeping whole videos that lie there.

    workers: processes (default: one a CPU; 0 or 1: this process). The decoded frames depend on the config alone, not on `workers`.
    Raises ConfigError if `out` holds another config's data set, DataError if it holds other files in videos/ or a video cannot be written.
    """
    started = time.perf_counter()
    out, config = Path(out), config or StreetShapesConfig()
    claim(out, config, GENERATOR_VERSION)
    places = _places_by_path(config)
    longest_first = sorted(places, key=lambda path: not places[path].is_stream)
    written = write_missing(out, longest_first, functools.partial(_write_video, out=str(out), config=config), workers)
    write_truth(out, config)
    streams = sum(place.is_stream for place in places.values())
    return StreetShapesWritten(
        out=out,
        videos=len(places) - streams,
        streams=streams,
        written=written,
        kept=len(places) - written,
        seconds=time.perf_counter() - started,
    )


@functools.lru_cache(maxsize=1)
def _places_by_path(config: StreetShapesConfig) -> dict[str, VideoPlace]:
    return {place.path: place for place in video_places(config)}


def _write_video(path: str, *, out: str, config: StreetShapesConfig) -> None:
    target = Path(out, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_video(target, render_street(config, draw_street(config, _places_by_path(config)[path])), fps=config.fps)
