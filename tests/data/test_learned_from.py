"""Which clips a classifier has learned from."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from vidkd.base.errors import CheckpointError
from vidkd.data.learned_from import LearnedFrom, check_unseen, record_of
from vidkd.data.manifest import Clip, Manifest

SETTINGS = {"split": "1", "validation_fraction": 0.25, "split_seed": 3}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Eight files of unlike sizes in four groups, the first two of which train."""
    clips = []
    for number in range(8):
        (tmp_path / f"{number}.mp4").write_bytes(b"x" * (number + 1))
        subsets = {"1": "train" if number < 4 else "test"}
        clips.append(Clip(path=f"{number}.mp4", label=number % 2, group=f"g{number // 2}", subsets=subsets))
    return Manifest(name="x", root=tmp_path, classes=("a", "b"), splits=("1",), clips=tuple(clips))


def learned_from(manifest: Manifest) -> LearnedFrom:
    learned = LearnedFrom.of(record_of(manifest.root, manifest.select("1", "train"), SETTINGS))
    assert learned is not None
    return learned


def check(learned: LearnedFrom, manifest: Manifest) -> None:
    check_unseen("it", learned, manifest, "1", manifest.select("1", "test"))


def with_clips(manifest: Manifest, *clips: Clip) -> Manifest:
    return dataclasses.replace(manifest, clips=clips)


def test_other_sides_of_the_split_are_noticed_whatever_else_the_manifest_says(manifest: Manifest) -> None:
    learned = learned_from(manifest)
    check(learned, manifest)
    changed = [dataclasses.replace(clip, onset_s=0.0) for clip in manifest.clips]
    check(learned, with_clips(manifest, *changed))
    over = [dataclasses.replace(clip, subsets={"1": "test" if clip.group in ("g0", "g2") else "train"}) for clip in changed]
    with pytest.raises(CheckpointError, match="it learned from 2 of the 4 clips") as caught:
        check(learned, with_clips(manifest, *over))
    assert caught.value.lines["its groups"] == "--data.split 1   --data.validation_fraction 0.25   --data.split_seed 3"


def test_files_that_lie_elsewhere_are_the_same_clips(manifest: Manifest, tmp_path: Path) -> None:
    learned = learned_from(manifest)
    (tmp_path / "moved" / "videos").mkdir(parents=True)
    shutil.copy(tmp_path / "0.mp4", tmp_path / "moved" / "videos" / "0.mp4")
    clip = Clip(path="videos/0.mp4", label=0, group="another", subsets={"1": "test"})
    with pytest.raises(CheckpointError, match="1 of the 1"):
        check(learned, dataclasses.replace(manifest, root=tmp_path / "moved", clips=(clip,)))


def test_a_file_of_the_same_name_in_another_data_set_is_another_clip(manifest: Manifest, tmp_path: Path) -> None:
    """So are its groups, which may have the same names."""
    (tmp_path / "other").mkdir()
    for number in range(4):
        (tmp_path / "other" / f"{number}.mp4").write_bytes(b"y" * 100)
    clips = [dataclasses.replace(clip, subsets={"1": "test"}) for clip in manifest.clips[:4]]
    check(learned_from(manifest), dataclasses.replace(manifest, root=tmp_path / "other", clips=tuple(clips)))


def test_another_clip_of_a_learned_group_is_noticed_unless_the_split_has_the_group_on_both_sides(manifest: Manifest) -> None:
    learned = learned_from(manifest)
    more = Clip(path="8.mp4", label=0, group="g0", subsets={"1": "test"})
    (manifest.root / "8.mp4").write_bytes(b"z")
    check(learned, with_clips(manifest, *manifest.clips, more))
    without = [clip for clip in manifest.clips if clip.group != "g0"]
    with pytest.raises(CheckpointError, match="1 of the 5"):
        check(learned, with_clips(manifest, *without, more))


def test_what_a_network_began_with_counts_too(manifest: Manifest) -> None:
    first, second = record_of(manifest.root, manifest.clips[:2], SETTINGS), manifest.clips[2:4]
    every = record_of(manifest.root, manifest.clips[:4], SETTINGS)
    assert record_of(manifest.root, second, SETTINGS, earlier=[first, None]) == every
