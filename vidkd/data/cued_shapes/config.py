"""What the data set of cues and actions is made of, and how hard it is."""

import math
from dataclasses import dataclass
from typing import ClassVar

from vidkd.base.errors import ConfigError
from vidkd.data.motion_shapes.motion import half_extents
from vidkd.data.motion_shapes.scene_config import BORDER, SceneConfig


@dataclass(frozen=True, kw_only=True)
class CuedShapesConfig(SceneConfig):
    """Size and difficulty of the data set; every field, of SceneConfig too, is also a flag of `vidkd make_motion_shapes --variant cued`.

    Args:
        files_train: training videos; each is a group of its own. Multiples of the number of classes make the classes equally frequent.
        files_test: test videos.
        episodes: episodes a video, each idle time, a cue, a journey and an action.
        shift: pixels from the place of a cue to the place of its action, in any direction. Nothing else depends on it.
        cue_amplitude: how far the actor moves to each side of its centre while it gives the cue, in pixels. Smaller is harder.
        cue_s: seconds of a cue; like travel_s and action_s a whole number of frames.
        travel_s: seconds from the end of a cue to the start of its action; the gap_s at which a student sees all of the cue and no more.
        action_s: seconds of an action.
        shortest_idle_s: idle time is drawn between these two, for each episode and for the end of the video.
        longest_idle_s: see shortest_idle_s.
        wander: speed of the idle actor in pixels a frame.
        unlabelled_share: share of the training videos whose rows have no label in the manifest.
    """

    data_set: ClassVar[str] = "cued_shapes"

    size: int = 84  # two pixels more to each side than in motion_shapes, so that a shift of 24 has room
    files_train: int = 120
    files_test: int = 42
    episodes: int = 3
    shift: float = 12.0
    cue_amplitude: float = 3.5
    cue_s: float = 1.0
    travel_s: float = 0.6
    action_s: float = 1.0
    shortest_idle_s: float = 0.3
    longest_idle_s: float = 0.7
    wander: float = 0.4
    unlabelled_share: float = 0.0

    def __post_init__(self) -> None:
        self.check(_RANGES)
        for key in ("cue_s", "travel_s", "action_s"):
            frames = getattr(self, key) * self.fps
            if round(frames) < 1 or abs(frames - round(frames)) > 1e-6:
                raise ConfigError(f"cued_shapes: {key} must be a whole number of frames, found {frames:g} at {self.fps:g} frames a second")
        shortest, longest = self.idle_frames
        if not 1 <= shortest <= longest:
            raise ConfigError("cued_shapes: a whole number of frames, at least one, must lie between shortest_idle_s and longest_idle_s")
        if self.cue_amplitude > self.amplitude * (1 - self.amplitude_spread):
            raise ConfigError("cued_shapes: cue_amplitude must not be above amplitude * (1 - amplitude_spread)")
        self.check_room(self.free_half_extents, "amplitude or cue_amplitude")
        if self.shift > max(self.free_half_extents):
            raise ConfigError(
                f"cued_shapes: a shift of {self.shift:g} pixels has not always room in the frame",
                hint=f"at most {max(self.free_half_extents):.1f} with these amplitudes, or a larger size",
            )

    @property
    def free_half_extents(self) -> tuple[float, float]:
        """Half width and half height of the rectangle in which centres lie, in pixels: cues and actions around them stay in the frame."""
        reach, own = half_extents(self.classes), [half_extents([name]) for name in self.classes]
        room, more = self.size / 2 - BORDER, self.largest_amplitude - self.cue_amplitude
        free_x, free_y = (room - self.cue_amplitude * reach[axis] - more * max(extents[axis] for extents in own) for axis in (0, 1))
        return free_x, free_y

    @property
    def idle_frames(self) -> tuple[int, int]:
        """Fewest and most frames of idle time."""
        return math.ceil(self.shortest_idle_s * self.fps - 1e-6), math.floor(self.longest_idle_s * self.fps + 1e-6)

    @property
    def cue_frames(self) -> int:
        """Frames of a cue."""
        return round(self.cue_s * self.fps)

    @property
    def travel_frames(self) -> int:
        """Frames from the end of a cue to the start of its action."""
        return round(self.travel_s * self.fps)

    @property
    def action_frames(self) -> int:
        """Frames of an action."""
        return round(self.action_s * self.fps)


_RANGES: dict[str, tuple[float, float]] = {
    "files_train": (1, 9999),
    "files_test": (1, 9999),
    "episodes": (1, 999),
    "shift": (0, math.inf),
    "cue_amplitude": (0, math.inf),
    "cue_s": (0, math.inf),
    "travel_s": (0, math.inf),
    "action_s": (0, math.inf),
    "shortest_idle_s": (0, math.inf),
    "longest_idle_s": (0, math.inf),
    "wander": (0, math.inf),
    "unlabelled_share": (0, 1),
}
