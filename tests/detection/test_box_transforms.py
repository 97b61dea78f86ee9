"""Boxes stay on what they are drawn around: after every transform they are measured again from the pixels."""

from typing import Any

import numpy as np
import pytest
import torch

from vidkd.detection.transforms import (
    BoxedImage,
    BoxTransformConfig,
    Placement,
    flipped,
    letterboxed,
    mosaic_sample,
    place,
    random_placement,
    recoloured,
    training_sample,
)

PLAIN = {"colour": 0.0, "hue": 0.0, "fill": 0}


def config(**over: Any) -> BoxTransformConfig:
    return BoxTransformConfig(**{"width": 96, "height": 64, **PLAIN, **over})


def drawn(boxes: list[tuple[int, int, int, int]], height: int = 60, width: int = 80, ignore: tuple[bool, ...] = ()) -> BoxedImage:
    """Up to three rectangles, each bright in a channel of its own; label k is that of channel k."""
    image = np.zeros((height, width, 3), np.uint8)
    for channel, (x1, y1, x2, y2) in enumerate(boxes):
        image[max(y1, 0) : y2, max(x1, 0) : x2, channel] = 255
    flags = np.array(ignore or [False] * len(boxes), bool)
    return BoxedImage.of(image, np.float32(boxes).reshape(-1, 4), np.arange(len(boxes)), flags)


def measured(sample: BoxedImage, channel: int) -> np.ndarray:
    """The box of what is bright in a channel."""
    bright = sample.image[channel].numpy() > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def check(sample: BoxedImage, *, within: float = 1.0) -> None:
    """Every box lies where its pixels are, inside the picture."""
    height, width = sample.size
    for box, label in zip(sample.boxes.numpy(), sample.labels.tolist(), strict=True):
        assert box == pytest.approx(measured(sample, label), abs=within)
        assert (box >= 0).all()
        assert (box <= [width, height, width, height]).all()


BOXES = [(4, 6, 30, 50), (40, 2, 76, 20), (36, 30, 60, 58)]


def test_letterbox() -> None:
    sample = letterboxed(drawn(BOXES), config(fill=90))
    assert sample.size == (64, 96)
    assert sample.labels.tolist() == [0, 1, 2]
    check(sample)
    scale, left = 64 / 60, 5  # 80 pixels become 85, 11 are padding
    assert sample.boxes[0].numpy() == pytest.approx([left + 4 * 85 / 80, 6 * scale, left + 30 * 85 / 80, 50 * scale])
    assert (sample.image[:, :, :left] == 90).all()
    assert letterboxed(drawn(BOXES), config(resize="top_left")).boxes[0, 0] == pytest.approx(4 * 85 / 80)


def test_letterbox_cuts_at_the_edges_of_the_image_not_of_the_padding() -> None:
    sample = letterboxed(drawn([(-20, 10, 20, 40), (70, 10, 120, 40), (90, 0, 99, 9)]), config(width=160, height=60))
    assert sample.labels.tolist() == [0, 1]
    assert sample.boxes.tolist() == [[40, 10, 60, 40], [110, 10, 120, 40]]
    check(sample)


def test_flip() -> None:
    sample = flipped(drawn(BOXES))
    assert sample.boxes[0].tolist() == [50, 6, 76, 50]
    check(sample, within=0)
    again = flipped(sample)
    assert torch.equal(again.image, drawn(BOXES).image)
    assert torch.equal(again.boxes, drawn(BOXES).boxes)


@pytest.mark.parametrize(
    ("placement", "labels"),
    [
        (Placement(height=60, width=80, top=2, left=8, canvas=(64, 96)), [0, 1, 2]),  # smaller: padded
        (Placement(height=120, width=160, top=-20, left=-30, canvas=(64, 96)), [0, 1, 2]),  # larger: cut
        (Placement(height=30, width=160, top=17, left=-64, canvas=(64, 96)), [1, 2]),  # both, and another shape
        (Placement(height=60, width=80, top=-40, left=60, canvas=(64, 96)), [0]),
    ],
)
def test_place(placement: Placement, labels: list[int]) -> None:
    sample = place(drawn(BOXES), placement, config(min_kept=0.2))
    assert sample.size == (64, 96)
    assert sample.labels.tolist() == labels
    check(sample)


@pytest.mark.parametrize(("left", "kept"), [(-10, True), (-11, False)])
def test_a_box_is_dropped_below_its_share(left: int, kept: bool) -> None:
    """Of a box 20 wide at the left edge, half is left at -10, and less at -11."""
    shift = Placement(height=60, width=80, top=0, left=left, canvas=(60, 80))
    sample = place(drawn([(0, 10, 20, 30)]), shift, config(min_kept=0.5))
    assert sample.labels.tolist() == ([0] if kept else [])
    region = place(drawn([(0, 10, 20, 30)], ignore=(True,)), shift, config(min_kept=0.5))
    assert region.ignore.tolist() == [True]  # a region stays as long as anything of it does
    gone = place(drawn([(0, 10, 20, 30)], ignore=(True,)), Placement(height=60, width=80, top=0, left=-20, canvas=(60, 80)), config())
    assert gone.ignore.tolist() == []


@pytest.mark.parametrize("seed", range(6))
def test_training_samples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sample = training_sample(drawn(BOXES, ignore=(True, False, False)), config(min_kept=0.3), rng)
    assert sample.size == (64, 96)
    check(sample, within=1.5)
    assert dict(zip(sample.labels.tolist(), sample.ignore.tolist(), strict=True)).items() <= {(0, True), (1, False), (2, False)}


def test_placements_are_drawn_over_their_whole_range() -> None:
    rng = np.random.default_rng(0)
    draws = [random_placement((60, 80), (64, 96), config(min_scale=0.5, max_scale=2.0, stretch=1.0), rng) for _ in range(400)]
    scales = np.array([draw.height / 64 for draw in draws])
    assert (scales.min(), scales.max()) == (pytest.approx(0.5, abs=0.03), pytest.approx(2, abs=0.05))
    assert np.median(scales) == pytest.approx(1, abs=0.1)  # as often smaller as larger
    for draw in draws:
        assert draw.width / draw.height == pytest.approx(80 / 60, abs=0.05)
        assert min(0, 64 - draw.height) <= draw.top <= max(0, 64 - draw.height)
        assert min(0, 96 - draw.width) <= draw.left <= max(0, 96 - draw.width)
    shapes = [random_placement((64, 96), (64, 96), config(stretch=1.5), rng) for _ in range(400)]
    ratios = np.array([draw.width / draw.height for draw in shapes]) / 1.5
    assert (ratios.min(), ratios.max()) == (pytest.approx(1 / 1.5, abs=0.05), pytest.approx(1.5, abs=0.05))


def test_a_stretched_image_is_stretched_in_training_too() -> None:
    rng = np.random.default_rng(0)
    as_judged = config(resize="stretch", min_scale=1.0, max_scale=1.0, stretch=1.0)
    found = random_placement((60, 80), (64, 96), as_judged, rng)
    assert (found.height, found.width, found.top, found.left) == (64, 96, 0, 0)
    draws = [random_placement((30, 80), (64, 96), config(resize="stretch", stretch=1.0), rng) for _ in range(20)]
    assert [draw.width / draw.height for draw in draws] == pytest.approx([96 / 64] * 20, abs=0.05)


def test_half_of_the_samples_are_mirrored() -> None:
    one = config(min_scale=1.0, max_scale=1.0, stretch=1.0, width=80, height=60)
    sides = [training_sample(drawn(BOXES), one, np.random.default_rng(seed)).boxes[0, 0].item() for seed in range(100)]
    assert set(sides) == {4, 50}
    assert 30 <= sides.count(50) <= 70
    never = config(min_scale=1.0, max_scale=1.0, stretch=1.0, width=80, height=60, flip=False)
    assert {training_sample(drawn(BOXES), never, np.random.default_rng(seed)).boxes[0, 0].item() for seed in range(20)} == {4}


def test_colour() -> None:
    image = drawn(BOXES).image + 60
    assert torch.equal(recoloured(image, config(), np.random.default_rng(0)), image)
    changed = recoloured(image, config(colour=0.4, hue=0.1), np.random.default_rng(0))
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, image)
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    brightness = [recoloured(grey, config(colour=0.4), np.random.default_rng(seed)).float().mean().item() for seed in range(200)]
    assert 59 <= min(brightness) < 70 < 130 < max(brightness) <= 141


def four() -> list[BoxedImage]:
    """Part k has the label k and is bright in channel k, the fourth in all; the second is a region to ignore."""
    parts = []
    for number in range(4):
        image = np.zeros((60, 80, 3), np.uint8)
        image[8:52, 10:70, number if number < 3 else slice(None)] = 255
        parts.append(BoxedImage.of(image, np.float32([(10, 8, 70, 52)]), np.array([number]), np.array([number == 1])))
    return parts


@pytest.mark.parametrize("seed", range(4))
def test_mosaic(seed: int) -> None:
    sample = mosaic_sample(four(), config(min_kept=0.05), np.random.default_rng(seed))
    assert sample.size == (64, 96)
    assert sample.image.shape == (3, 64, 96)
    pixels = sample.image.numpy() > 127
    for box, label, ignore in zip(sample.boxes.numpy(), sample.labels.tolist(), sample.ignore.tolist(), strict=True):
        shows = pixels.all(axis=0) if label == 3 else pixels[label] & ~pixels[(label + 1) % 3]
        rows, columns = np.flatnonzero(shows.any(axis=1)), np.flatnonzero(shows.any(axis=0))
        assert box == pytest.approx([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], abs=1.5)
        assert ignore == (label == 1)
