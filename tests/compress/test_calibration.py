"""Clips on which ranges are found: of training alone, of all classes, at the fractions that are judged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import ConfigError, DataError
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.export_classifier import classifier_metadata, drawn, integers_of
from vidkd.compress.quantise import Integers
from vidkd.data.manifest import Clip
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import load_config
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.saved import SavedClassifier

CLASSES = ("Right", "Down", "Grow")
DATA = {"split": "1", "window": {"frames": 4, "stride": 1}, "transform": {"short_side": 36, "crop": 32}, "validation_fraction": 0.34}


def found(root: Path, *, condition_on_observed: bool = False, clips: int = 4, **data: object) -> Integers:
    config = load_config(settings={"data": {**DATA, "root": str(root), **data}})
    model = VideoClassifier(ModelConfig(condition_on_observed=condition_on_observed), 3, "rgb").eval()
    metadata = classifier_metadata(SavedClassifier(model=model, classes=CLASSES, view="rgb", run={}), config.data)
    return integers_of(config, metadata, QuantiseConfig(clips=clips))


def test_the_draw_walks_over_the_classes_and_differs_by_seed() -> None:
    clips = [
        Clip(path=f"{label}.mp4", start_s=0.0, end_s=1.0, label=label, group="g", subsets={"1": "train"})
        for label in [0] * 10 + [1] * 3 + [2] * 2
    ]
    first, second = (drawn(clips, QuantiseConfig(clips=6, seed=seed), CLASSES) for seed in (0, 1))
    assert first == drawn(clips, QuantiseConfig(clips=6), CLASSES)
    assert first != second
    for chosen in (first, second):
        assert [sorted(clips[number].label or 0 for number in chosen[turn : turn + 3]) for turn in (0, 3)] == [[0, 1, 2]] * 2
        assert len(set(chosen)) == 6
    assert sorted(drawn(clips, QuantiseConfig(), CLASSES)) == list(range(15))
    with pytest.raises(ConfigError, match="all 1 clips to find ranges on are of one class"):
        drawn(clips, QuantiseConfig(clips=1), CLASSES)
    with pytest.raises(DataError, match="no labelled training clips to find ranges on"):
        drawn([], QuantiseConfig(), CLASSES)


def test_only_training_clips_are_read(tiny_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(tiny_root, root)
    clips = read_clips_of_run(load_config(settings={"data": {**DATA, "root": str(root)}}))
    kept = {clip.path for clip in clips.train}
    assert clips.val
    for clip in clips.manifest.clips:
        if clip.path not in kept:
            (root / clip.path).unlink()
    made = found(root, clips=99)
    assert made.source == f"{len(kept)} training clips of 3 classes"
    assert [feed["clip"].shape for feed in made.feeds] == [(1, 3, 4, 32, 32)] * len(kept)
    assert made.feeds[0]["clip"].dtype == np.uint8


def test_observed_fractions_take_turns_and_are_inputs(tiny_root: Path) -> None:
    made = found(tiny_root, condition_on_observed=True, observe={"protocol": "early", "fractions": [0.5, 1.0]})
    assert [feed["observed"].tolist() for feed in made.feeds] == [[0.5], [1.0], [0.5], [1.0]]
    whole = found(tiny_root)
    assert list(whole.feeds[0]) == ["clip"]
    same = [np.array_equal(one["clip"], two["clip"]) for one, two in zip(made.feeds, whole.feeds, strict=True)]
    assert same == [False, True, False, True], "half a clip shows other frames"
