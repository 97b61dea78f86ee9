"""What the data set of streams is made of, and how hard it is."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.data.motion_shapes.shapes import KINDS


@dataclass(frozen=True, kw_only=True)
class StreetShapesConfig:
    """Size and difficulty; every field is also a flag of `vidkd make_motion_shapes --variant street`.

    Args:
        kinds: the classes, out of disc, square, diamond, triangle, cross.
        size: side of the square frame in pixels, an even number.
        fps: frames a second.
        videos_plain: training videos of plain scenes: most have a smooth background, even light, and brighter shapes of a middle size.
        videos_wide: training videos of scenes of every appearance.
        videos_val: validation videos of either kind.
        video_scenes: scenes of a training or validation video, each with an appearance of its own.
        scene_frames: frames of such a scene.
        scene_step: frames of a stream from one frame of such a scene to the next, so that shapes have moved on.
        streams_train: streams to train selectors on.
        streams_val: streams to validate selectors and settings on.
        streams_test: streams to judge on.
        stream_s: seconds of a stream.
        pattern: scenes of a stream in turn, a letter each; a letter that comes again is the same scene, with other shapes passing.
        shortest_visit_s: a scene stays at least that long; what is left of stream_s is shared out at random.
        arrivals_per_s: shapes that enter a second, on average over quiet and busy times.
        most_shapes: shapes that are on their way at once, at most.
        slowest: speed of the slowest shape in pixels a frame.
        fastest: speed of the fastest shape in pixels a frame.
        stops: share of the shapes that stop on their way.
        longest_stop_s: a stop lasts between a quarter of this and all of it.
        wideness: how far the appearance of wide scenes and of streams reaches, in [0, 1].
        plain_wideness: how far that of plain scenes reaches; 0 is smooth, even and bright throughout.
        seed: every video is drawn from this number and its own place in the list.
    """

    data_set: ClassVar[str] = "street_shapes"

    kinds: tuple[str, ...] = ("disc", "square", "triangle", "cross")
    size: int = 112
    fps: float = 15.0
    videos_plain: int = 8
    videos_wide: int = 16
    videos_val: int = 2
    video_scenes: int = 40
    scene_frames: int = 3
    scene_step: int = 10
    streams_train: int = 2
    streams_val: int = 2
    streams_test: int = 3
    stream_s: float = 44.0
    pattern: str = "ABACB"
    shortest_visit_s: float = 5.0
    arrivals_per_s: float = 0.6
    most_shapes: int = 6
    slowest: float = 0.7
    fastest: float = 2.4
    stops: float = 0.35
    longest_stop_s: float = 3.0
    wideness: float = 1.0
    plain_wideness: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.kinds:
            if name not in KINDS:
                raise unknown_name("shape", name, KINDS, key="kinds")
        for key, (low, high) in _RANGES.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise ConfigError(f"street_shapes: {key} must lie in [{low:g}, {high:g}], not {value:g}")
        if len(set(self.kinds)) < max(1, len(self.kinds)):
            raise ConfigError("street_shapes: kinds must be different shapes, at least one", kinds=", ".join(self.kinds))
        if self.size % 2:
            raise ConfigError(f"street_shapes: size must be even for the video codec, not {self.size}")
        if self.slowest > self.fastest:
            raise ConfigError("street_shapes: slowest must not be above fastest")
        if not self.pattern.isalpha():
            raise ConfigError(f"street_shapes: pattern must be letters, one a scene, not '{self.pattern}'")
        if len(self.pattern) * self.shortest_visit_s > self.stream_s:
            raise ConfigError(
                f"street_shapes: {len(self.pattern)} visits of at least {self.shortest_visit_s:g} s do not fit into {self.stream_s:g} s",
                hint="a longer stream_s, a shorter shortest_visit_s or pattern",
            )

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON holds them."""
        return {**dataclasses.asdict(self), "kinds": list(self.kinds)}

    @property
    def stream_frames(self) -> int:
        """Frames of a stream."""
        return round(self.stream_s * self.fps)

    @property
    def shortest_visit_frames(self) -> int:
        """Fewest frames that a scene of a stream stays."""
        return math.floor(self.shortest_visit_s * self.fps)


_RANGES: dict[str, tuple[float, float]] = {
    "size": (48, 4096),
    "fps": (1, 240),
    "videos_plain": (0, 999),
    "videos_wide": (0, 999),
    "videos_val": (0, 999),
    "video_scenes": (1, 9999),
    "scene_frames": (1, 9999),
    "scene_step": (1, 9999),
    "streams_train": (0, 999),
    "streams_val": (0, 999),
    "streams_test": (0, 999),
    "stream_s": (1, math.inf),
    "shortest_visit_s": (0, math.inf),
    "arrivals_per_s": (0, math.inf),
    "most_shapes": (1, 100),
    "slowest": (0.01, math.inf),
    "fastest": (0.01, math.inf),
    "stops": (0, 1),
    "longest_stop_s": (0, math.inf),
    "wideness": (0, 1),
    "plain_wideness": (0, 1),
    "seed": (0, math.inf),
}
