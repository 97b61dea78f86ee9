"""Clips on which ranges are found: of training alone, of all classes, at the fractions that are judged."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import ConfigError, DataError, VideoError
from vidkd.compress.calibration import calibration_of, drawn, feeds_of
from vidkd.compress.export_classifier import classifier_metadata
from vidkd.data.manifest import Clip, Manifest
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig, load_config
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.saved import SavedClassifier
from vidkd.runtime.metadata import ClassifierMetadata

DATA = {"split": "1", "window": {"frames": 4, "stride": 1}, "transform": {"short_side": 36, "crop": 32}, "validation_fraction": 0.34}


def config_of(root: Path, **data: object) -> RunConfig:
    return load_config(settings={"data": {**DATA, "root": str(root), **data}})


def metadata_of(config: RunConfig, classes: tuple[str, ...], *, told: bool = False) -> ClassifierMetadata:
    model = VideoClassifier(ModelConfig(condition_on_observed=told), len(classes), "rgb").eval()
    return classifier_metadata(SavedClassifier(model=model, classes=classes, view="rgb", run={}), config.data)


def clip(label: int | None) -> Clip:
    return Clip(path=f"{label}.mp4", start_s=0.0, end_s=1.0, label=label, group="g", subsets={"1": "train"})


def test_the_draw_walks_over_the_classes_and_differs_by_seed() -> None:
    clips = [clip(label) for label in [0] * 10 + [1] * 3 + [2] * 2]
    first, second = drawn(clips, 6, 0), drawn(clips, 6, 1)
    assert first == drawn(clips, 6, 0)
    assert first != second
    for chosen in (first, second):
        assert [sorted(clips[number].label or 0 for number in chosen[turn : turn + 3]) for turn in (0, 3)] == [[0, 1, 2]] * 2
        assert len(set(chosen)) == 6
    assert sorted(drawn(clips, 99, 0)) == list(range(15))


def test_only_training_clips_are_read(tiny_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(tiny_root, root)
    found = read_clips_of_run(config_of(root))
    kept = {clip.path for clip in found.train}
    assert found.val
    for clip in found.manifest.clips:
        if clip.path not in kept:
            (root / clip.path).unlink()
    made = calibration_of(config_of(root), metadata_of(config_of(root), found.manifest.classes), clips=99)
    assert made.source == f"{len(kept)} training clips of 3 classes"
    assert [feed["clip"].shape for feed in made.feeds] == [(1, 3, 4, 32, 32)] * len(kept)
    assert made.feeds[0]["clip"].dtype == np.uint8
    (root / sorted(kept)[0]).unlink()
    with pytest.raises(VideoError):
        calibration_of(config_of(root), metadata_of(config_of(root), found.manifest.classes), clips=99)


def test_clips_of_one_class_are_refused(tiny_root: Path) -> None:
    config = config_of(tiny_root)
    with pytest.raises(ConfigError, match="all 1 clips to find ranges on are of one class") as told:
        calibration_of(config, metadata_of(config, ("Right", "Down", "Grow")), clips=1)
    assert told.value.lines["fix"] == "more clips, of every class"


def test_no_training_clip_is_refused(tiny_root: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    judged = tuple(dataclasses.replace(clip, subsets={"1": "test"}) for clip in manifest.clips)
    dataclasses.replace(manifest, clips=judged).write(tmp_path / "manifest.jsonl")
    config = config_of(tiny_root, manifest=str(tmp_path / "manifest.jsonl"), validation_fraction=0.0)
    with pytest.raises(DataError, match="no labelled training clips to find ranges on"):
        calibration_of(config, metadata_of(config, manifest.classes), clips=8)


def test_observed_fractions_take_turns_and_are_told(tiny_root: Path) -> None:
    config = config_of(tiny_root, observe={"protocol": "early", "fractions": [0.5, 1.0]})
    made = calibration_of(config, metadata_of(config, ("Right", "Down", "Grow"), told=True), clips=4)
    assert [feed["observed"].tolist() for feed in made.feeds] == [[0.5], [1.0], [0.5], [1.0]]
    whole = calibration_of(config_of(tiny_root), metadata_of(config, ("Right", "Down", "Grow")), clips=4)
    assert list(whole.feeds[0]) == ["clip"]
    same = [np.array_equal(one["clip"], two["clip"]) for one, two in zip(made.feeds, whole.feeds, strict=True)]
    assert same == [False, True, False, True], "half a clip shows other frames"


def test_feeds_hold_every_clip_once() -> None:
    config = load_config(settings={"data": DATA})
    clips = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1, 1)
    made = feeds_of(clips, np.ones(20, np.float32), metadata_of(config, ("a", "b")))
    assert [len(feed["clip"]) for feed in made] == [1] * 20
    np.testing.assert_array_equal(np.concatenate([feed["clip"] for feed in made]), clips)
