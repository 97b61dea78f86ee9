"""Clips and frames that cannot be read while filters are judged by the loss: counted, capped and told as in training."""

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from street_runs import street_config, write_streets
from test_steps import do, recipe_of

from vidkd.base.errors import DataError
from vidkd.compress.detector import DetectorSubject
from vidkd.compress.steps import run_recipe
from vidkd.data.manifest import Manifest
from vidkd.detection.fit import fit_detector
from vidkd.models.saved import load_classifier

TAYLOR: list[dict[str, Any]] = [{"prune": {"ratio": 0.3, "criterion": "taylor"}}]


def damaged(tiny_root: Path, folder: Path, count: int) -> Path:
    """The tiny data set with so many training files that hold no video."""
    shutil.copytree(tiny_root, folder)
    manifest = Manifest.read(folder / "manifest.jsonl")
    train = [clip for clip in manifest.clips if clip.subsets["1"] == "train"]
    for clip in train[:count]:
        (folder / clip.path).write_bytes(b"no video")
    return folder


@pytest.mark.parametrize("batch_size", [1, 4])
def test_unreadable_clips_are_counted_and_capped(
    tiny_teacher: Path, tiny_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, batch_size: int
) -> None:
    root = damaged(tiny_root, tmp_path / "data", 1)
    settings = {"data.root": str(root), "data.validation_fraction": 0.0, "data.batch_size": batch_size}
    with pytest.raises(DataError, match=r"training clips that cannot be read: 1(.|\n)*data\.max_bad_clips"):
        do(recipe_of(tiny_teacher, tmp_path, TAYLOR, settings=settings))
    with caplog.at_level(logging.WARNING, logger="vidkd"):
        pruned = do(recipe_of(tiny_teacher, tmp_path / "b", TAYLOR, settings={**settings, "data.max_bad_clips": 1}))[1]
    assert sum("skipped unreadable clip 1 of at most 1" in record.message for record in caplog.records) == 1
    assert pruned.content["parameters"] < sum(each.numel() for each in load_classifier(tiny_teacher).model.parameters())


def test_unreadable_frames_are_counted_and_capped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    streets = write_streets(tmp_path / "streets")
    student = fit_detector(street_config(streets, tmp_path / "runs"), quiet=True).folder
    next(streets.rglob("plain_01.mp4")).write_bytes(b"no video")
    settings = {"data.transform.mosaic": 0.0, "data.batch_size": 1}
    recipe = recipe_of(student, tmp_path, TAYLOR, subset="val", settings=settings)
    with pytest.raises(DataError, match=r"cannot be read: 1(.|\n)*max_bad_files"):
        list(run_recipe(recipe, DetectorSubject(recipe)))
    recipe = dataclasses.replace(recipe, runs=str(tmp_path / "b"), settings={**settings, "data.max_bad_files": 1})
    with caplog.at_level(logging.WARNING, logger="vidkd"):
        original, pruned = run_recipe(recipe, DetectorSubject(recipe))
    assert sum("skipped unreadable clip 1 of at most 1" in record.message for record in caplog.records) == 1
    assert pruned.content["parameters"] < original.content["parameters"]
