"""What the embedded data set is made of, and how hard it is."""

import math
from dataclasses import dataclass
from typing import ClassVar

from vidkd.base.errors import ConfigError
from vidkd.data.motion_shapes.motion import half_extents
from vidkd.data.motion_shapes.scene_config import BORDER, SceneConfig


@dataclass(frozen=True, kw_only=True)
class MotionShapesConfig(SceneConfig):
    """Size and difficulty of the data set; every field, of SceneConfig too, is also a flag of `vidkd make_motion_shapes`.

    Args:
        clips_per_class_train: training clips a class; a multiple of clips_per_group.
        clips_per_class_test: test clips a class; a multiple of clips_per_group.
        clips_per_group: clips of each class that share background and look; a group stands on one side of the split.
        frames: frames a clip.
        earliest_onset_s: until its onset, drawn between these two times, the actor stands still.
        latest_onset_s: see earliest_onset_s; both 0 is motion from the first frame.
    """

    data_set: ClassVar[str] = "motion_shapes"

    clips_per_class_train: int = 80
    clips_per_class_test: int = 28
    clips_per_group: int = 2
    frames: int = 36
    earliest_onset_s: float = 0.0
    latest_onset_s: float = 0.0

    def __post_init__(self) -> None:
        self.check(_RANGES)
        for key in ("clips_per_class_train", "clips_per_class_test"):
            if getattr(self, key) % self.clips_per_group:
                raise ConfigError(f"motion_shapes: {key} must be a multiple of clips_per_group = {self.clips_per_group}")
        if not self.earliest_onset_s <= self.latest_onset_s < (self.frames - 1) / self.fps:
            raise ConfigError("motion_shapes: 0 <= earliest_onset_s <= latest_onset_s < length of the clip is needed")
        self.check_room(self.free_half_extents, "amplitude or amplitude_spread")

    @property
    def free_half_extents(self) -> tuple[float, float]:
        """Half width and half height of the rectangle in which a shape's centre of motion may lie, in pixels; see docs/motion_shapes.md."""
        reach_x, reach_y = half_extents(self.classes)
        room = self.size / 2 - BORDER
        return room - self.largest_amplitude * reach_x, room - self.largest_amplitude * reach_y

    @property
    def groups_train(self) -> int:
        """Number of groups on the training side; they come first."""
        return self.clips_per_class_train // self.clips_per_group

    @property
    def groups_test(self) -> int:
        """Number of groups on the test side."""
        return self.clips_per_class_test // self.clips_per_group


_RANGES: dict[str, tuple[float, float]] = {
    "clips_per_class_train": (1, math.inf),
    "clips_per_class_test": (1, math.inf),
    "clips_per_group": (1, 99),
    "frames": (2, math.inf),
    "earliest_onset_s": (0, math.inf),
}
