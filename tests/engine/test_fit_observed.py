"""What training says of clips that are not, or hardly, observed: left out, shortened, and frames that repeat."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vidkd.data.manifest import Manifest
from vidkd.engine import fit
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig

Config = Callable[..., RunConfig]
REPEATED = "parts with fewer frames than the window, so that frames repeat: of "


def early(frames: int, sees: str, *fractions: float) -> dict[str, Any]:
    return {
        "data.observe": {"protocol": "early", "fractions": list(fractions), "teacher_sees": sees},
        "data.window": {"frames": frames, "rule": "uniform", "short_clip": "hold"},
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (early(4, "rest", 0.25), "12 samples of the first epoch 12 of the student, 0 of the teacher"),  # 3 of 12 frames, and the other 9
        (early(4, "rest", 0.75), "12 samples of the first epoch 0 of the student, 12 of the teacher"),
        (early(8, "rest", 0.5), "12 samples of the first epoch 12 of the student, 12 of the teacher"),
        (early(8, "whole", 0.5), "12 samples of the first epoch 12 of the student, 0 of the teacher"),
        ({**early(8, "rest", 0.5), "task": "logits_kd"}, "12 samples of the first epoch 12 of the student"),  # whose teacher sees the same
        (early(6, "rest", 0.5), None),
        ({**early(8, "rest", 0.5), "train.steps": 2}, "8 samples of the first epoch 8 of the student, 8 of the teacher"),
        (
            {**early(8, "rest", 0.5), "optim.accumulate": 2, "train.steps": 2},
            "12 samples of the first epoch 12 of the student, 12 of the teacher",
        ),
        ({"data.window": {"frames": 16, "stride": 1, "short_clip": "hold"}}, None),  # whole clips: the same window for both
    ],
)
def test_repeated_frames_of_the_first_epoch_are_counted_and_said_once(
    settings: dict[str, Any], said: str | None, tiny_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    whole = {"task": "supervised", "data.observe": {"protocol": "whole"}, "name": "whole", "train.steps": 1}
    teacher = fit.fit(tiny_config(**{**settings, **whole}), quiet=True).folder
    caplog.clear()
    fit.fit(tiny_config(**{"train.steps": 5, "task": "anticipation", "teacher": str(teacher), **settings}), quiet=True)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith(REPEATED)]
    assert len(lines) == (said is not None)
    assert said is None or lines[0] == REPEATED + said


def test_a_sample_counts_where_its_own_frames_repeat(tiny_config: Config, caplog: pytest.LogCaptureFixture) -> None:
    """Fractions are drawn: 3 of 12 frames or 9, of which 4 are asked for. A run that goes on counts what it still sees of the epoch."""
    config = tiny_config(**early(4, "whole", 0.25, 0.75), **{"train.steps": 1})
    fit.fit(config, quiet=True)
    caplog.clear()
    config = tiny_config(**early(4, "whole", 0.25, 0.75), **{"train.steps": 6})
    trainee = fit.ClipTrainee(config, read_clips(config.data))
    batches = list(trainee.loader(1, 3, rank=0, world_size=1, pin_memory=False))
    held = sum(int(batch["held"].sum()) for batch in batches)
    assert 0 < held < 8
    fit.fit(config, quiet=True)
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith(REPEATED)]
    assert line == f"{REPEATED}8 samples of the first epoch {held} of the student"


def test_processes_count_their_repeated_frames_together(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The second process saw as much as the first; one line is said for both, after the batches asked for."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda counts: counts.mul_(2))
    for rank in (0, 1):
        repeated = fit.RepeatedFrames(2, rank=rank, world_size=2)
        for held, taught in (([1, 0, 0], [1, 1, 0]), ([1, 1], [0, 1]), ([1], [1])):
            repeated.add({"held": torch.tensor(held).bool(), "held_future": torch.tensor(taught).bool()})
    assert [record.getMessage() for record in caplog.records] == [
        f"{REPEATED}10 samples of the first epoch 6 of the student, 6 of the teacher"
    ]


def test_training_clips_that_are_not_or_hardly_observed_are_said_at_the_start(
    tiny_root: Path, tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    clips = [dataclasses.replace(clip, start_s=0.05 if number == 0 else 0.3, end_s=0.48) for number, clip in enumerate(manifest.clips)]
    dataclasses.replace(manifest, clips=tuple(clips)).write(tmp_path / "actions.jsonl")
    observe = {"protocol": "anticipation", "gap_s": 0.1, "observe_s": 1.0}
    settings = {"data.manifest": str(tmp_path / "actions.jsonl"), "data.observe": observe, "data.window": {"frames": 4, "stride": 1}}
    fit.fit(tiny_config(**settings, **{"train.steps": 1}), quiet=True)
    assert [record.getMessage() for record in caplog.records] == [
        "tiny: 1 of 12 training clips are left out: the gap leaves nothing to observe",
        "tiny: of 11 of 11 training clips less than data.observe.observe_s is observed: their files begin later",
    ]
