"""What the embedded data set is made of, and how hard it is."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.data.motion_shapes.motion import CLASSES, half_extents

BORDER = 2.0  # pixels from the edge of the frame to the farthest that the middle of a shape can be


@dataclass(frozen=True, kw_only=True)
class MotionShapesConfig:
    """Size and difficulty of the data set; every field is also a flag of `vidkd make_motion_shapes`.

    Args:
        classes: motions to tell apart, out of LeftRight, UpDown, Rising, Falling, Clockwise, CounterClockwise.
        clips_per_class_train: training clips a class; a multiple of clips_per_group.
        clips_per_class_test: test clips a class; a multiple of clips_per_group.
        clips_per_group: clips of each class that share background and look; a group stands on one side of the split.
        frames: frames a clip.
        size: side of the square frame in pixels, an even number.
        fps: frames a second.
        amplitude: how far the actor moves to each side of its centre, in pixels. Smaller is harder.
        amplitude_spread: amplitudes differ between clips by up to this share.
        period: frames of one oscillation or orbit. Longer is slower, and harder when a window holds less than one.
        period_spread: periods differ between clips by up to this share.
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
        background_speed: speed of the background in pixels a frame, in a direction of each clip's own. Larger is harder, for RGB most.
        noise: standard deviation of the noise of every pixel and frame, in [0, 1]. Larger is harder, and files grow.
        earliest_onset_s: until its onset, drawn between these two times, the actor stands still.
        latest_onset_s: see earliest_onset_s; both 0 is motion from the first frame.
        seed: every clip is drawn from this number and its own place in the list.
    """

    classes: tuple[str, ...] = CLASSES
    clips_per_class_train: int = 80
    clips_per_class_test: int = 28
    clips_per_group: int = 2
    frames: int = 36
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
    earliest_onset_s: float = 0.0
    latest_onset_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.classes:
            if name not in CLASSES:
                raise unknown_name("motion", name, CLASSES, key="classes")
        for key, (low, high) in _RANGES.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise ConfigError(f"motion_shapes: {key} must lie in [{low:g}, {high:g}], not {value:g}")
        self._check_parts_fit()

    def _check_parts_fit(self) -> None:
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise ConfigError("motion_shapes: classes must be at least two different motions", classes=", ".join(self.classes))
        for key in ("clips_per_class_train", "clips_per_class_test"):
            if getattr(self, key) % self.clips_per_group:
                raise ConfigError(f"motion_shapes: {key} must be a multiple of clips_per_group = {self.clips_per_group}")
        if self.size % 2:
            raise ConfigError(f"motion_shapes: size must be even for the video codec, not {self.size}")
        if not self.earliest_onset_s <= self.latest_onset_s < (self.frames - 1) / self.fps:
            raise ConfigError("motion_shapes: 0 <= earliest_onset_s <= latest_onset_s < length of the clip is needed")
        if min(self.free_half_extents) < 0:
            raise ConfigError(
                f"motion_shapes: shapes would leave the frame of {self.size} pixels",
                to_mend="a smaller amplitude or amplitude_spread, fewer classes, or a larger size",
            )

    @property
    def free_half_extents(self) -> tuple[float, float]:
        """Half width and half height of the rectangle in which a shape's centre of motion may lie, in pixels; see docs/motion_shapes.md."""
        reach_x, reach_y = half_extents(self.classes)
        amplitude = self.amplitude * (1 + self.amplitude_spread)
        room = self.size / 2 - BORDER
        return room - amplitude * reach_x, room - amplitude * reach_y

    @property
    def groups_train(self) -> int:
        """Number of groups on the training side; they come first."""
        return self.clips_per_class_train // self.clips_per_group

    @property
    def groups_test(self) -> int:
        """Number of groups on the test side."""
        return self.clips_per_class_test // self.clips_per_group

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON holds them."""
        return {**dataclasses.asdict(self), "classes": list(self.classes)}


_RANGES: dict[str, tuple[float, float]] = {
    "clips_per_class_train": (1, math.inf),
    "clips_per_class_test": (1, math.inf),
    "clips_per_group": (1, 99),
    "frames": (2, math.inf),
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
    "earliest_onset_s": (0, math.inf),
    "seed": (0, math.inf),
}
