"""Example clips of a report: which ones, and what is shown of them."""

import base64
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vidkd.base.errors import CheckpointError, VidkdError
from vidkd.data.manifest import Clip
from vidkd.engine.clips import Clips, read_clips
from vidkd.engine.fit import fit
from vidkd.models.saved import load_classifier
from vidkd.report import examples
from vidkd.report.examples import example_strips, in_turn

Configs = Callable[..., Any]


def clips_of(*labels: int | None) -> list[Clip]:
    return [Clip(path=f"{number}.mp4", label=label, group="a", subsets={}) for number, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "count", "expected"),
    [
        ((0, 0, 0, 1, 1, 2), 3, [0, 3, 5]),
        ((0, 0, 0, 1, 1, 2), 5, [0, 3, 5, 1, 4]),
        ((0, 0, 0, 1, 1, 2), 9, [0, 3, 5, 1, 4, 2]),
        ((2, 1, 0), 2, [2, 1]),
        ((1, None, 0), 3, [1, 2, 0]),
        ((), 3, []),
    ],
)
def test_classes_take_turns(labels: tuple[int | None, ...], count: int, expected: list[int]) -> None:
    assert in_turn(clips_of(*labels), count) == expected


def test_within_a_class_groups_take_turns() -> None:
    groups = [("x", 0), ("x", 0), ("y", 0), ("x", 1), ("x", 1), ("y", 1)]
    clips = [dataclasses.replace(clip, group=group) for clip, (group, _) in zip(clips_of(*[k for _, k in groups]), groups, strict=True)]
    assert in_turn(clips, 6) == [0, 3, 2, 5, 1, 4]


def pixels(uri: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)


def test_frames_flow_and_who_looks_where(tiny_config: Configs, tiny_teacher: Path) -> None:
    config = tiny_config()
    student = fit(config, quiet=True).folder
    strips = example_strips(student, read_clips(config.data), "test", config.data, teacher=tiny_teacher, count=4)
    assert len(strips) == 4
    classes = load_classifier(student).classes
    assert [strip.caption for strip in strips] == ["Right_g4", "Down_g4", "Grow_g4", "Right_g5"]
    for strip, name in zip(strips, (*classes, classes[0]), strict=True):
        assert [row for row, _ in strip.rows] == ["frames", "flow", "teacher", "student"]
        assert strip.title.startswith(f"true {name} ")
        predicted = strip.title.rpartition("predicted ")[2]
        assert predicted in classes
        assert strip.right == (predicted == name)
        assert len({pixels(uri).shape for _, uri in strip.rows}) == 1, "the rows are in line"


def test_a_network_without_attention_has_no_row(tiny_config: Configs) -> None:
    config = tiny_config(**{"model.attention.pooling": "mean"})
    (strip,) = example_strips(fit(config, quiet=True).folder, read_clips(config.data), "train", config.data, count=1)
    assert [row for row, _ in strip.rows] == ["frames"]


def test_where_flow_is_not_stored_its_row_and_that_of_its_teacher_are_left_out(
    tiny_config: Configs, tiny_teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(**{"train.steps": 1})
    student, clips = fit(config, quiet=True).folder, read_clips(config.data)
    data = tiny_config(**{"data.flow": {"source": "stored", "folder": str(tmp_path / "none")}}).data
    (strip,) = example_strips(student, clips, "test", data, teacher=tiny_teacher, count=1)
    assert [row for row, _ in strip.rows] == ["frames", "student"]
    assert "a strip has no flow" in caplog.text
    with pytest.raises(VidkdError):  # a student who sees flow has nothing to see
        example_strips(tiny_teacher, clips, "test", data, count=1)


def test_the_middle_window_is_shown(tiny_config: Configs, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three windows and two crops of the second clip: the second window, and the second crop of it."""
    config, asked = tiny_config(**{"data.eval_clips": 3, "data.eval_crops": 2}), []
    found = examples.ClipDataset.__getitem__

    def watched(dataset: Any, item: tuple[int, int]) -> Any:
        asked.append(item)
        return found(dataset, item)

    monkeypatch.setattr(examples.ClipDataset, "__getitem__", watched)
    example_strips(tiny_teacher, read_clips(config.data), "test", config.data, count=2)
    assert asked == [(0, 3), (0, 2 * 6 + 3)]


@pytest.mark.parametrize("protocol", ["early", "anticipation"])
def test_what_was_observed_and_what_the_teacher_saw(tiny_config: Configs, tiny_teacher: Path, protocol: str) -> None:
    """The tiny clips have 12 frames at 25 a second: 0.48 s."""
    observe = {"protocol": protocol, "fractions": [0.3, 0.6], "gap_s": 0.08, "observe_s": None}
    data = tiny_config(**{"data.observe": observe, "data.window.short_clip": "hold"}).data
    clips = read_clips(data)
    (strip,) = example_strips(tiny_teacher, _later(clips), "test", data, teacher=tiny_teacher, count=1)
    assert [row for row, _ in strip.rows] == ["observed", "observed flow", "student", "time", "teacher sees", "its flow", "teacher"]
    (alone,) = example_strips(tiny_teacher, _later(clips), "test", data, count=1)
    assert [row for row, _ in alone.rows] == ["observed", "observed flow", "student", "time", "what came"]
    says = {
        "early": "Right_g4: decides at 0.31 s (30 % observed), the clip ends at 0.48 s",  # of [0.24, 0.48)
        "anticipation": "Right_g4: decides at 0.16 s, the action starts at 0.24 s",
    }
    assert strip.caption == f"{says[protocol]}; frames of what the teacher sees repeat"  # of 6 the last 2 are only pairs' second ones
    assert alone.caption == says[protocol]


@pytest.mark.parametrize(("end_s", "shown"), [(0.36, True), (0.27, False)])  # 2 of the 5 frames that a window reaches over, and none
def test_a_teacher_s_part_that_is_too_short_spoils_no_strip_of_what_was_judged(
    tiny_config: Configs, tiny_teacher: Path, caplog: pytest.LogCaptureFixture, end_s: float, shown: bool
) -> None:
    """The student's part is whole, 5 frames to 0.16 s, and `short_clip` is `error`; the teacher's begins at 0.25 s."""
    observe = {"protocol": "anticipation", "gap_s": 0.08, "observe_s": None}
    data = tiny_config(**{"data.observe": observe, "data.window": {"frames": 4, "stride": 1}}).data
    assert data.window.short_clip == "error"
    clips = _later(read_clips(data), start_s=0.25, end_s=end_s)
    strips = example_strips(tiny_teacher, clips, "test", data, teacher=tiny_teacher, count=2)
    assert len(strips) == 2 * shown
    for strip in strips:
        assert dict(strip.rows).keys() >= {"observed", "teacher sees"}
        assert strip.caption.endswith("the action starts at 0.25 s; frames of what the teacher sees repeat")
    left = [record.getMessage() for record in caplog.records if "is not among the example clips" in record.getMessage()]
    assert len(left) == 2 * (not shown)
    assert all("no frame in the" in line for line in left)


def _later(clips: Clips, *, start_s: float = 0.24, end_s: float | None = None) -> Clips:
    """Clips that begin in the middle of their files, so that there is something before them."""
    every = tuple(dataclasses.replace(clip, start_s=start_s, end_s=end_s) for clip in clips.manifest.clips)
    return dataclasses.replace(clips, manifest=dataclasses.replace(clips.manifest, clips=every))


def test_a_checkpoint_that_is_missing(tiny_config: Configs, tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(CheckpointError, match="checkpoint not found"):
        example_strips(tmp_path / "none.pt", read_clips(config.data), "test", config.data)
