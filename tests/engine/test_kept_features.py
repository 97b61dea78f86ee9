"""Kept activations of frozen networks: what a run learns from them is what it would learn from the clips."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vidkd.base.errors import DataError
from vidkd.data.loaders import training_loader
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig
from vidkd.engine.features import frozen_networks, keep_features
from vidkd.engine.fit import ClipTrainingRun, fit
from vidkd.models.saved import load_classifier
from vidkd.tasks import TASKS

Config = Callable[..., RunConfig]
FROZEN = [
    ("all", "mean", "supervised"),
    ("stage2", "mean", "supervised"),
    ("all", "probabilistic", "attention_distillation"),
    ("all", "soft", "motion_attention"),
]


def first_batch(run: ClipTrainingRun) -> dict:
    return next(iter(training_loader(run.dataset, [[(0, 1), (0, 2), (1, 1)]], 0)))


@pytest.mark.parametrize(("freeze", "pooling", "task"), FROZEN)
def test_a_step_from_kept_maps_is_the_step_from_clips(
    freeze: str, pooling: str, task: str, tiny_config: Config, tiny_teacher: Path, tmp_path: Path
) -> None:
    over = {"teacher": str(tiny_teacher)} if TASKS[task].needs_teacher else {}
    config = tiny_config(
        **{"task": task, "model.freeze": freeze, "model.attention.pooling": pooling, "model.dropout": 0.0, "data.features.views": 2},
        **{"data.features.folder": str(tmp_path / "features")},
        **over,
    )
    clips = read_clips_of_run(config)
    run = ClipTrainingRun(config, clips)
    run.task.train()
    keep_features(run.dataset, frozen_networks(run.task), epochs=2)
    kept = first_batch(run)
    assert run.dataset.views == ()
    assert run.dataset.features is not None
    run.dataset.features.filled = False
    run.dataset.views = run.task.views
    decoded = first_batch(run)
    torch.manual_seed(0)
    from_kept = run.task(kept)
    torch.manual_seed(0)
    from_clips = run.task(decoded)
    for name, loss in from_clips.items():
        torch.testing.assert_close(from_kept[name], loss, atol=2e-3, rtol=2e-3)
    from_kept["loss"].backward()
    assert all(parameter.grad is not None for parameter in run.task.student.parameters() if parameter.requires_grad)


def test_one_network_of_two_parts_of_a_clip_has_the_maps_of_both(tiny_config: Config, tmp_path: Path) -> None:
    """Student and teacher are the same frozen network, and only the teacher sees the whole clip."""
    frozen = {"model.freeze": "all", "data.window": {"frames": 4, "rule": "uniform"}}
    teacher = str(fit(tiny_config(**frozen, name="teacher"), quiet=True).folder)
    config = tiny_config(
        **{**frozen, "task": "anticipation", "teacher": teacher, "init": teacher, "method.feature": "none", "method.logits_weight": 1.0},
        **{"data.observe": {"protocol": "early", "fractions": [0.5]}, "data.features.views": 2},
        **{"data.features.folder": str(tmp_path / "features")},
    )
    run = ClipTrainingRun(config, read_clips_of_run(config))
    keep_features(run.dataset, frozen_networks(run.task), epochs=2)
    kept = first_batch(run)
    assert run.dataset.features is not None
    run.dataset.features.filled, run.dataset.views = False, run.task.views
    decoded = first_batch(run)
    for entry, view in (("rgb", "rgb"), ("teacher", "future_rgb")):
        for stage, maps in run.task.student.eval().kept_maps(decoded[view]).items():
            torch.testing.assert_close(kept[entry][stage].float(), maps, atol=2e-3, rtol=2e-3)


def test_a_run_from_kept_maps_trains_and_decodes_nothing_twice(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidkd.data import dataset

    reads: list[Path] = []
    read = dataset.read_seen

    def counted(path: Path, *given: object, **named: object) -> object:
        reads.append(path)
        return read(path, *given, **named)

    monkeypatch.setattr(dataset, "read_seen", counted)
    over = {"model.freeze": "all", "data.features.views": 1, "data.features.folder": str(tmp_path / "features"), "train.steps": 6}
    first = fit(tiny_config(**over))
    once = len(reads)
    assert once == len(read_clips_of_run(tiny_config(**over)).train)
    second = fit(tiny_config(**over, name="second"))
    assert len(reads) == once
    states = [load_classifier(result.folder).model.state_dict() for result in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_other_weights_have_other_maps(tiny_config: Config, tmp_path: Path) -> None:
    over = {"model.freeze": "all", "data.features.views": 1, "data.features.folder": str(tmp_path / "features")}
    files = []
    for seed in (0, 1):
        run = ClipTrainingRun(config := tiny_config(**over, **{"train.seed": seed}), read_clips_of_run(config))
        keep_features(run.dataset, frozen_networks(run.task))
        files.append(run.dataset.feature_file("rgb", (0, 0)))
    assert files[0] != files[1]
    assert all(file.is_file() for file in files)


def test_maps_beyond_the_bound_are_an_error(tiny_config: Config, tmp_path: Path) -> None:
    over = {
        "model.freeze": "all",
        "data.features.views": 1,
        "data.features.folder": str(tmp_path / "features"),
        "data.features.max_gb": 1e-6,
    }
    with pytest.raises(DataError, match="max_gb"):
        fit(tiny_config(**over))
