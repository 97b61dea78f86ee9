"""One clip: what is in it (cheap to draw from its seed), and its frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidkd.data.motion_shapes.config import MotionShapesConfig
from vidkd.data.motion_shapes.motion import Role, running_phase, shape_path
from vidkd.data.motion_shapes.scene_config import SceneConfig
from vidkd.data.motion_shapes.shapes import KINDS, Shape, boxes_of, draw_waves, paint

Array: TypeAlias = NDArray[np.float64]
Image: TypeAlias = NDArray[np.float32]

# what a stream of random numbers is for; each is drawn from (seed, purpose, ...), so that no clip depends on another; cued_shapes counts on
_LOOK, _BACKGROUND, _SCENE, _NOISE = range(4)
_LOOKS_PER_GROUP = 3
_HUE = 0.5  # strength of the random hue of a shape, relative to its difference in brightness
_DISTRACTOR_ROLES: tuple[Role, Role] = ("drift", "jitter")


@dataclass(frozen=True, kw_only=True)
class ClipPlace:
    """Which clip of the data set: group (from 1), class (index into the classes of the config), number within both (from 1)."""

    group: int
    label: int
    number: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is painted in a file. Shapes lie in painting order, the later over the earlier; `actor` is an index into them.

    centres: (shapes, T, 2) and boxes: (shapes, T, 4) in pixels; background_velocity: (x, y) in pixels a frame.
    """

    shapes: tuple[Shape, ...]
    roles: tuple[Role, ...]
    centres: Array
    boxes: Array
    actor: int
    background_velocity: tuple[float, float]
    background_start: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Scene(Stage):
    """All that is true of a clip. onset_frame: the first frame that differs from the one before is the next."""

    place: ClipPlace
    onset_frame: int


def draw_scene(config: MotionShapesConfig, place: ClipPlace) -> Scene:
    """What happens in a clip: depends on the config and the clip's place, on no other clip."""
    rng = np.random.default_rng([config.seed, _SCENE, place.group, place.label, place.number])
    onset_frame = round(rng.uniform(config.earliest_onset_s, config.latest_onset_s) * config.fps)
    roles = draw_roles(config, rng)
    shapes = draw_shapes(config, place.group, len(roles), rng)
    centres = np.stack([config.size / 2 + _draw_path(config, place, role, onset_frame, rng) for role in roles])
    velocity, start = draw_background_motion(config, rng)
    return Scene(
        place=place,
        shapes=shapes,
        roles=roles,
        centres=centres,
        boxes=all_boxes(config, shapes, centres),
        actor=roles.index("actor"),
        onset_frame=onset_frame,
        background_velocity=velocity,
        background_start=start,
    )


def render(config: MotionShapesConfig, scene: Scene) -> NDArray[np.uint8]:
    """The frames of a clip, uint8 RGB (T, size, size, 3)."""
    place = scene.place
    rng = np.random.default_rng([config.seed, _NOISE, place.group, place.label, place.number])
    return render_stage(config, scene, group=place.group, noise_rng=rng)


def render_stage(config: SceneConfig, stage: Stage, *, group: int, noise_rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint a stage over its group's background: frames uint8 RGB (T, size, size, 3)."""
    frames = _scrolling(_group_background(config, group), stage)
    for shape, path in zip(stage.shapes, stage.centres, strict=True):
        paint(frames, shape, path)
    if config.noise:
        frames += np.float32(config.noise) * noise_rng.standard_normal(frames.shape, dtype=np.float32)
    return np.clip(np.rint(255 * frames), 0, 255).astype(np.uint8)


def draw_roles(config: SceneConfig, rng: np.random.Generator) -> tuple[Role, ...]:
    """Roles in painting order: the actor is as likely to be in front as anyone."""
    moving = rng.random(config.distractors) < config.moving_distractors
    which = rng.integers(len(_DISTRACTOR_ROLES), size=config.distractors)
    roles: list[Role] = [_DISTRACTOR_ROLES[w] if m else "still" for m, w in zip(moving, which, strict=True)]
    roles.insert(int(rng.integers(config.distractors + 1)), "actor")
    return tuple(roles)


def draw_shapes(config: SceneConfig, group: int, count: int, rng: np.random.Generator) -> tuple[Shape, ...]:
    """As many shapes as asked for, each with one of the few looks of the group."""
    looks = _group_looks(config, group)
    return tuple(looks[rng.integers(len(looks))] for _ in range(count))


def draw_background_motion(config: SceneConfig, rng: np.random.Generator) -> tuple[tuple[float, float], tuple[float, float]]:
    """Velocity in pixels a frame and offset in pixels of a background, both (x, y)."""
    heading, start = rng.uniform(0, 2 * np.pi), rng.uniform(0, config.size, 2)
    velocity = config.background_speed * float(np.cos(heading)), config.background_speed * float(np.sin(heading))
    return velocity, (float(start[0]), float(start[1]))


def all_boxes(config: SceneConfig, shapes: Sequence[Shape], centres: Array) -> Array:
    """Boxes (shapes, T, 4) of shapes at centres (shapes, T, 2); see `boxes_of`."""
    return np.stack([boxes_of(shape, path, config.size) for shape, path in zip(shapes, centres, strict=True)])


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


def _group_looks(config: SceneConfig, group: int) -> list[Shape]:
    """The few looks that actor and distractors of a group share."""
    rng = np.random.default_rng([config.seed, _LOOK, group])
    mean = _group_colour(config, group)
    return [_draw_look(config, mean, rng) for _ in range(_LOOKS_PER_GROUP)]


def _draw_look(config: SceneConfig, mean: Image, rng: np.random.Generator) -> Shape:
    # lighter or darker, and some hue: flow looks at brightness alone
    side = -1 if rng.random() < config.darker else 1
    colour = mean + config.contrast * (side + rng.uniform(-_HUE, _HUE, 3))
    waves = draw_waves(config.radius, rng)
    return Shape(
        kind=list(KINDS)[rng.integers(len(KINDS))],
        radius=config.radius * (1 + config.radius_spread * rng.uniform(-1, 1)),
        colour=np.clip(colour, 0, 1).astype(np.float32),
        waves=waves,
        strength=config.texture / 2,
    )


def _group_colour(config: SceneConfig, group: int) -> Image:
    """The mean colour of a group's background."""
    return np.random.default_rng([config.seed, _BACKGROUND, group]).uniform(0.3, 0.5, 3).astype(np.float32)


@lru_cache(maxsize=4)
def _group_background(config: SceneConfig, group: int) -> Image:
    """A texture (size, size, 3) that repeats without a seam: three octaves of smooth noise around the group's colour."""
    rng = np.random.default_rng([config.seed, _BACKGROUND, group, 1])
    texture = smooth_texture(rng, config.size)
    tint = rng.uniform(0.6, 1.0, 3)
    return (_group_colour(config, group) + config.background_contrast / 2 * texture[..., None] * tint).astype(np.float32)


def smooth_texture(rng: np.random.Generator, size: int) -> Array:
    """Three octaves of smooth noise (size, size) that repeat without a seam, with a mean of 0 and a standard deviation of 1."""
    texture = np.zeros((size, size))
    for cells, weight in ((4, 1.0), (9, 0.7), (18, 0.5)):
        texture += weight * smooth_noise(rng, cells, size)
    texture /= texture.std()
    return texture


def smooth_noise(rng: np.random.Generator, cells: int, size: int) -> Array:
    """Value noise of cells x cells random values, smoothly interpolated on a torus to (size, size); zero mean."""
    values = rng.uniform(-1, 1, (cells, cells))
    position = np.arange(size) * cells / size
    low = position.astype(int)
    share = position - low
    share = share * share * (3 - 2 * share)
    weights = np.zeros((size, cells))
    np.add.at(weights, (np.arange(size), low % cells), 1 - share)
    np.add.at(weights, (np.arange(size), (low + 1) % cells), share)
    noise: Array = weights @ values @ weights.T
    noise -= noise.mean()
    return noise


def _scrolling(background: Image, stage: Stage) -> Image:
    """The background as it moves by: (T, size, size, 3), shifted by parts of a pixel with linear interpolation."""
    return np.stack(
        [
            _shift(
                _shift(background, stage.background_start[0] + t * stage.background_velocity[0], 1),
                stage.background_start[1] + t * stage.background_velocity[1],
                0,
            )
            for t in range(stage.centres.shape[1])
        ]
    )


def _shift(image: Image, by: float, axis: int) -> Image:
    whole = int(np.floor(by))
    share = np.float32(by - whole)
    shifted: Image = (1 - share) * np.roll(image, whole, axis) + share * np.roll(image, whole + 1, axis)
    return shifted
