"""How the scenes of street_shapes look: background, light, colours and textures."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vidkd.data.synthetic.shapes import Array, Image, Shape, draw_waves, smooth_noise, smooth_texture

_LOOKS = 4  # of the shapes of a scene; the kind of a shape is drawn without regard to its look
_HUE = 0.5  # strength of the random hue of a shape, relative to its difference in brightness
_RADIUS_SPREAD = 0.12


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the frames of a scene share. background, light: (size, size, 3) float32; a painted frame is multiplied by the light.

    colours: (n, 3) of the shapes; radius: their middle radius in pixels; texture: strength of their own pattern; noise: of every pixel.
    """

    background: Image
    light: Image
    colours: Image
    radius: float
    texture: float
    noise: float


def draw_look(rng: np.random.Generator, size: int, *, reach: float) -> Look:
    """An appearance. reach: how far it may lie from the plain ones, from 0 (a plain one) to 1.

    Plain: a smooth and faint background, even white light, shapes brighter than it, with radii around size / 11.
    """
    kind = list(TEXTURES)[rng.integers(len(TEXTURES))] if rng.random() < reach else "smooth"
    base = 0.4 + (0.1 + 0.22 * reach) * rng.uniform(-1, 1, 3)
    contrast = 0.05 + 0.15 * reach * rng.random()
    tint = rng.uniform(0.6, 1.0, 3)
    background = np.clip(base + contrast / 2 * TEXTURES[kind](rng, size)[..., None] * tint, 0, 1)
    darker = rng.random() < 0.6 * reach
    return Look(
        background=background.astype(np.float32),
        light=_light(rng, size, reach),
        colours=_colours(rng, base, -1 if darker and base.mean() > 0.3 else 1, reach),
        radius=size / 11 * float(np.exp(0.45 * reach * rng.uniform(-1, 1))),
        texture=0.06 + 0.1 * reach * rng.random(),
        noise=0.015 + 0.025 * reach * rng.random(),
    )


def draw_shape(rng: np.random.Generator, look: Look, kinds: tuple[str, ...]) -> Shape:
    """One shape of a scene."""
    radius = look.radius * (1 + _RADIUS_SPREAD * rng.uniform(-1, 1))
    kind, colour = kinds[rng.integers(len(kinds))], look.colours[rng.integers(len(look.colours))]
    return Shape(kind, radius, colour, draw_waves(radius, rng), look.texture)


def _colours(rng: np.random.Generator, base: Array, side: int, reach: float) -> Image:
    """Colours that stand out against the background's mean, all on one side of it."""
    contrast = 0.35 + 0.1 * reach * rng.uniform(-1, 1)
    hues = rng.uniform(-_HUE, _HUE, (_LOOKS, 3)) * (1 + 0.4 * reach)
    return np.clip(base + contrast * (side + hues), 0, 1).astype(np.float32)


def _light(rng: np.random.Generator, size: int, reach: float) -> Image:
    """A gain with a cast of colour, and brighter on one side than on the other."""
    gain = np.exp(0.6 * reach * rng.uniform(-1, 0.4)) * (1 + 0.15 * reach * rng.uniform(-1, 1, 3))
    heading, strength = rng.uniform(0, 2 * np.pi), 0.35 * reach * rng.random()
    across = np.linspace(-1, 1, size)
    slope = np.cos(heading) * across[None, :] + np.sin(heading) * across[:, None]
    return np.asarray(((1 + strength * slope[..., None]) * gain).astype(np.float32))


def _stripes(rng: np.random.Generator, size: int) -> Array:
    """A wave of one direction, with a mean of 0 and a standard deviation of about 1."""
    heading, wavelength = rng.uniform(0, np.pi), size * rng.uniform(0.06, 0.3)
    along = np.arange(size)
    phase = 2 * np.pi / wavelength * (np.cos(heading) * along[None, :] + np.sin(heading) * along[:, None])
    return np.asarray(math.sqrt(2) * np.sin(phase))


def _tiles(rng: np.random.Generator, size: int) -> Array:
    """Square tiles, each of its own brightness."""
    side = int(size * rng.uniform(0.08, 0.25))
    count = -(-size // side)
    return rng.standard_normal((count, count)).repeat(side, 0).repeat(side, 1)[:size, :size]


def _patches(rng: np.random.Generator, size: int) -> Array:
    """Two levels with winding borders."""
    return np.sign(smooth_noise(rng, int(rng.integers(4, 9)), size))


TEXTURES: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "smooth": smooth_texture,
    "stripes": _stripes,
    "tiles": _tiles,
    "patches": _patches,
}
