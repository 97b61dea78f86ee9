import json

import numpy as np
import pytest
from online_samples import NAMES, Narrow, Painter, oracle, stream, student

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.detection.online import BoxOracle, SynchronousLearner, Update
from vidkd.detection.online.stepper import LearningStepper
from vidkd.detection.policies import CallBudget, FixedInterval
from vidkd.detection.stream.stepper import Stepper
from vidkd.video import Frame

FRAMES = [Frame(index=50 + t, time_s=t / 25, image=image) for t, image in enumerate(stream(8))]


def stepper(emit_oracle=False, light=None) -> LearningStepper:
    update = Update(trains="all", lr=1e-2, steps=3)
    learner = SynchronousLearner(light or student(), BoxOracle(Painter(), NAMES), FixedInterval(), CallBudget(1, 3), update=update)
    return LearningStepper(learner, emit_oracle=emit_oracle)


def plain(steps):
    """All that a line of the stream holds but the times."""
    rows = [json.loads(json.dumps(dict(step.extra), allow_nan=False)) for step in steps]
    for row in rows:
        assert row["learning"].pop("seconds")["student"] > 0
    return [
        (row, step.detections.boxes.tolist(), step.detections.frame_index, step.detections.time_s)
        for row, step in zip(rows, steps, strict=True)
    ]


def test_a_stream_in_parts_is_the_whole_stream():
    whole: Stepper = stepper()
    expected = plain(whole.step(FRAMES))
    first = stepper()
    early = plain(first.step(FRAMES[:3])) + plain(first.step(FRAMES[3:5]))
    again = stepper(light=student(seed=4))
    again.restore(first.state())
    assert early + plain(again.step(FRAMES[5:])) == expected
    assert [row["learning"]["called"] for row, *_ in expected] == [True, False, False, True, False, False, True, False]
    assert [(index, time_s) for *_, index, time_s in expected] == [(frame.index, frame.time_s) for frame in FRAMES]


def test_the_oracles_boxes_are_emitted_on_key_frames_only_where_asked():
    truth = [oracle()(frame.image).detections for frame in FRAMES[:2]]
    own, emitted = stepper().step(FRAMES[:2]), stepper(emit_oracle=True).step(FRAMES[:2])
    assert [step.extra["boxes_of"] for step in own + emitted] == ["student", "student", "oracle", "student"]
    assert len(own[0].detections) == 0
    np.testing.assert_array_equal(emitted[0].detections.boxes, truth[0].boxes)
    np.testing.assert_array_equal(emitted[1].detections.boxes, own[1].detections.boxes)
    for step in (own[0], emitted[0]):
        key = step.extra["key"]
        np.testing.assert_allclose(key["oracle"]["boxes"], truth[0].boxes)
        assert (key["oracle"]["classes"], key["student"]["boxes"]) == (["square", "bar"], [])
    assert "key" not in own[1].extra


def test_classes_that_the_oracle_does_not_know_are_named_beside_its_boxes():
    learner = SynchronousLearner(student(), BoxOracle(Narrow(), NAMES), FixedInterval(), CallBudget(1, 3), update=Update(steps=1))
    assert LearningStepper(learner).step(FRAMES[:1])[0].extra["key"]["unknown"] == ["bar"]
    assert "unknown" not in stepper().step(FRAMES[:1])[0].extra["key"]


@pytest.mark.parametrize("state", [b"", b"torn", stepper().state()[:-40]])
def test_bytes_that_are_no_state(state):
    with pytest.raises(CheckpointError, match="left by another learner"):
        stepper().restore(state)


def test_a_state_of_another_budget():
    other = stepper()
    other.learner.chooser.budget = CallBudget(2, 3)
    with pytest.raises(ConfigError, match="cannot continue one of 2 in 3"):
        stepper().restore(other.state())
