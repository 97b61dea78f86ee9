"""A compressed student is repaired by the tasks that train any other, from its checkpoint."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vidkd.base.errors import CheckpointError
from vidkd.compress.config import FactoriseConfig, PruneConfig
from vidkd.compress.factorise import factorise
from vidkd.compress.prune import prune
from vidkd.engine.config import RunConfig
from vidkd.engine.fit import fit
from vidkd.engine.setup import build_run_task
from vidkd.models.saved import load_classifier, save_classifier

Config = Callable[..., RunConfig]
CLASSES = ("Right", "Down", "Grow")


@pytest.fixture
def compressed(tiny_teacher: Path, tmp_path: Path) -> Path:
    """The tiny flow network, pruned and factorised, in a file."""
    saved = load_classifier(tiny_teacher)
    clip = torch.zeros(1, 2, 4, 32, 32)
    pruned = prune(saved.model, clip, PruneConfig(ratio=0.5, scope="uniform"))
    smaller = factorise(pruned.model, clip, FactoriseConfig(macs=0.7))
    save_classifier(tmp_path / "small.pt", dataclasses.replace(saved, model=smaller.model))
    return tmp_path / "small.pt"


def test_a_compressed_student_is_repaired_from_its_checkpoint(compressed: Path, tiny_config: Config, tiny_teacher: Path) -> None:
    small = load_classifier(compressed).model
    config = tiny_config(view="flow", init=str(compressed), **{"train.steps": 2, "model.attention.pooling": "soft"})
    started = build_run_task(config, CLASSES).student
    assert all(torch.equal(value, small.state_dict()[name]) for name, value in started.state_dict().items())
    repaired = load_classifier(fit(config, quiet=True).folder).model
    assert repaired.changes == small.changes
    assert repaired.fc.in_features == small.fc.in_features == 48
    assert not torch.equal(repaired.fc.weight, small.fc.weight)


def test_a_plan_for_another_network_is_refused(compressed: Path, tiny_config: Config) -> None:
    with pytest.raises(CheckpointError, match="a plan of compression does not fit the network"):
        build_run_task(tiny_config(view="flow", init=str(compressed), **{"model.backbone": "r3d_18"}), CLASSES)
