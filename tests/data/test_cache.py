"""The decoded-clip cache: same samples, right keys, a bound that holds over processes, and no harm from torn entries."""

import errno
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from moving_textures import clip, read_window, write_panning

from vidkd.data import cache as cache_module
from vidkd.data.cache import ClipCache, DiskQuota
from vidkd.data.config import CacheConfig
from vidkd.data.flow import FlowConfig
from vidkd.data.footage import Footage, FootageConfig
from vidkd.data.manifest import Clip
from vidkd.data.observation import Request, WindowConfig
from vidkd.data.transforms import TransformConfig

FRAMES = 20
# frames, flow and times of one clip at 32x43
ENTRY_BYTES = FRAMES * (32 * 43 * (3 + 4) + 8)


def config(**more: object) -> FootageConfig:
    settings = {
        "window": WindowConfig(frames=4, stride=2),
        "transform": TransformConfig(short_side=32, crop=24),
        "flow": FlowConfig(),
        "decode_short_side": None,
    }
    return FootageConfig(**{**settings, **more})  # type: ignore[arg-type]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_panning(tmp_path / "a.mp4", frames=FRAMES, dx=2)


@pytest.fixture
def cache(tmp_path: Path) -> ClipCache:
    return ClipCache(CacheConfig(folder=str(tmp_path / "cache")), config())


def window_of(cache: ClipCache, path: Path, clip: Clip, *, position: float, want_flow: bool) -> Footage:
    """What a look at the whole clip sees."""
    return cache.seen(path, clip, Request(position=position, flow=want_flow))[0]


def never(*_: object, **__: object) -> None:
    pytest.fail("the file was decoded")


@pytest.mark.parametrize("position", [0.0, 0.37, 1.0])
def test_a_cached_window_is_the_window_of_the_file(video: Path, cache: ClipCache, position: float, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = read_window(video, clip("a.mp4"), config(), position=position, want_flow=True)
    first = window_of(cache, video, clip("a.mp4"), position=position, want_flow=True)
    monkeypatch.setattr(cache_module, "read_whole", never)
    again = window_of(cache, video, clip("a.mp4"), position=position, want_flow=True)
    for found in (first, again):
        np.testing.assert_array_equal(found.frames, direct.frames)
        np.testing.assert_array_equal(found.flow, direct.flow)
        assert type(found.frames) is np.ndarray  # and no window on the file that a worker would hand on
        assert found.flow is not None
        assert found.flow.dtype == np.float32


def test_flow_is_neither_computed_nor_kept_until_it_is_wanted(video: Path, cache: ClipCache) -> None:
    rgb = window_of(cache, video, clip("a.mp4"), position=0.0, want_flow=False)
    assert rgb.flow is None
    assert [file.name.split(".")[1] for file in sorted(cache.folder.glob("*/*.npy"))] == ["frames", "times"]
    both = window_of(cache, video, clip("a.mp4"), position=0.0, want_flow=True)
    assert both.flow is not None
    np.testing.assert_array_equal(both.frames, rgb.frames)
    assert len(list(cache.folder.glob("*/*.npy"))) == 3


# --- keys ---

VARIANTS = {
    "working size": {"transform": TransformConfig(short_side=36, crop=24)},
    "square": {"transform": TransformConfig(short_side=32, crop=24, square=True)},
    "decoding size": {"decode_short_side": 40},
    "flow preset": {"flow": FlowConfig(preset="medium")},
    "flow step": {"window": WindowConfig(frames=4, stride=2, flow_step=3)},
    "decoder": {"decoder": "pyav"},
    "stored flow": {"flow": FlowConfig(source="stored", folder="somewhere")},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_key_changes_with_whatever_decides_the_content(video: Path, cache: ClipCache, variant: str) -> None:
    other = ClipCache(CacheConfig(folder=str(cache.folder)), config(**VARIANTS[variant]))
    assert other.key(video, clip("a.mp4")) != cache.key(video, clip("a.mp4"))


def test_a_cache_goes_to_other_processes_whole(video: Path, cache: ClipCache) -> None:
    assert pickle.loads(pickle.dumps(cache)).key(video, clip("a.mp4")) == cache.key(video, clip("a.mp4"))


def test_the_key_changes_with_file_and_interval(video: Path, cache: ClipCache) -> None:
    keys = {cache.key(video, clip("a.mp4")), cache.key(video, clip("a.mp4", start_s=0.2)), cache.key(video, clip("a.mp4", end_s=0.6))}
    assert len(keys) == 3
    os.utime(video, ns=(0, 1))
    keys.add(cache.key(video, clip("a.mp4")))
    write_panning(video, frames=FRAMES, dx=1)
    os.utime(video, ns=(0, 1))
    keys.add(cache.key(video, clip("a.mp4")))  # the size tells
    assert len(keys) == 5


# --- torn entries ---


@pytest.mark.parametrize("part", ["frames", "flow", "times"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "no array", "another length"])
@pytest.mark.parametrize("known", [False, True])
def test_a_torn_entry_is_ignored_and_mended(video: Path, cache: ClipCache, part: str, damage: str, known: bool) -> None:
    whole = cache.read(video, clip("a.mp4"))
    expected = {name: np.array(getattr(whole, name)) for name in ("frames", "flow", "timestamps_s")}
    file = next(cache.folder.glob(f"*/*.{part}.npy"))
    content = file.read_bytes()
    os.utime(file, ns=(0, 0))
    if known:  # its header is remembered
        cache.read(video, clip("a.mp4"))
    file.unlink()
    if damage == "another length":
        np.save(file, np.zeros((3, 32, 43, 2), np.float16))
    elif damage != "missing":
        file.write_bytes({"empty": b"", "cut": content[:-40], "no array": b"x" * len(content)}[damage])
    for _ in range(2):
        found = cache.read(video, clip("a.mp4"))
        for name, array in expected.items():
            np.testing.assert_array_equal(getattr(found, name), array)
    assert file.read_bytes() == content


def test_a_full_disk_makes_the_cache_useless_and_no_clip_bad(
    video: Path, cache: ClipCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache_module.np, "save", full)
    for position in (0.2, 0.4):
        found = window_of(cache, video, clip("a.mp4"), position=position, want_flow=True)
        np.testing.assert_array_equal(found.frames, read_window(video, clip("a.mp4"), config(), position=position, want_flow=True).frames)
    assert len(cache.refused) == 1
    assert [record.message for record in caplog.records] == [
        f"cache {cache.folder} cannot be written ({os.strerror(errno.ENOSPC)}): further clips are decoded every time"
    ]
    assert list(cache.folder.glob("*/*")) == []


# --- the bound ---


def limited(folder: Path, limit_bytes: float) -> ClipCache:
    return ClipCache(CacheConfig(folder=str(folder), max_gb=limit_bytes / 2**30), config())


def stored_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*/*.npy"))


def test_the_bound_holds_and_what_did_not_fit_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = [write_panning(tmp_path / f"{name}.mp4", frames=FRAMES, seed=name) for name in range(3)]
    cache = limited(tmp_path / "cache", 2.5 * ENTRY_BYTES)
    with caplog.at_level(logging.WARNING, logger="vidkd.data.cache"):
        for _ in range(2):
            for number, video in enumerate(videos):
                found = window_of(cache, video, clip(f"{number}.mp4"), position=0.2, want_flow=True)
                direct = read_window(video, clip(f"{number}.mp4"), config(), position=0.2, want_flow=True)
                np.testing.assert_array_equal(found.frames, direct.frames)
                np.testing.assert_array_equal(found.flow, direct.flow)
    assert len(cache.refused) == 1
    assert len([record for record in caplog.records if "is full" in record.message]) == 1
    assert 1.9 * ENTRY_BYTES < stored_bytes(cache.folder) < 2.5 * ENTRY_BYTES


def test_a_clip_that_did_not_fit_costs_one_window_and_not_the_whole_clip(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = limited(tmp_path / "cache", 10)
    window_of(cache, video, clip("a.mp4"), position=0.2, want_flow=True)
    monkeypatch.setattr(cache_module, "read_whole", never)
    assert len(window_of(cache, video, clip("a.mp4"), position=0.2, want_flow=True).frames) == 4


def test_what_other_processes_stored_counts(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    quota = DiskQuota(tmp_path, 100)
    assert quota.take(10)  # less than an eighth of the room: not measured again
    (tmp_path / "ab" / "x.npy").write_bytes(bytes(60))
    assert quota.take(4)
    assert not quota.take(41)
    assert quota.take(40)


def test_a_folder_far_from_its_bound_is_walked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota, walks = DiskQuota(tmp_path, 10_000), []
    monkeypatch.setattr(quota, "_measure", lambda: walks.append(1) or 0)
    assert all(quota.take(1) for _ in range(1000))
    assert len(walks) == 1
