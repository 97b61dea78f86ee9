"""Anticipation trained through the engine: networks of unlike kinds, and what the first row of its metrics tells."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from run_states import same, state

from vidkd.engine import fit, loop
from vidkd.engine.config import RunConfig
from vidkd.engine.loop import InterruptedRunError
from vidkd.engine.setup import build_run_task
from vidkd.models.saved import load_classifier, read_checkpoint

Config = Callable[..., RunConfig]
CLASSES = ("Right", "Down", "Grow")
SEEN = {
    "data.observe": {"protocol": "early", "fractions": [0.5], "teacher_sees": "rest"},
    "data.window": {"frames": 4, "rule": "uniform"},
}


def test_unlike_backbones_train_and_their_projector_is_saved_and_goes_on(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps, and the same two with a stop between them, end with the same bits, the projector's among them."""
    mobile = {"view": "flow", "model": {"backbone": "mobilenet_v3_small", "attention": {"pooling": "mean"}}, "train.steps": 1}
    teacher = fit.fit(tiny_config(**{**SEEN, **mobile, "data.observe": {"protocol": "whole"}, "name": "mobile"}), quiet=True).folder
    method = {"feature": "window", "stage": "stage4", "teacher_stage": "stage3"}  # grids of 4 x 2 x 2 in 96 and in 48 channels
    settings = {**SEEN, "task": "anticipation", "method": method, "teacher": str(teacher), "train.steps": 2}
    whole = fit.fit(tiny_config(**settings, name="whole"), quiet=True).folder

    content = read_checkpoint(whole / "checkpoints" / "last.pt")
    projector = content["task"]["projector.weight"]
    assert projector.shape == (48, 96, 1, 1, 1)
    task = build_run_task(tiny_config(**settings), CLASSES)
    assert (task.student.config.backbone, load_classifier(teacher).model.config.backbone) == ("tiny3d", "mobilenet_v3_small")
    initial = task.saved_state()
    assert set(initial) == set(content["task"]) == {"projector.weight", "projector.bias"}
    assert not torch.equal(initial["projector.weight"], projector)
    task.load_saved_state(content["task"])
    assert torch.equal(task.saved_state()["projector.weight"], projector)

    log = loop.Loop._log

    def log_and_stop(training: Any, losses: dict[str, float]) -> None:
        log(training, losses)
        training.interrupt.asked = True

    stopped = tiny_config(**settings, name="stopped")
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_log", log_and_stop)
        with pytest.raises(InterruptedRunError, match="stopped after step 1 of 2; saved"):
            fit.fit(stopped, quiet=True)
    assert same(state(whole), state(fit.fit(stopped, quiet=True).folder))
