"""Samples: determinism in (seed, epoch, index), views, evaluation windows and crops, unreadable clips, collation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moving_textures import clip, read_window, write_panning

from vidkd.base.errors import VidkdError
from vidkd.base.random_streams import random_stream
from vidkd.data import dataset as dataset_module
from vidkd.data.config import CacheConfig, DataConfig
from vidkd.data.dataset import ClipDataset, collate
from vidkd.data.loaders import evaluation_loader
from vidkd.data.manifest import Clip
from vidkd.data.observation import ObserveConfig, WindowConfig
from vidkd.data.transforms import Geometry, TransformConfig, crop_flow, crop_frames

CLIPS = [clip("right.mp4", 0), clip("left.mp4", 1), clip("down.mp4", None)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for seed, (name, dx, dy) in enumerate([("right", 2, 0), ("left", -2, 0), ("down", 0, 2)]):
        write_panning(root / f"{name}.mp4", frames=24, dx=dx, dy=dy, seed=seed)
    return root


def make(
    root: Path,
    *,
    clips: Sequence[Clip] = CLIPS,
    views: Sequence[str] = ("rgb", "flow"),
    training: bool = True,
    seed: int = 0,
    may_flip: bool = True,
    **more: Any,
) -> ClipDataset:
    settings: dict[str, Any] = {
        "window": WindowConfig(frames=4, stride=2),
        "transform": TransformConfig(short_side=32, crop=24, colour=0.3),
        "decode_short_side": None,
    }
    return ClipDataset(root, clips, DataConfig(**{**settings, **more}), views=views, training=training, seed=seed, may_flip=may_flip)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name] for name, value in one.items()
    )


def test_shapes_types_and_labels(root: Path) -> None:
    sample = make(root)[0, 1]
    assert {name: (tuple(sample[name].shape), sample[name].dtype) for name in ("rgb", "flow")} == {
        "rgb": ((3, 4, 24, 24), torch.uint8),
        "flow": ((2, 4, 24, 24), torch.float16),
    }
    assert (sample["label"], sample["index"], sample["weight"]) == (1, 1, 1.0)
    unlabelled = make(root)[0, 2]
    assert (unlabelled["label"], unlabelled["index"], unlabelled["weight"]) == (-1, 2, 0.0)


def test_a_sample_is_a_function_of_seed_epoch_and_index(root: Path) -> None:
    items = [(epoch, index) for epoch in (0, 1, 5) for index in range(3)]
    forwards = {item: make(root)[item] for item in items}
    again = make(root)
    backwards = {item: again[item] for item in reversed(items)}
    assert all(same(forwards[item], backwards[item]) for item in items)
    first = forwards[0, 0]
    for other in (forwards[1, 0], forwards[0, 1], make(root, seed=1)[0, 0]):
        assert not torch.equal(first["rgb"], other["rgb"])


def test_frames_and_flow_share_window_crop_and_flip(root: Path) -> None:
    """The sample, made again by hand from its draws; flips occur and turn dx about."""
    data = make(root, transform=TransformConfig(short_side=32, crop=24, min_scale=0.8))
    flips = []
    for epoch in range(8):
        sample = data[epoch, 0]
        rng = random_stream(0, "sample", epoch, 0)
        footage = read_window(root / "right.mp4", CLIPS[0], data.footage, position=rng.random(), want_flow=True)
        draws = rng.random(4)
        side = round(32 * (0.8 + 0.2 * draws[0]))
        geometry = Geometry(round(draws[1] * (32 - side)), round(draws[2] * (43 - side)), side, 24, bool(draws[3] < 0.5))
        assert footage.flow is not None
        assert np.array_equal(sample["rgb"].numpy(), crop_frames(footage.frames, geometry).transpose(3, 0, 1, 2))
        assert np.array_equal(sample["flow"].numpy(), crop_flow(footage.flow, geometry).transpose(3, 0, 1, 2).astype(np.float16))
        assert np.sign(sample["flow"][0].float().median().item()) == (-1 if geometry.flip else 1)
        flips.append(geometry.flip)
    assert set(flips) == {True, False}


def test_no_flip_where_labels_name_a_direction(root: Path) -> None:
    data = make(root, may_flip=False, views=("flow",))
    assert all(data[epoch, 0]["flow"][0].float().median() > 0 for epoch in range(8))
    assert all(data[epoch, 1]["flow"][0].float().median() < 0 for epoch in range(8))


# --- evaluation ---


def test_evaluation_takes_evenly_spaced_windows_and_crops(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, Geometry]] = []
    positions: list[float] = []
    real_read, real_crop = dataset_module.read_seen, dataset_module.crop_frames
    monkeypatch.setattr(dataset_module, "read_seen", lambda *a, **k: positions.append(k["request"].position) or real_read(*a, **k))
    monkeypatch.setattr(
        dataset_module, "crop_frames", lambda frames, geometry: seen.append((positions[-1], geometry)) or real_crop(frames, geometry)
    )
    data = make(root, training=False, views=("rgb",), eval_clips=3, eval_crops=2)
    assert (data.views_per_clip, len(data)) == (6, 18)
    assert [data[0, number]["index"] for number in range(18)] == [0] * 6 + [1] * 6 + [2] * 6
    assert [position for position, _ in seen[:6]] == pytest.approx([1 / 6, 1 / 6, 1 / 2, 1 / 2, 5 / 6, 5 / 6])
    assert [geometry for _, geometry in seen[:6]] == [Geometry(0, 0, 32, 24), Geometry(0, 11, 32, 24)] * 3


# --- what cannot be read ---


@pytest.fixture
def broken(root: Path) -> list[Clip]:
    (root / "torn.mp4").write_bytes((root / "right.mp4").read_bytes()[:900])
    return [clip("right.mp4"), clip("torn.mp4"), clip("gone.mp4"), clip("right.mp4", start_s=0.8)]


@pytest.mark.parametrize("cached", [False, True])
def test_in_training_an_unreadable_clip_says_so_in_its_place(root: Path, broken: list[Clip], tmp_path: Path, cached: bool) -> None:
    data = make(root, clips=broken, cache=CacheConfig(enabled=cached, folder=str(tmp_path)))
    samples = [data[0, index] for index in range(4)]
    assert "bad" not in samples[0]
    assert [set(sample) for sample in samples[1:]] == [{"bad", "path"}] * 3
    assert [sample["path"] for sample in samples[1:]] == ["torn.mp4", "gone.mp4", "right.mp4"]
    assert [sample["bad"].split(":")[0] for sample in samples[1:]] == ["torn.mp4", "gone.mp4", "right.mp4"]
    assert "no such video" in samples[2]["bad"]
    assert "shorter than the window" in samples[3]["bad"]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_in_evaluation_it_raises_with_the_path(root: Path, broken: list[Clip], tmp_path: Path, number: int, cached: bool) -> None:
    data = make(root, clips=broken, training=False, eval_clips=1, cache=CacheConfig(enabled=cached, folder=str(tmp_path)))
    with pytest.raises(VidkdError, match=["", r"torn\.mp4", r"gone\.mp4", r"right\.mp4"][number]):
        data[0, number]


def test_a_fault_of_ours_is_never_taken_for_a_bad_clip(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_module, "crop_frames", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(root)[0, 0]


# --- collation ---


def test_collate_stacks_and_lists_what_is_bad(root: Path) -> None:
    samples = [make(root)[0, 0], {"bad": "x.mp4: torn", "path": "x.mp4"}, make(root)[0, 2]]
    batch = collate(samples)
    assert batch["bad"] == [("x.mp4", "x.mp4: torn")]
    assert torch.equal(batch["rgb"], torch.stack([samples[0]["rgb"], samples[2]["rgb"]]))
    assert batch["flow"].dtype == torch.float16
    assert (batch["label"].tolist(), batch["label"].dtype) == ([0, -1], torch.int64)
    assert (batch["index"].tolist(), batch["index"].dtype) == ([0, 2], torch.int64)
    assert (batch["weight"].tolist(), batch["weight"].dtype) == ([1.0, 0.0], torch.float32)


@pytest.mark.parametrize("cached", [False, True])
def test_what_cannot_be_observed_is_no_bad_clip(root: Path, tmp_path: Path, cached: bool) -> None:
    """Nothing is shown in the 10 ms to 0.3 s by a file of 25 frames a second, nor at 50 s, where the action itself has no frame either."""
    settings: dict[str, Any] = {"observe": ObserveConfig(protocol="anticipation", gap_s=0.1, observe_s=0.01)}
    settings["cache"] = CacheConfig(enabled=cached, folder=str(tmp_path))
    clips = [clip("right.mp4", start_s=0.4, end_s=0.8), clip("right.mp4", start_s=50.0, end_s=51.0)]
    training = make(root, clips=clips, **settings)
    samples = [training[0, number] for number in (0, 1)]
    assert samples == [{"unobservable": 0}, {"unobservable": 1}]
    assert collate([*samples, make(root)[0, 0]])["unobservable"] == [0, 1]
    assert collate(samples) == {"bad": [], "unobservable": [0, 1]}
    judged = make(root, clips=clips, training=False, eval_clips=2, **settings)
    assert judged[0, 1] == {"unobservable": 0}
    assert list(evaluation_loader(judged, 3, 0)) == [{"bad": [], "unobservable": [0, 0, 1]}, {"bad": [], "unobservable": [1]}]


# --- configuration ---
