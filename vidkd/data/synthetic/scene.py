"""Scenes of moving shapes, which motion_shapes and cued_shapes share.

A shape's position is a centre plus one term for every pattern of the data set (a line in each direction, a ring), each at a phase of its
own. The actor lets the phase of its own class run and keeps the others; a still shape keeps all; one that jitters lets all
wander. At any single time every phase is uniform and independent of the others in all of these cases, so one frame cannot tell them apart.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vidkd.data.manifest import Clip, Manifest
from vidkd.data.synthetic.shapes import KINDS, Array, Image, Shape, as_pixels, boxes_of, draw_waves, paint, smooth_texture
from vidkd.data.synthetic.write import GeneratedConfig, random_numbers

Role = Literal["actor", "still", "drift", "jitter"]
# class -> (its pattern, the way the phase runs); y points down, so a growing phase goes round clockwise on the screen
MOTIONS: dict[str, tuple[str, int]] = {
    "LeftRight": ("horizontal", 1),
    "UpDown": ("vertical", 1),
    "Rising": ("rising", 1),
    "Falling": ("falling", 1),
    "Clockwise": ("ring", 1),
    "CounterClockwise": ("ring", -1),
}
CLASSES = tuple(MOTIONS)
SPLIT = "1"  # what the UCF101 layout calls the split of trainlist01.txt and testlist01.txt
# pattern -> (x, y) amplitudes of the cosine and of the sine of the phase
_HALF = math.sqrt(0.5)
_PATTERNS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "horizontal": ((1, 0), (0, 0)),
    "vertical": ((0, 1), (0, 0)),
    "rising": ((_HALF, -_HALF), (0, 0)),
    "falling": ((_HALF, _HALF), (0, 0)),
    "ring": ((1, 0), (0, 1)),
}


def patterns_of(classes: Sequence[str]) -> list[str]:
    """The patterns that these classes need, each once, in a fixed order."""
    needed = {MOTIONS[name][0] for name in classes}
    return [name for name in _PATTERNS if name in needed]


def half_extents(classes: Sequence[str]) -> tuple[float, float]:
    """How far the patterns together can lead from the centre in x and in y, at amplitude 1."""
    weights = np.abs(np.array([_PATTERNS[name] for name in patterns_of(classes)])).max(1).sum(0)
    return float(weights[0]), float(weights[1])


def running_phase(frames: int, period: float, onset_frame: int, actor_class: str) -> Array:
    """Phase of the actor's own pattern relative to its start: 0 up to the onset, then a turn every `period` frames. Shape (T,)."""
    return MOTIONS[actor_class][1] * 2 * np.pi * np.maximum(np.arange(frames) - onset_frame, 0) / period


def shape_path(
    rng: np.random.Generator,
    role: Role,
    *,
    classes: Sequence[str],
    actor_class: str,
    own_phase: Array,
    amplitude: float,
    free: tuple[float, float],
    drift: float,
    jitter: float,
) -> Array:
    """Positions (T, 2) in pixels relative to the middle of the frame.

    own_phase: (T,), from `running_phase`; used for the role "actor" only. free: half width and height of where centres lie, in pixels.
    drift: pixels a frame; jitter: radians a frame. The number of draws depends on the role, but the first ones are the same for all.
    """
    frames, names = len(own_phase), patterns_of(classes)
    phases = np.broadcast_to(rng.uniform(0, 2 * np.pi, len(names)), (frames, len(names))).copy()
    start = rng.uniform(-1, 1, 2)
    steps, velocity = np.zeros((frames, len(names))), np.zeros(2)
    if role == "actor":
        steps[:, names.index(MOTIONS[actor_class][0])] = own_phase
    elif role == "jitter":
        steps[1:] = np.cumsum(rng.normal(0, jitter, (frames - 1, len(names))), axis=0)
    elif role == "drift":
        heading = rng.uniform(0, 2 * np.pi)
        velocity = drift * np.array([np.cos(heading), np.sin(heading)])
    centre = between_walls(start, velocity, np.array(free), frames)
    return centre + amplitude * terms(phases + steps, names)


def terms(phases: Array, names: Sequence[str], weights: Array | float = 1.0) -> Array:
    """Sum of the patterns at their phases (T, patterns), times their weights (the same shape, or one for all) -> (T, 2)."""
    cosines, sines = (np.array([_PATTERNS[name][part] for name in names], dtype=np.float64) for part in (0, 1))
    return np.asarray((weights * np.cos(phases)) @ cosines + (weights * np.sin(phases)) @ sines)


def between_walls(start: Array, velocity: Array, half: Array, frames: int) -> Array:
    """Straight motion mirrored at the walls +-half, from half * start: uniform between them at every time if `start` is. Shape (T, 2)."""
    travelled = half * start + np.arange(frames)[:, None] * velocity
    width = np.maximum(2 * half, 1e-9)
    folded = np.abs((travelled + half) % (2 * width) - width)
    return np.asarray(np.where(half > 0, half - folded, 0.0))


BORDER = 2.0  # pixels from the edge of the frame to the farthest that the middle of a shape can be


@dataclass(frozen=True, kw_only=True)
class SceneConfig(GeneratedConfig):
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
        moving_distractors: share of the distractors that drift or jitter; the rest is still.
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

    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
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

    def check_room(self, free_half_extents: Sequence[float], amplitudes: str) -> None:
        """Raise ConfigError if shapes would leave the frame; `amplitudes` names the fields to turn down."""
        if min(free_half_extents) < 0:
            hint = f"a smaller {amplitudes}, fewer classes, or a larger size"
            raise self.error(f"shapes would leave the frame of {self.size} pixels", hint=hint)

    @property
    def largest_amplitude(self) -> float:
        """The largest amplitude that is drawn, in pixels."""
        return self.amplitude * (1 + self.amplitude_spread)


_LOOKS_PER_GROUP = 3
_HUE = 0.5  # strength of the random hue of a shape, relative to its difference in brightness
_DISTRACTOR_ROLES: tuple[Role, Role] = ("drift", "jitter")


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


def render_stage(config: SceneConfig, stage: Stage, *, group: int, noise_rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint a stage over its group's background: frames uint8 RGB (T, size, size, 3)."""
    frames = _scrolling(_group_background(config, group), stage)
    for shape, path in zip(stage.shapes, stage.centres, strict=True):
        paint(frames, shape, path)
    if config.noise:
        frames += np.float32(config.noise) * noise_rng.standard_normal(frames.shape, dtype=np.float32)
    return as_pixels(frames)


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


def stage_of(
    config: SceneConfig,
    roles: Sequence[Role],
    shapes: Sequence[Shape],
    centres: Array,
    background: tuple[tuple[float, float], tuple[float, float]],
) -> dict[str, Any]:
    """The fields of a `Stage`; background: its velocity and where it starts."""
    boxes = np.stack([boxes_of(shape, path, config.size) for shape, path in zip(shapes, centres, strict=True)])
    velocity, start = background
    fields = {"roles": tuple(roles), "shapes": tuple(shapes), "centres": centres, "boxes": boxes, "actor": roles.index("actor")}
    return {**fields, "background_velocity": velocity, "background_start": start}


def _group_looks(config: SceneConfig, group: int) -> list[Shape]:
    """The few looks that actor and distractors of a group share."""
    rng, mean, looks = random_numbers(config.seed, "look", group), _group_colour(config, group), []
    for _ in range(_LOOKS_PER_GROUP):
        # lighter or darker, and some hue: flow looks at brightness alone
        side = -1 if rng.random() < config.darker else 1
        colour = mean + config.contrast * (side + rng.uniform(-_HUE, _HUE, 3))
        waves = draw_waves(config.radius, rng)
        kind = list(KINDS)[rng.integers(len(KINDS))]
        radius = config.radius * (1 + config.radius_spread * rng.uniform(-1, 1))
        looks.append(Shape(kind, radius, np.clip(colour, 0, 1).astype(np.float32), waves, config.texture / 2))
    return looks


def _group_colour(config: SceneConfig, group: int) -> Image:
    """The mean colour of a group's background."""
    return random_numbers(config.seed, "background", group).uniform(0.3, 0.5, 3).astype(np.float32)


@lru_cache(maxsize=4)
def _group_background(config: SceneConfig, group: int) -> Image:
    """A texture (size, size, 3) that repeats without a seam: three octaves of smooth noise around the group's colour."""
    rng = random_numbers(config.seed, "background", group, 1)
    texture = smooth_texture(rng, config.size)
    tint = rng.uniform(0.6, 1.0, 3)
    return (_group_colour(config, group) + config.background_contrast / 2 * texture[..., None] * tint).astype(np.float32)


def _scrolling(background: Image, stage: Stage) -> Image:
    """The background as it moves by: (T, size, size, 3), shifted by parts of a pixel with linear interpolation."""
    (x, y), (dx, dy) = stage.background_start, stage.background_velocity
    return np.stack([_shift(_shift(background, x + t * dx, 1), y + t * dy, 0) for t in range(stage.centres.shape[1])])


def _shift(image: Image, by: float, axis: int) -> Image:
    whole = int(np.floor(by))
    share = np.float32(by - whole)
    return np.asarray((1 - share) * np.roll(image, whole, axis) + share * np.roll(image, whole + 1, axis))


def shape_rows(stage: Stage) -> list[dict[str, Any]]:
    """What truth.jsonl says of the shapes of a file, in painting order."""
    return [
        {"name": shape.kind, "role": role, "boxes": boxes.round(2).tolist()}
        for shape, role, boxes in zip(stage.shapes, stage.roles, stage.boxes, strict=True)
    ]


def actor_boxes(stage: Stage, fps: float, first: int = 0, end: int | None = None) -> tuple[tuple[float, float, float, float, float], ...]:
    """The actor's boxes as a manifest holds them, (time_s, x1, y1, x2, y2), in the frames from `first` to before `end` (default: all)."""
    corners = enumerate(stage.boxes[stage.actor, first:end].round(2).tolist(), start=first)
    return tuple((round(t / fps, 6), x1, y1, x2, y2) for t, (x1, y1, x2, y2) in corners)


def write_manifest(out: Path, config: SceneConfig, clips: Iterable[Clip], sources: Mapping[str, str] | None = None) -> None:
    """Write manifest.jsonl under `out`; a flip would turn one class into another."""
    manifest = Manifest(
        name=config.data_set,
        root=out,
        classes=config.classes,
        splits=(SPLIT,),
        clips=tuple(clips),
        horizontal_flip=False,
        sources=sources or {},
    )
    manifest.write(out / "manifest.jsonl")
