"""One untrimmed video: what is in it (cheap to draw from its seed), and its frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.data.cued_shapes.config import CuedShapesConfig
from vidkd.data.cued_shapes.files import NOISE, SCENE, labels_of
from vidkd.data.cued_shapes.path import Episode, actor_path, draw_timeline
from vidkd.data.motion_shapes.motion import Array, Role, shape_path
from vidkd.data.motion_shapes.scene import Stage, all_boxes, draw_background_motion, draw_roles, draw_shapes, render_stage


@dataclass(frozen=True, kw_only=True)
class CuedScene(Stage):
    """All that is true of a video. number: which file of the data set, from 1, training files first."""

    number: int
    episodes: tuple[Episode, ...]


def draw_cued_scene(config: CuedShapesConfig, number: int) -> CuedScene:
    """What happens in a file: depends on the config and the file's number, on no other file.

    Data sets that differ in their shift alone have the same timeline, classes, looks, places of cues and distractors.
    """
    rng = np.random.default_rng([config.seed, SCENE, number])
    timeline = draw_timeline(config, rng)
    roles = draw_roles(config, rng)
    shapes = draw_shapes(config, number, len(roles), rng)
    velocity, background_start = draw_background_motion(config, rng)
    episodes, path = actor_path(config, labels_of(config, number), timeline, rng)
    centres = np.stack([path if role == "actor" else _distractor_path(config, role, timeline.frames, rng) for role in roles])
    return CuedScene(
        number=number,
        episodes=episodes,
        shapes=shapes,
        roles=roles,
        centres=centres,
        boxes=all_boxes(config, shapes, centres),
        actor=roles.index("actor"),
        background_velocity=velocity,
        background_start=background_start,
    )


def render_cued(config: CuedShapesConfig, scene: CuedScene) -> NDArray[np.uint8]:
    """The frames of a video, uint8 RGB (T, size, size, 3)."""
    return render_stage(config, scene, group=scene.number, noise_rng=np.random.default_rng([config.seed, NOISE, scene.number]))


def _distractor_path(config: CuedShapesConfig, role: Role, frames: int, rng: np.random.Generator) -> Array:
    """As in motion_shapes, with the amplitude of a cue: at any one time a distractor's position follows the law of an actor's in a cue."""
    return config.size / 2 + shape_path(
        rng,
        role,
        classes=config.classes,
        actor_class=config.classes[0],
        own_phase=np.zeros(frames),
        amplitude=config.cue_amplitude,
        free=config.free_half_extents,
        drift=config.drift,
        jitter=config.jitter,
    )
