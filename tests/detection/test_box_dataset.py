"""Samples of annotated frames: the right frame, the same sample whoever asks, bad files counted, batches."""

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
from vidkd.detection.transforms import BoxTransformConfig
from vidkd.video import write_video

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
        for place, item in enumerate(items):
            alone = data[item]
            assert torch.equal(batch["image"][place], alone["image"])
            assert all(torch.equal(batch[name][place], alone[name]) for name in ("boxes", "labels", "ignore"))
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
