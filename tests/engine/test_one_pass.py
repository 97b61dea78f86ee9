"""One pass over whole clips judges a student that answers after every frame at every observed share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidkd.base.errors import VidkdError
from vidkd.data.observation import ObserveConfig, WindowConfig
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig
from vidkd.engine.evaluate import Judgement, judge
from vidkd.engine.fit import fit
from vidkd.engine.metrics import share_reaching
from vidkd.engine.setup import evaluation_set
from vidkd.models.saved import load_classifier

Config = Callable[..., RunConfig]
ANSWERS: dict[str, Any] = {
    "model.backbone": "timm:resnet10t",
    "model.attention.pooling": "mean",
    "model.temporal": {"pooling": "gru", "width": 16, "answers": "frames"},
    "data.window": {"frames": 5, "rule": "uniform"},
    "data.observe.fractions": [0.2, 0.5, 1.0],
    "optim.lr": 0.01,
    "train.steps": 6,
}


def judged(config: RunConfig, folder: Path) -> Judgement:
    model = load_classifier(folder).model
    return judge(model, read_clips(config.data), "test", config.data, ("Right", "Down", "Grow"), device=torch.device("cpu"))


@pytest.mark.parametrize("kept", [False, True])
def test_a_share_is_judged_by_the_window_cut_there(tiny_config: Config, tmp_path: Path, kept: bool) -> None:
    features = {"model.freeze": "all", "data.features.views": 2, "data.features.folder": str(tmp_path / "kept")} if kept else {}
    config = tiny_config(**ANSWERS, **features)
    folder = fit(config, quiet=True).folder
    found = judged(config, folder)
    assert found.fractions == [0.2, 0.5, 1.0]
    model = load_classifier(folder).model.eval()
    samples = evaluation_set(read_clips(config.data), "test", config.data, ["rgb"])
    clips = torch.stack([samples[0, number]["rgb"] for number in range(len(samples))])
    for fraction, frames in ((0.2, 1), (0.5, 2), (1.0, 5)):
        with torch.no_grad():
            cut = model(clips[:, :, :frames]).logits.softmax(1).numpy()
        np.testing.assert_allclose(found.at[fraction].probabilities, cut, atol=2e-3 if kept else 1e-5)
    metrics = found.metrics()
    assert metrics["top1"] == pytest.approx(np.mean([metrics[f"top1@obs{percent}"] for percent in (20, 50, 100)]))
    assert set(found.as_rows()) >= {"predicted@obs20", "predicted@obs50", "predicted@obs100"}


def test_where_exported_files_are_compared_with_it_the_last_answer_counts(tiny_config: Config) -> None:
    config = tiny_config(**ANSWERS)
    model = load_classifier(fit(config, quiet=True).folder).model
    clips, device = read_clips(config.data), torch.device("cpu")
    last = judge(model, clips, "test", config.data, ("Right", "Down", "Grow"), device=device, last_only=True)
    every = judge(model, clips, "test", config.data, ("Right", "Down", "Grow"), device=device)
    assert last.fractions == []
    np.testing.assert_array_equal(last.fullest.probabilities, every.at[1.0].probabilities)


def test_early_windows_and_validation_work_with_it_too(tiny_config: Config) -> None:
    early = {"data.observe": {"protocol": "early", "fractions": [0.5, 1.0]}, "data.validation_fraction": 0.25}
    config = tiny_config(**{**ANSWERS, **early, "train.steps": 2})
    assert judged(config, fit(config, quiet=True).folder).fractions == [0.5, 1.0]
    assert fit(tiny_config(**{**ANSWERS, "data.validation_fraction": 0.25, "name": "whole"}), quiet=True).steps == 6


def test_frames_stand_for_shares() -> None:
    assert ObserveConfig().judged_frames(WindowConfig(frames=10, rule="uniform")) == {round(0.1 * n, 1): n - 1 for n in range(1, 11)}
    assert ObserveConfig(fractions=(0.3, 0.99)).judged_frames(WindowConfig(frames=8, rule="uniform")) == {0.3: 1, 0.99: 6}


def test_shares_without_a_frame_are_refused_before_training(tiny_config: Config) -> None:
    with pytest.raises(VidkdError, match=r"none lies in its first 10 %") as caught:
        tiny_config(**{**ANSWERS, "data.observe.fractions": [0.1, 1.0]})
    assert "data.window.frames: 10" in caught.value.lines["fix"]
    with pytest.raises(VidkdError, match="dense window"):
        tiny_config(**{**ANSWERS, "data.window": {"frames": 4, "stride": 2}})


@pytest.mark.parametrize(
    ("values", "share"),
    [
        ([0.5, 0.5, 0.5], 0.2),  # there from the first
        ([0.0, 0.5, 1.0], 0.9),  # four fifths of the way from 0.5 to 1
        ([0.4, 1.0, 0.8], 0.2 + 0.3 * 0.32 / 0.6),  # passes 0.72 before its end
        ([0.0, 0.0, 0.0], 0.2),
    ],
)
def test_the_share_at_which_nine_tenths_are_reached(values: list[float], share: float) -> None:
    assert share_reaching([0.2, 0.5, 1.0], values) == pytest.approx(share)
