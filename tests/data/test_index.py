"""prepare_data's index of the videos lies next to the manifest, and training opens no file to look it over."""

from pathlib import Path

import numpy as np
import pytest

from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.index import build_index, index_file
from vidkd.data.manifest import Clip, Manifest
from vidkd.data.windows import WindowConfig
from vidkd.video import opening, write_video
from vidkd.video.index import read_packets


def test_training_reads_no_packets_of_an_indexed_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [Clip(path=f"{name}.mp4", label=0, group=name, subsets={}) for name in "ab"]
    for clip in clips:
        write_video(tmp_path / clip.path, iter(np.zeros((20, 32, 32, 3), np.uint8)), fps=10)
    (tmp_path / "c.mp4").write_text("text")
    manifest = Manifest(
        name="x", root=tmp_path, classes=("c",), splits=(), clips=(*clips, Clip(path="c.mp4", label=0, group="c", subsets={}))
    )
    failed = build_index(manifest, tmp_path / "manifest.jsonl", workers=1)
    assert list(failed) == ["c.mp4"]
    assert index_file(tmp_path / "manifest.jsonl").is_file()
    looks: list[str] = []
    monkeypatch.setattr(opening, "read_packets", lambda name: looks.append(name) or read_packets(name))
    data = DataConfig(window=WindowConfig(frames=4, stride=2))
    dataset = ClipDataset(tmp_path, clips, data, views=["rgb"], training=True)
    assert dataset[(0, 0)]["rgb"].shape == dataset[(0, 1)]["rgb"].shape == (3, 4, 64, 64)
    assert looks == []
    other = tmp_path / "other.jsonl"
    elsewhere = ClipDataset(tmp_path, clips, DataConfig(window=data.window, manifest=str(other)), views=["rgb"], training=True)
    assert elsewhere.index_file == tmp_path / "other.index"
