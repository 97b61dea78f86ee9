"""motion_shapes: generated clips in which the motion of one shape among others is the class, and one frame says nothing."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidkd.base.files import sha256
from vidkd.data.manifest import Clip
from vidkd.data.synthetic.scene import (
    BORDER,
    CLASSES,
    SPLIT,
    Role,
    SceneConfig,
    Stage,
    actor_boxes,
    draw_background_motion,
    draw_roles,
    draw_shapes,
    half_extents,
    render_stage,
    running_phase,
    shape_path,
    shape_rows,
    stage_of,
    write_manifest,
)
from vidkd.data.synthetic.shapes import Array
from vidkd.data.synthetic.write import Written, random_numbers, write_data_set, write_lines, write_rows


@dataclass(frozen=True, kw_only=True)
class MotionShapesConfig(SceneConfig):
    """Size and difficulty of the data set; every field, of SceneConfig too, is also a flag of `vidkd make_data`.

    Args:
        clips_per_class_train: training clips a class; a multiple of clips_per_group.
        clips_per_class_test: test clips a class; a multiple of clips_per_group.
        clips_per_group: clips of each class that share background and look; a group is on one side of the split.
        frames: frames a clip.
        earliest_onset_s: until its onset, drawn between these two times, the actor is still.
        latest_onset_s: see earliest_onset_s; both 0 is motion from the first frame.
    """

    data_set: ClassVar[str] = "motion_shapes"

    clips_per_class_train: int = 80
    clips_per_class_test: int = 28
    clips_per_group: int = 2
    frames: int = 36
    earliest_onset_s: float = 0.0
    latest_onset_s: float = 0.0

    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        **SceneConfig.ranges,
        "clips_per_class_train": (1, math.inf),
        "clips_per_class_test": (1, math.inf),
        "clips_per_group": (1, 99),
        "frames": (2, math.inf),
        "earliest_onset_s": (0, math.inf),
    }

    def __post_init__(self) -> None:
        self.check("classes", "motion", CLASSES, 2)
        for key in ("clips_per_class_train", "clips_per_class_test"):
            if getattr(self, key) % self.clips_per_group:
                raise self.error(f"{key} must be a multiple of clips_per_group = {self.clips_per_group}")
        if not self.earliest_onset_s <= self.latest_onset_s < (self.frames - 1) / self.fps:
            raise self.error("0 <= earliest_onset_s <= latest_onset_s < length of the clip is needed")
        self.check_room(self.free_half_extents, "amplitude or amplitude_spread")

    @property
    def free_half_extents(self) -> tuple[float, float]:
        """Half width and half height of the rectangle in which a shape's centre of motion may lie, in pixels."""
        reach_x, reach_y = half_extents(self.classes)
        room = self.size / 2 - BORDER
        return room - self.largest_amplitude * reach_x, room - self.largest_amplitude * reach_y

    @property
    def groups_train(self) -> int:
        """Number of groups on the training side; they come first."""
        return self.clips_per_class_train // self.clips_per_group


class ClipPlace(NamedTuple):
    """Which clip of the data set: group (from 1), class (index into the classes of the config), number within both (from 1)."""

    group: int
    label: int
    number: int


@dataclass(frozen=True, kw_only=True)
class Scene(Stage):
    """All that is true of a clip. onset_frame: the first frame that differs from the one before is the next."""

    place: ClipPlace
    onset_frame: int


def draw_scene(config: MotionShapesConfig, place: ClipPlace) -> Scene:
    """What happens in a clip: depends on the config and the clip's place, on no other clip."""
    rng = random_numbers(config.seed, "scene", *place)
    onset_frame = round(rng.uniform(config.earliest_onset_s, config.latest_onset_s) * config.fps)
    roles = draw_roles(config, rng)
    shapes = draw_shapes(config, place.group, len(roles), rng)
    centres = np.stack([config.size / 2 + _draw_path(config, place, role, onset_frame, rng) for role in roles])
    return Scene(place=place, onset_frame=onset_frame, **stage_of(config, roles, shapes, centres, draw_background_motion(config, rng)))


def render(config: MotionShapesConfig, scene: Scene) -> NDArray[np.uint8]:
    """The frames of a clip, uint8 RGB (T, size, size, 3)."""
    return render_stage(config, scene, group=scene.place.group, noise_rng=random_numbers(config.seed, "noise", *scene.place))


def _draw_path(config: MotionShapesConfig, place: ClipPlace, role: Role, onset_frame: int, rng: np.random.Generator) -> Array:
    actor_class = config.classes[place.label]
    amplitude = config.amplitude * (1 + config.amplitude_spread * rng.uniform(-1, 1))
    period = config.period * (1 + config.period_spread * rng.uniform(-1, 1))
    return shape_path(
        rng,
        role,
        classes=config.classes,
        actor_class=actor_class,
        own_phase=running_phase(config.frames, period, onset_frame, actor_class),
        amplitude=amplitude,
        free=config.free_half_extents,
        drift=config.drift,
        jitter=config.jitter,
    )


CLASS_LIST, TRAIN_LIST, TEST_LIST = "splits/classInd.txt", "splits/trainlist01.txt", "splits/testlist01.txt"


def clip_places(config: MotionShapesConfig) -> Iterator[ClipPlace]:
    """Every clip of the data set: groups in order, training groups first; classes within a group; numbers within a class."""
    for group in range(1, config.groups_train + config.clips_per_class_test // config.clips_per_group + 1):
        for label in range(len(config.classes)):
            for number in range(1, config.clips_per_group + 1):
                yield ClipPlace(group=group, label=label, number=number)


def subset_of(config: MotionShapesConfig, place: ClipPlace) -> Literal["train", "test"]:
    """The side of the split to which a clip, with its whole group, belongs."""
    return "train" if place.group <= config.groups_train else "test"


def video_path(config: MotionShapesConfig, place: ClipPlace) -> str:
    """videos/<Class>/v_<Class>_g<gg>_c<cc>.mp4, relative to the data set's folder."""
    name = config.classes[place.label]
    return f"videos/{name}/v_{name}_g{place.group:02d}_c{place.number:02d}.mp4"


def write_lists(out: Path, config: MotionShapesConfig) -> None:
    """Write splits/, truth.jsonl and manifest.jsonl under `out`, each file whole or not at all."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for place in clip_places(config):
        name, subset = video_path(config, place).removeprefix("videos/"), subset_of(config, place)
        lines[subset].append(f"{name} {place.label + 1}" if subset == "train" else name)
    write_lines(out / CLASS_LIST, (f"{number} {name}" for number, name in enumerate(config.classes, start=1)))
    write_lines(out / TRAIN_LIST, sorted(lines["train"]))
    write_lines(out / TEST_LIST, sorted(lines["test"]))
    scenes = [draw_scene(config, place) for place in clip_places(config)]
    write_rows(out / "truth.jsonl", (truth_row(config, scene) for scene in scenes))
    sources = {name: sha256(out / name) for name in (CLASS_LIST, TRAIN_LIST, TEST_LIST)}
    write_manifest(out, config, (_manifest_clip(config, scene) for scene in scenes), sources)


def truth_row(config: MotionShapesConfig, scene: Scene) -> dict[str, Any]:
    """One line of truth.jsonl.

    path, label (index), class, onset_s; actor: index into shapes; shapes: [{"name", "role", "boxes": [[x1, y1, x2, y2] of every frame]}] in
    painting order, boxes in pixels, whole shapes whether hidden by a later one or not; background_velocity: [x, y] in pixels a frame.
    """
    return {
        "path": video_path(config, scene.place),
        "label": scene.place.label,
        "class": config.classes[scene.place.label],
        "onset_s": scene.onset_frame / config.fps,
        "actor": scene.actor,
        "shapes": shape_rows(scene),
        "background_velocity": [round(part, 4) for part in scene.background_velocity],
    }


def _manifest_clip(config: MotionShapesConfig, scene: Scene) -> Clip:
    place = scene.place
    return Clip(
        path=video_path(config, place),
        label=place.label,
        group=f"g{place.group:02d}",
        subsets={SPLIT: subset_of(config, place)},
        boxes=actor_boxes(scene, config.fps),
        onset_s=scene.onset_frame / config.fps,
    )


def write_motion_shapes(out: Path | str, config: MotionShapesConfig | None = None, *, workers: int | None = None) -> Written:
    """Write videos, split lists, manifest.jsonl, truth.jsonl and config.json under `out`; see `write_data_set`."""
    config = config or MotionShapesConfig()
    places = {video_path(config, place): place for place in clip_places(config)}
    train = sum(subset_of(config, place) == "train" for place in places.values())
    return write_data_set(Path(out), config, places, _frames, write_lists, workers, {"train": train, "test": len(places) - train})


def _frames(config: MotionShapesConfig, place: ClipPlace) -> NDArray[np.uint8]:
    return render(config, draw_scene(config, place))
