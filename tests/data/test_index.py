"""prepare_data's index of the videos lies next to the manifest, and training opens no file to look it over."""

from pathlib import Path

import numpy as np
import pytest

from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.index import index_file, inspect_videos
from vidkd.data.manifest import Clip
from vidkd.data.observation import WindowConfig
from vidkd.video import check, opening, write_video
from vidkd.video.index import read_packets, write_index_file


def test_training_reads_no_packets_of_an_indexed_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [Clip(path=f"{name}.mp4", label=0, group=name, subsets={}) for name in "ab"]
    for clip in clips:
        write_video(tmp_path / clip.path, iter(np.zeros((20, 32, 32, 3), np.uint8)), fps=10)
    (tmp_path / "c.mp4").write_text("text")
    index = inspect_videos(tmp_path, [clip.path for clip in clips] + ["c.mp4"])
    assert (list(index.records), list(index.broken), index.misread) == (["a.mp4", "b.mp4"], ["c.mp4"], [])
    write_index_file(index_file(tmp_path / "manifest.jsonl"), index.records)
    looks: list[str] = []
    monkeypatch.setattr(opening, "read_packets", lambda name: looks.append(name) or read_packets(name))
    data = DataConfig(window=WindowConfig(frames=4, stride=2))
    dataset = ClipDataset(tmp_path, clips, data, views=["rgb"], training=True)
    assert dataset[(0, 0)]["rgb"].shape == dataset[(0, 1)]["rgb"].shape == (3, 4, 64, 64)
    assert looks == []
    other = tmp_path / "other.jsonl"
    elsewhere = ClipDataset(tmp_path, clips, DataConfig(window=data.window, manifest=str(other)), views=["rgb"], training=True)
    assert elsewhere.index_file == tmp_path / "other.index"


def test_decoding_everything_finds_damage_and_what_decord_misreads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("good.mp4", "misread.mp4", "cut.mkv"):
        write_video(tmp_path / name, np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8), fps=10)
    whole = (tmp_path / "cut.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_text("no image")
    monkeypatch.setattr(check, "index_problem", lambda reader, *_: "wrong" if "misread" in reader.path else None)
    paths = ["good.mp4", "misread.mp4", "cut.mkv", "images"]
    index = inspect_videos(tmp_path, paths, decode=True, workers=1)
    assert (list(index.records), index.misread) == (["good.mp4", "misread.mp4"], ["misread.mp4"])
    assert sorted(index.broken) == ["cut.mkv", "images"]
    assert inspect_videos(tmp_path, paths).broken == {}
