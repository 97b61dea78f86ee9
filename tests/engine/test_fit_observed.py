"""Training on what is observed: what is left out, shortened or repeats, and a future that is never seen."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_states import same, state

from vidkd.base.errors import DataError
from vidkd.data.manifest import Manifest
from vidkd.engine import fit, loop
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig
from vidkd.engine.loop import InterruptedRunError
from vidkd.engine.setup import build_run_task
from vidkd.models.saved import load_classifier, read_checkpoint

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
        (early(4, "rest", 0.25), "12 samples 12 of the student, 0 of the teacher"),  # 3 of 12 frames, and the other 9
        (early(4, "rest", 0.75), "12 samples 0 of the student, 12 of the teacher"),
        ({**early(8, "rest", 0.5), "task": "logits_kd"}, "12 samples 12 of the student, 0 of the teacher"),  # whose teacher sees the same
        (early(6, "rest", 0.5), None),
        ({**early(8, "rest", 0.5), "optim.accumulate": 2, "train.steps": 2}, "12 samples 12 of the student, 12 of the teacher"),
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


def between_frames(root: Path, path: Path, groups: set[str]) -> str:
    """A manifest in which the clips of these groups begin between two frames: of 0.05 to 0.25 s the first tenth shows nothing."""
    manifest = Manifest.read(root / "manifest.jsonl")
    clips = [dataclasses.replace(clip, start_s=0.05, end_s=0.25) if clip.group in groups else clip for clip in manifest.clips]
    dataclasses.replace(manifest, clips=tuple(clips)).write(path)
    return str(path)


@pytest.mark.parametrize("cached", [False, True])
def test_samples_without_a_frame_in_the_observed_part_are_left_out_and_counted(
    tiny_root: Path, tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture, cached: bool
) -> None:
    """They are no bad clips, of which none is allowed here."""
    rows = between_frames(tiny_root, tmp_path / "rows.jsonl", {"g0", "g1"})
    settings = {**early(4, "whole", 0.1, 1.0), "data.manifest": rows, "train.steps": 4, "data.cache.enabled": cached}
    config = tiny_config(**settings, **{"data.cache.folder": str(tmp_path / "cache")})
    clips = read_clips(config.data)
    training = fit.ClipTrainingRun(config, clips)
    batches = list(training.loader(0, 3, rank=0, world_size=1, pin_memory=False))
    left = [number for batch in batches for number in batch.get("unobservable", [])]
    assert 0 < len(left) < 6
    assert {clips.train[number].group for number in left} <= {"g0", "g1"}
    assert sum(len(batch["index"]) for batch in batches) + len(left) == 12
    assert not any(batch["bad"] for batch in batches)
    assert config.data.max_bad_clips == 0
    assert fit.fit(config, quiet=True).steps == 4
    said = f"no frame in the observed part, nothing is learned from it: {len(left)} of 12 samples"
    assert [record.getMessage() for record in caplog.records].count(said) == 1


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


def test_clips_that_a_gap_leaves_nothing_of_are_named_as_the_cause_before_a_teacher_is_trained(tiny_config: Config, tmp_path: Path) -> None:
    """Trimmed clips begin with their files."""
    teacher = tmp_path / "runs" / "teacher"
    settings = {"task": "anticipation", "teacher": str(teacher), "teacher_settings": {"data.observe.protocol": "whole"}}
    config = tiny_config(**settings, **{"data.observe": {"protocol": "anticipation", "gap_s": 0.5}, "data.validation_fraction": 0.25})
    with pytest.raises(DataError) as caught:
        fit.fit(config, quiet=True)
    assert caught.value.what == "split '1' has no labelled training clip of which anything can be observed"
    assert caught.value.lines == {
        "where": "data.observe.protocol",
        "reason": "9 of 9 begin less than data.observe.gap_s (0.5 s) after their file does: the gap leaves nothing to observe",
        "fix": "--data.observe.protocol early, for trimmed clips; or a manifest of actions in uncut videos",
    }
    assert not teacher.exists()


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
