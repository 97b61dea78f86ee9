"""Images with their boxes as samples: letterbox, augmentation, mosaic; reading, batches and what is kept."""

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from box_samples import frame_of, manifest_of

from vidkd.base.errors import DataError, VideoError
from vidkd.data.loaders import StepSampler
from vidkd.detection import dataset
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.dataset import BoxDataset, box_loader, collate_boxes, read_frame
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
from vidkd.video import write_video

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


SMALL = BoxTransformConfig(width=48, height=48)
BOX = (10, 20, 50, 60)


def pixels(shade: int) -> np.ndarray:
    return np.full((80, 100, 3), shade, np.uint8)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> BoxManifest:
    """An image, a folder of three, a video of three; shade 30 k for the k-th; 100 x 80 pixels, each with one box."""
    root = tmp_path_factory.mktemp("frames")
    (root / "walk").mkdir()
    cv2.imwrite(str(root / "single.png"), pixels(0))
    for k in range(3):
        cv2.imwrite(str(root / f"walk/{k:03d}.png"), pixels(30 * (k + 1)))
    write_video(root / "run.mp4", [pixels(30 * (k + 4)) for k in range(3)], fps=25)
    return manifest_of(
        frame_of([BOX], path="single.png", index=None),
        *(frame_of([BOX], path="walk", index=k) for k in range(3)),
        *(frame_of([BOX, (0, 0, 9, 9)], [1, 0], path="run.mp4", index=k, ignore=[False, True]) for k in range(3)),
        root=root,
    )


def test_each_frame_is_the_one_that_is_annotated(manifest: BoxManifest) -> None:
    for k, frame in enumerate(manifest.frames):
        assert read_frame(manifest, frame).mean() == pytest.approx(30 * k, abs=2)
    data = BoxDataset(manifest, SMALL, training=False)
    assert len(data) == 7
    sample = data[5]
    assert {name: value.dtype for name, value in sample.items() if name != "index"} == {
        "image": torch.uint8,
        "boxes": torch.float32,
        "labels": torch.int64,
        "ignore": torch.bool,
    }
    assert sample["image"].shape == (3, 48, 48)
    assert sample["image"][:, 24, 24].float().mean() == pytest.approx(150, abs=2)
    scale, top = 48 / 100, 5  # 80 rows become 38
    assert sample["boxes"][0].numpy() == pytest.approx([10 * scale, top + 20 * 38 / 80, 50 * scale, top + 60 * 38 / 80])
    assert (sample["labels"].tolist(), sample["ignore"].tolist(), sample["index"]) == ([1, 0], [False, True], 5)
    assert type(sample["boxes"]) is torch.Tensor


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in ("image", "boxes", "labels", "ignore", "index")
    )


def test_a_sample_depends_on_seed_epoch_index_and_draw_alone(manifest: BoxManifest) -> None:
    data, again = (BoxDataset(manifest, SMALL, training=True, seed=3) for _ in range(2))
    again[(9, 1)]  # what was asked before does not matter
    assert same(data[(2, 5)], again[(2, 5)])
    assert same(data[(2, 5)], data[(2, 5, 0)])
    for other in (again[(3, 5)], again[(2, 5, 1)], BoxDataset(manifest, SMALL, training=True, seed=4)[(2, 5)]):
        assert not same(data[(2, 5)], other)


def test_bad_files_are_counted_in_training_and_raise_in_evaluation(manifest: BoxManifest, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    whole = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8))[1].tobytes()
    broken.write_bytes(whole[: len(whole) // 2])
    frames = (frame_of([], path="broken.png", index=None), frame_of([], path="gone.mp4"))
    bad = manifest_of(*frames, root=tmp_path)
    plain = BoxTransformConfig(width=48, height=48, mosaic=0.0)
    training = BoxDataset(bad, plain, training=True)
    assert training[(0, 0)] == {"bad": training[(0, 0)]["bad"], "path": "broken.png"}
    assert "broken.png: cannot read image" in training[(0, 0)]["bad"]
    assert "no such video" in training[(0, 1)]["bad"]
    evaluation = BoxDataset(bad, plain, training=False)
    with pytest.raises(DataError, match="cannot read image"):
        evaluation[0]
    with pytest.raises(VideoError, match="no such video"):
        evaluation[1]
    batch = collate_boxes([training[(0, 0)], BoxDataset(manifest, plain, training=True)[(0, 1)]])
    assert [path for path, _ in batch["bad"]] == ["broken.png"]
    assert batch["index"].tolist() == [1]
    assert set(collate_boxes([training[(0, 0)]])) == {"bad"}


def test_sizes_that_differ_from_the_annotation(manifest: BoxManifest) -> None:
    turned = manifest_of(frame_of([], path="single.png", index=None, width=80, height=100), root=manifest.root)
    with pytest.raises(DataError, match=r"a frame of 100 x 80 pixels, annotated as 80 x 100(.|\n)*single.png"):
        BoxDataset(turned, SMALL, training=False)[0]


def test_the_cache_is_bounded_and_changes_nothing(manifest: BoxManifest, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    monkeypatch.setattr(dataset, "read_frame", lambda m, frame: reads.append(frame.path) or read_frame(m, frame))
    one_frame = 80 * 100 * 3
    cached, plain = (BoxDataset(manifest, SMALL, training=False, cache_bytes=size) for size in (2 * one_frame, 0))
    for index in (1, 1, 2, 1, 3, 2):  # 1, 2 and 3 are read; 2 had to make room for 3 and is read again
        assert same(cached[index], plain[index])
    assert len(reads) == 4 + 6
    assert cached._decoded._bytes == 2 * one_frame
    assert same(pickle.loads(pickle.dumps(cached))[1], cached[1])


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_batches(manifest: BoxManifest, workers: int) -> None:
    data = BoxDataset(manifest, SMALL, training=True, seed=1)
    sampler = StepSampler(len(data), 3, seed=1, first_step=0, last_step=4)
    batches = list(box_loader(data, sampler, workers))
    assert [batch["image"].shape for batch in batches] == [(3, 3, 48, 48)] * 4
    for batch, items in zip(batches, sampler, strict=True):
        assert batch["index"].tolist() == [index for _, index in items]
        assert batch["bad"] == []
        for number, item in enumerate(items):
            alone = data[item]
            assert torch.equal(batch["image"][number], alone["image"])
            assert all(torch.equal(batch[name][number], alone[name]) for name in ("boxes", "labels", "ignore"))
    later = StepSampler(len(data), 3, seed=1, first_step=3, last_step=4)
    assert torch.equal(next(iter(box_loader(data, later, 0)))["image"], batches[3]["image"])


FRAME_BYTES = 100 * 80 * 3
TRANSFORM = BoxTransformConfig(width=64, height=64)


@pytest.fixture
def videos(tmp_path: Path) -> BoxManifest:
    """Two videos of six frames of noise; all but the first frame of each are annotated."""
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, np.random.default_rng(ord(name[0])).integers(0, 255, (6, 80, 100, 3), dtype=np.uint8), fps=10)
    frames = [frame_of([[10, 10, 40, 40]], path=path, index=index) for index in (3, 1, 5, 2, 4) for path in ("a.mp4", "b.mp4")]
    return manifest_of(*frames, root=tmp_path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the videos that are opened."""
    names: list[str] = []
    open_video = dataset.open_video

    def noted(path: Path, **more: Any) -> Any:
        names.append(path.name)
        return open_video(path, **more)

    monkeypatch.setattr(dataset, "open_video", noted)
    return names


def samples(manifest: BoxManifest, cache_bytes: int) -> list[dict[str, Any]]:
    data = BoxDataset(manifest, TRANSFORM, training=True, seed=3, cache_bytes=cache_bytes)
    return [data[(epoch, index)] for epoch in (0, 1) for index in range(len(data))]


def test_a_video_is_opened_once_and_samples_are_those_without_keeping(videos: BoxManifest, opened: list[str]) -> None:
    kept = samples(videos, 2**24)
    assert sorted(opened) == ["a.mp4", "b.mp4"]
    opened.clear()
    alone = samples(videos, 0)
    assert len(opened) > 20  # a mosaic opens four
    for one, other in zip(kept, alone, strict=True):
        assert (one["image"] == other["image"]).all()
        assert (one["boxes"] == other["boxes"]).all()


def test_a_video_too_long_to_keep_is_read_frame_by_frame(videos: BoxManifest, opened: list[str]) -> None:
    data = BoxDataset(videos, TRANSFORM, training=False, cache_bytes=4 * 5 * FRAME_BYTES - 1)
    for index in (0, 2, 4, 0):
        data[index]
    assert opened == ["a.mp4"] * 3  # each frame is kept by itself
