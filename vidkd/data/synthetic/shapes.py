"""Shapes and textures that the synthetic data sets draw."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Image: TypeAlias = NDArray[np.float32]
_ROOT3_HALF = math.sqrt(3) / 2
_WAVELENGTHS = (1.2, 2.0)  # of a shape's own pattern, in radii; finer ones lead flow astray


def _disc(x: Array, y: Array) -> Array:
    return np.asarray(np.hypot(x, y) - 1)


def _square(x: Array, y: Array) -> Array:
    return np.asarray(np.maximum(np.abs(x), np.abs(y)) - 0.9)


def _diamond(x: Array, y: Array) -> Array:
    return np.asarray((np.abs(x) + np.abs(y) - 1.2) * math.sqrt(0.5))


def _triangle(x: Array, y: Array) -> Array:
    return np.asarray(np.maximum(y, _ROOT3_HALF * np.abs(x) - y / 2) - 0.6)


def _cross(x: Array, y: Array) -> Array:
    across, along = np.abs(x), np.abs(y)
    return np.asarray(np.minimum(np.maximum(across - 1.1, along - 0.4), np.maximum(across - 0.4, along - 1.1)))


# kind -> (signed distance to the outline at radius 1, how far it reaches to the left, top, right, bottom); y points down
KINDS: dict[str, tuple[Callable[[Array, Array], Array], tuple[float, float, float, float]]] = {
    "disc": (_disc, (1, 1, 1, 1)),
    "square": (_square, (0.9, 0.9, 0.9, 0.9)),
    "diamond": (_diamond, (1.2, 1.2, 1.2, 1.2)),
    "triangle": (_triangle, (1.2 * _ROOT3_HALF, 1.2, 1.2 * _ROOT3_HALF, 0.6)),
    "cross": (_cross, (1.1, 1.1, 1.1, 1.1)),
}
LARGEST_EXTENT = max(max(extents) for _, extents in KINDS.values())


@dataclass(frozen=True)
class Shape:
    """One shape: its kind, its radius in pixels, its colour (3,) in [0, 1], and the waves of its own pattern.

    waves: (n, 3), each row a wave vector in radians a pixel and a phase; strength: their common amplitude.
    """

    kind: str
    radius: float
    colour: Image
    waves: Array
    strength: float


def boxes_of(shape: Shape, centres: Array, size: int) -> Array:
    """Boxes (T, 4) as x1, y1, x2, y2 in pixels, cut at the edges of the frame, of the whole shape even where others hide it.

    centres: (T, 2) in pixels, inside the frame of `size` pixels; pixel i covers [i, i + 1).
    """
    return np.asarray(np.clip(whole_boxes(shape, centres), 0, size))


def whole_boxes(shape: Shape, centres: Array) -> Array:
    """As `boxes_of`, but of centres anywhere and not cut."""
    left, top, right, bottom = KINDS[shape.kind][1]
    corners = [centres - shape.radius * np.array([left, top]), centres + shape.radius * np.array([right, bottom])]
    return np.concatenate(corners, axis=1)


def draw_waves(radius: float, rng: np.random.Generator) -> Array:
    """Two waves of a shape's own pattern, of random direction and phase; see `Shape`."""
    wavelength, angle = radius * rng.uniform(*_WAVELENGTHS, 2), rng.uniform(0, np.pi, 2)
    wave_number = 2 * np.pi / wavelength
    return np.stack([wave_number * np.cos(angle), wave_number * np.sin(angle), rng.uniform(0, 2 * np.pi, 2)], axis=1)


def paint(frames: Image, shape: Shape, centres: Array) -> None:
    """Paint a shape over frames (T, H, W, 3) in [0, 1], in place, its edges smooth over a pixel.

    centres: (T, 2), inside the frame, or so near to it that a part of the shape is.
    """
    reach = math.ceil(shape.radius * LARGEST_EXTENT) + 1
    corner = np.floor(centres).astype(int) - reach
    offsets = corner[:, :, None] + np.arange(2 * reach + 1) + 0.5 - centres[:, :, None]
    x, y = offsets[:, 0, None, :], offsets[:, 1, :, None]
    distance = shape.radius * KINDS[shape.kind][0](x / shape.radius, y / shape.radius)
    cover = np.clip(0.5 - distance, 0, 1).astype(np.float32)[..., None]
    pattern = sum(np.sin(kx * x + ky * y + phase) for kx, ky, phase in shape.waves)
    inside = (shape.colour + shape.strength * np.asarray(pattern)[..., None]).astype(np.float32)
    for frame, (left, top), alpha, colour in zip(frames, corner, cover, inside, strict=True):
        rows, columns = _overlap(top, alpha.shape[0], frame.shape[0]), _overlap(left, alpha.shape[1], frame.shape[1])
        patch = frame[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop]
        patch += alpha[rows, columns] * (colour[rows, columns] - patch)


def as_pixels(frames: Image) -> NDArray[np.uint8]:
    """Frames of values in [0, 1] as uint8; what is beyond is cut."""
    return np.clip(np.rint(255 * frames), 0, 255).astype(np.uint8)


def _overlap(start: int, length: int, size: int) -> slice:
    """The part of a patch [start, start + length) that lies within [0, size), counted from the patch's own start."""
    return slice(max(0, -start), min(length, size - start))


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
