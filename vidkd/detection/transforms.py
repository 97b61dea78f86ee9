"""Images with their boxes: letterbox, flip, scale and crop, colour, and a mosaic of four, on torchvision.transforms.v2."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from vidkd.base.errors import ConfigError
from vidkd.base.fields import Bounds, Count, Positive, Share, ShareBelow1, for_training
from vidkd.runtime.letterbox import Letterbox, ResizeMode


@dataclass(frozen=True, kw_only=True)
class BoxTransformConfig:
    """Size and augmentation; augmentation is for training only.

    Args:
        width: width in pixels that the network sees.
        height: its height in pixels.
        resize: how an image meets a network of another shape, see `vidkd.runtime.letterbox`.
        fill: grey value 0 to 255 of what no image covers.
        min_scale: training scales the resized image by a factor drawn from here, evenly on a log scale,
        max_scale: to here; below 1 it is placed anywhere in the picture, above 1 a random part of it is seen.
        stretch: width and height are scaled apart by a factor of up to this, drawn from [1 / stretch, stretch]; 1 keeps the shape.
        min_kept: boxes of which less than this share of the area is left in the picture are dropped.
        flip: mirror half of the images.
        colour: strength in [0, 1) of random brightness, contrast and saturation.
        hue: largest turn of the hue, as a share of the circle, in [0, 0.5]; takes longer than all the rest together.
        mosaic: share of the training samples that are made of four images.
    """

    width: Count = for_training(416)
    height: Count = for_training(416)
    resize: ResizeMode = "centre"
    fill: int = for_training(114)
    min_scale: Positive = for_training(0.6)
    max_scale: float = for_training(1.6)
    stretch: Annotated[float, Bounds(ge=1)] = for_training(1.2)
    min_kept: Share = for_training(0.3)
    flip: bool = for_training(True)
    colour: ShareBelow1 = for_training(0.4)
    hue: ShareBelow1 = for_training(0.0)
    mosaic: Share = for_training(0.5)

    def __post_init__(self) -> None:
        if self.min_scale > self.max_scale or not 0 <= self.fill <= 255 or self.hue > 0.5:
            raise ConfigError("data.transform: min_scale must not be above max_scale, hue be at most 0.5, and fill be 0 to 255")


@dataclass(frozen=True, eq=False, kw_only=True)
class BoxedImage:
    """An image with its boxes.

    image: uint8 (3, H, W). boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of it. labels: int64 (N,). ignore: bool (N,).
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    ignore: Tensor

    @classmethod
    def of(
        cls, image: NDArray[np.uint8], boxes: NDArray[np.floating], labels: NDArray[np.int64], ignore: NDArray[np.bool_]
    ) -> "BoxedImage":
        """From RGB (H, W, 3), boxes (N, 4) x1 y1 x2 y2, labels (N,) and ignore (N,)."""
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return cls(image=pixels, boxes=torch.tensor(boxes, dtype=torch.float32), labels=torch.tensor(labels), ignore=torch.tensor(ignore))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Resize an image to height x width and lay its upper left corner at (top, left) of a canvas; what lies outside it is cut."""

    height: int
    width: int
    top: int
    left: int
    canvas: tuple[int, int]


def clamped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) cut at the edges of a picture of this height and width."""
    return boxes.clamp(min=0).minimum(boxes.new_tensor([size[1], size[0]] * 2))


def area(boxes: Tensor) -> Tensor:
    """Areas (N,) of boxes (N, 4) x1 y1 x2 y2."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def letterboxed(sample: BoxedImage, config: BoxTransformConfig) -> BoxedImage:
    """The image in the network's size, as detectors see it at run time; boxes are cut at the edges of the image."""
    height, width = sample.size
    fit = Letterbox.fit((width, height), (config.width, config.height), config.resize)
    pixels = fit.apply(np.ascontiguousarray(sample.image.numpy().transpose(1, 2, 0)), config.fill)
    inside = clamped(sample.boxes, sample.size)
    stays = (area(inside) > 0).numpy()
    return BoxedImage.of(pixels, fit.to_input(inside.numpy())[stays], sample.labels.numpy()[stays], sample.ignore.numpy()[stays])


def training_sample(sample: BoxedImage, config: BoxTransformConfig, rng: np.random.Generator) -> BoxedImage:
    """One random scale, place, flip and colour, all drawn from `rng`."""
    placed = place(sample, random_placement(sample.size, (config.height, config.width), config, rng), config)
    return _finished(placed, config, rng)


def mosaic_sample(samples: Sequence[BoxedImage], config: BoxTransformConfig, rng: np.random.Generator) -> BoxedImage:
    """Four images around a random point of the picture, each scaled by itself and cut to its quarter, one flip and colour for all.

    The point lies in the middle half of either axis. An image lies with its inner corner on the point, so that what is cut is its outside.
    Source: Bochkovskiy et al. 2020 (arXiv 2004.10934), the sizes are ours.
    """
    y, x = round(config.height * rng.uniform(0.25, 0.75)), round(config.width * rng.uniform(0.25, 0.75))
    quarters = []
    for sample, (lower, right) in zip(samples, ((False, False), (False, True), (True, False), (True, True)), strict=True):
        canvas = (config.height - y if lower else y, config.width - x if right else x)
        size = random_placement(sample.size, (config.height, config.width), config, rng)
        corner = dataclasses.replace(size, top=0 if lower else y - size.height, left=0 if right else x - size.width, canvas=canvas)
        part = place(sample, corner, config)
        moved = part.boxes + part.boxes.new_tensor([x * right, y * lower] * 2)
        quarters.append(dataclasses.replace(part, boxes=moved))
    whole = BoxedImage(
        image=torch.cat([torch.cat([left.image, right.image], dim=2) for left, right in (quarters[:2], quarters[2:])], dim=1),
        boxes=torch.cat([part.boxes for part in quarters]),
        labels=torch.cat([part.labels for part in quarters]),
        ignore=torch.cat([part.ignore for part in quarters]),
    )
    return _finished(whole, config, rng)


def random_placement(size: tuple[int, int], canvas: tuple[int, int], config: BoxTransformConfig, rng: np.random.Generator) -> Placement:
    """Scale, shape and place drawn from `rng`, always by four draws. size, canvas: height and width.

    Scale 1 is the size at which evaluation sees the image: fitted into the canvas, or with `resize: stretch` stretched over it.
    """
    draws = rng.random(4)
    fits = canvas[0] / size[0], canvas[1] / size[1]
    fit_y, fit_x = fits if config.resize == "stretch" else (min(fits), min(fits))
    scale = config.min_scale * (config.max_scale / config.min_scale) ** draws[0]
    shape = math.sqrt(config.stretch ** (2 * draws[1] - 1))
    height, width = max(round(size[0] * fit_y * scale / shape), 1), max(round(size[1] * fit_x * scale * shape), 1)
    top, left = round(draws[2] * (canvas[0] - height)), round(draws[3] * (canvas[1] - width))
    return Placement(height=height, width=width, top=top, left=left, canvas=canvas)


def place(sample: BoxedImage, placement: Placement, config: BoxTransformConfig) -> BoxedImage:
    """The image as `placement` says, with the boxes that keep at least `min_kept` of their area.

    Regions to ignore stay as long as anything of them does: a detection in the rest of a crowd is no mistake.
    """
    (height, width), (top, left) = placement.canvas, (placement.top, placement.left)
    padding = [max(left, 0), max(top, 0), max(width - left - placement.width, 0), max(height - top - placement.height, 0)]
    image = F.pad(F.resize(sample.image, [placement.height, placement.width], antialias=True), padding, fill=config.fill)
    image = F.crop(image, max(-top, 0), max(-left, 0), height, width)
    scale = [placement.width / sample.size[1], placement.height / sample.size[0]] * 2
    whole = clamped(sample.boxes, sample.size) * sample.boxes.new_tensor(scale)
    boxes = clamped(whole + whole.new_tensor([left, top] * 2), (height, width))
    kept = area(boxes)
    stays = (kept > 0) & (sample.ignore | (kept >= config.min_kept * area(whole)))
    return BoxedImage(image=image, boxes=boxes[stays], labels=sample.labels[stays], ignore=sample.ignore[stays])


def flipped(sample: BoxedImage) -> BoxedImage:
    """Mirrored left to right."""
    x1, y1, x2, y2 = sample.boxes.unbind(dim=1)
    width = sample.size[1]
    return dataclasses.replace(sample, image=sample.image.flip(-1), boxes=torch.stack([width - x2, y1, width - x1, y2], dim=1))


def recoloured(image: Tensor, config: BoxTransformConfig, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast and saturation by factors in [1 - colour, 1 + colour], the hue turned by up to `hue`; always four draws."""
    draws = 2 * rng.random(4) - 1
    brightness, contrast, saturation = (1 + config.colour * draws[:3]).tolist()
    if config.colour > 0:
        image = F.adjust_saturation(F.adjust_contrast(F.adjust_brightness(image, brightness), contrast), saturation)
    return F.adjust_hue(image, float(config.hue * draws[3])) if config.hue > 0 else image


def _finished(sample: BoxedImage, config: BoxTransformConfig, rng: np.random.Generator) -> BoxedImage:
    mirror = rng.random() < 0.5
    sample = flipped(sample) if config.flip and mirror else sample
    return dataclasses.replace(sample, image=recoloured(sample.image, config, rng))
