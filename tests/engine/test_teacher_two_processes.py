"""The teacher that a configuration describes, trained first by two processes that torchrun starts, then used by both."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from two_processes import torchrun

from vidkd.base.files import read_jsonl
from vidkd.base.settings import to_yaml
from vidkd.engine.config import RunConfig
from vidkd.engine.fit import fit
from vidkd.models.saved import load_classifier, read_checkpoint

# nothing random and nothing that couples the clips of a batch
SETTINGS = {
    "task": "mars",
    "teacher_settings": {"view": "flow", "train.steps": 1},
    "model": {"freeze_norm": True, "dropout": 0.0},
    "optim": {"optimiser": "sgd", "lr": 0.1, "warmup": 0.0},
}


@pytest.mark.slow
def test_two_processes_train_the_teacher_and_then_the_student(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Both weigh as those of one process do; a second call finds the teacher finished."""
    alone = fit(tiny_config(**SETTINGS, teacher=str(tmp_path / "one" / "teacher"), name="alone"), quiet=True).folder
    teacher = tmp_path / "two" / "teacher"
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_config(**SETTINGS, teacher=str(teacher))), encoding="utf-8")
    torchrun("train", "--config", str(tmp_path / "config.yaml"), "--name", "shared")
    trained = (teacher / "checkpoints" / "last.pt").stat().st_mtime_ns
    torchrun("train", "--config", str(tmp_path / "config.yaml"), "--name", "again")
    assert (teacher / "checkpoints" / "last.pt").stat().st_mtime_ns == trained

    assert (load_classifier(teacher).view, len(read_jsonl(teacher / "metrics.jsonl"))) == ("flow", 1)
    runs = alone.parent
    for one, two in ((tmp_path / "one" / "teacher", teacher), (alone, runs / "shared"), (alone, runs / "again")):
        weights = [read_checkpoint(folder / "checkpoints" / "last.pt")["student"]["state"] for folder in (one, two)]
        for name in weights[0]:
            torch.testing.assert_close(weights[1][name], weights[0][name], rtol=1e-5, atol=1e-6, msg=name)
