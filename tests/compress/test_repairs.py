"""A pruned student is repaired by every method that distils, feeling integers; linear layers alone may be in integers of dynamic ranges."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from test_steps import do, recipe_of

from vidkd.base.files import read_jsonl
from vidkd.models.saved import load_classifier
from vidkd.tasks import TASKS

DISTILLING = sorted(name for name, kind in TASKS.items() if kind.needs_teacher)
OVER: dict[str, dict[str, Any]] = {"anticipation": {"data.observe.protocol": "early", "data.window.short_clip": "hold"}}
"""What a method needs next to a teacher."""
TERM = {
    **{"anticipation": "gram", "attention_distillation": "attention", "attention_transfer": "transfer", "d3d": "logits"},
    **{"generalized_distillation": "loss", "logits_kd": "soft", "mars": "features"},
}
"""A term of each in which the teacher speaks."""


@pytest.mark.parametrize("task", DISTILLING)
def test_every_distillation_repairs_what_was_pruned(
    task: str, tiny_teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repair = {"task": task, "teacher": "original", "train.steps": 2, "optim.lr": 0.01, "train.integers": True, "train.log_every": 1}
    written = [{"prune": {"ratio": 0.4, "scope": "uniform"}}, {"repair": {**repair, **OVER.get(task, {})}}]
    before = {name: value.clone() for name, value in load_classifier(tiny_teacher).model.state_dict().items()}
    with caplog.at_level(logging.INFO, "vidkd"):
        original, pruned, repaired = do(recipe_of(tiny_teacher, tmp_path, written))
    assert "weights and inputs of 7 layers are rounded to eight bits" in caplog.text
    nets = [load_classifier(outcome.made.model) for outcome in (pruned, repaired)]
    assert (nets[1].run["task"], nets[1].run["teacher"]) == (task, str(tiny_teacher))
    assert nets[1].model.changes == nets[0].model.changes != ()
    assert repaired.content["parameters"] == pruned.content["parameters"] < original.content["parameters"]
    here, there = (net.model.state_dict() for net in nets)
    assert here.keys() == there.keys(), "the checkpoint is that of the plain network"
    moved = [name for name, value in here.items() if not torch.equal(value, there[name])]
    assert {"fc.weight", "backbone.net.stem.0.weight"} <= set(moved), "the gradient reaches both ends"
    after = load_classifier(tiny_teacher).model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "the teacher stays unchanged"
    rows = [row for row in read_jsonl(repaired.made.model / "metrics.jsonl") if row["split"] == "train"]
    assert len(rows) == 2
    for row in rows:
        assert row[TERM[task]] > 0, "the teacher says something else than what is left of the student"
