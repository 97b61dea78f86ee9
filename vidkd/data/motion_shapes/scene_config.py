"""What the generated data sets have in common: the frame, the shapes, how they move and how hard they are to see."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.data.motion_shapes.motion import CLASSES

BORDER = 2.0  # pixels from the edge of the frame to the farthest that the middle of a shape can be


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Size and looks of the frames, and how the shapes move.

    Args:
        classes: motions to tell apart, out of LeftRight, UpDown, Rising, Falling, Clockwise, CounterClockwise.
        size: side of the square frame in pixels, an even number.
        fps: frames a second.
        amplitude: how far the actor moves to each side of its centre, in pixels. Smaller is harder.
        amplitude_spread: amplitudes differ by up to this share.
        period: frames of one oscillation or orbit. Longer is slower, and harder when a window holds less than one.
        period_spread: periods differ by up to this share.
        distractors: shapes besides the actor. More is harder.
        moving_distractors: share of the distractors that drift or jitter; the rest stands still.
        drift: speed of a drifting distractor in pixels a frame.
        jitter: restlessness of a jittering distractor in radians a frame; a step is about amplitude * jitter pixels.
        radius: radius of a shape in pixels.
        radius_spread: radii differ by up to this share.
        contrast: how far a shape's brightness is from the background's mean, in [0, 1]. Smaller is harder, for flow too.
        darker: share of the looks that are darker than the background; the rest is brighter. A mixture is harder for RGB, not for flow.
        texture: strength of the pattern that a shape carries with it, in [0, 1]. It gives flow something to hold on to.
        background_contrast: strength of the background's texture, in [0, 1]. Larger hides the shapes in a still frame.
        background_speed: speed of the background in pixels a frame, in a direction of each file's own. Larger is harder, for RGB most.
        noise: standard deviation of the noise of every pixel and frame, in [0, 1]. Larger is harder, and files grow.
        seed: every file is drawn from this number and its own place in the list.
    """

    data_set: ClassVar[str]

    classes: tuple[str, ...] = CLASSES
    size: int = 80
    fps: float = 25.0
    amplitude: float = 6.0
    amplitude_spread: float = 0.15
    period: float = 16.0
    period_spread: float = 0.15
    distractors: int = 1
    moving_distractors: float = 0.7
    drift: float = 0.8
    jitter: float = 0.3
    radius: float = 7.0
    radius_spread: float = 0.2
    contrast: float = 0.5
    darker: float = 0.0
    texture: float = 0.15
    background_contrast: float = 0.05
    background_speed: float = 0.5
    noise: float = 0.02
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON holds them."""
        return {**dataclasses.asdict(self), "classes": list(self.classes)}

    def check(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Raise ConfigError for an unknown class, a field outside its range, or an odd size; ranges: those of a subclass's own fields."""
        for name in self.classes:
            if name not in CLASSES:
                raise unknown_name("motion", name, CLASSES, key="classes")
        for key, (low, high) in {**_RANGES, **ranges}.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise ConfigError(f"{self.data_set}: {key} must lie in [{low:g}, {high:g}], not {value:g}")
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise ConfigError(f"{self.data_set}: classes must be at least two different motions", classes=", ".join(self.classes))
        if self.size % 2:
            raise ConfigError(f"{self.data_set}: size must be even for the video codec, not {self.size}")

    def check_room(self, free_half_extents: Sequence[float], amplitudes: str) -> None:
        """Raise ConfigError if shapes would leave the frame; `amplitudes` names the fields to turn down."""
        if min(free_half_extents) < 0:
            raise ConfigError(
                f"{self.data_set}: shapes would leave the frame of {self.size} pixels",
                hint=f"a smaller {amplitudes}, fewer classes, or a larger size",
            )

    @property
    def largest_amplitude(self) -> float:
        """The largest amplitude that is drawn, in pixels."""
        return self.amplitude * (1 + self.amplitude_spread)


_RANGES: dict[str, tuple[float, float]] = {
    "size": (16, 4096),
    "fps": (1, 240),
    "amplitude": (0, math.inf),
    "amplitude_spread": (0, 0.9),
    "period": (3, math.inf),
    "period_spread": (0, 0.9),
    "distractors": (0, 100),
    "moving_distractors": (0, 1),
    "drift": (0, math.inf),
    "jitter": (0, math.inf),
    "radius": (1, math.inf),
    "radius_spread": (0, 0.9),
    "contrast": (0, 1),
    "darker": (0, 1),
    "texture": (0, 1),
    "background_contrast": (0, 1),
    "background_speed": (0, math.inf),
    "noise": (0, 1),
    "seed": (0, math.inf),
}
