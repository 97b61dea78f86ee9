import dataclasses
import json

import numpy as np
import pytest
import torch
from online_samples import NAMES, SIDE, Narrow, Painter, detector, frame_with, oracle, stream, student

from vidkd.base.errors import ConfigError
from vidkd.detection.online import BoxOracle, HeadOracle, Student, SynchronousLearner, Update
from vidkd.detection.online.learner import LearningStepper, agreement_of, key_frame_of
from vidkd.detection.policies import CallBudget, FixedInterval
from vidkd.detection.policies.policy import ObservationBuilder, small_grey
from vidkd.detection.stream.stepper import Stepper
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.detections import Detections
from vidkd.video import Frame

FRAME = frame_with(square=(10, 20), bar=(30, 50))


def test_one_pass_gives_what_the_detector_gives_and_the_deep_features_behind_it():
    light = student(score_threshold=0.005)
    wide = np.concatenate([FRAME, FRAME[:, ::-1]], axis=1)
    look = light.detect(wide, frame_index=7, time_s=0.5)
    (plain,) = light.detector(wide[None])
    assert len(plain) > 0
    np.testing.assert_array_equal(look.detections.boxes, plain.boxes)
    np.testing.assert_array_equal(look.detections.scores, plain.scores)
    assert (look.detections.frame_index, look.detections.time_s) == (7, 0.5)
    images, letterbox = light.detector.prepare(wide[None])
    with torch.no_grad():
        heads, layers = light.net.features(images, light.net.deep_layers)
    assert torch.equal(look.heads[0], heads[0])
    np.testing.assert_allclose(look.features, layers[3].mean((0, 2, 3)), rtol=1e-5)
    assert look.features.shape == (light.feature_count,) == (24,)
    assert look.letterbox == letterbox
    np.testing.assert_array_equal(light.inputs([look.image]), images)


def test_an_oracle_of_boxes_speaks_the_students_classes_and_says_once_what_it_leaves_out(caplog):
    asked = oracle()
    found = asked(FRAME).detections
    assert [NAMES[label] for label in found.labels] == ["square", "bar"]
    np.testing.assert_array_equal(found.boxes, [[10, 20, 24, 34], [30, 50, 58, 60]])
    asked(FRAME)
    assert [record.getMessage() for record in caplog.records] == ["classes that only the oracle knows are left out: cloud"]


def test_what_only_the_student_knows_is_neither_judged_nor_unlearned(caplog):
    asked = BoxOracle(Narrow(), NAMES)
    assert [record.getMessage() for record in caplog.records] == ["classes that only the student knows are left out: bar"]
    boxes = [[10, 20, 24, 34], [30, 50, 58, 60], [0, 0, 28, 10]]
    found = Detections(boxes=boxes, scores=[0.9, 0.8, 0.3], labels=[0, 1, 1])
    look = dataclasses.replace(student().detect(FRAME), detections=found)
    assert 1 - agreement_of(look, asked(FRAME)).f1 == 0
    key = key_frame_of(look, asked(FRAME))
    assert key.labels.tolist() == [0, 1]
    np.testing.assert_allclose(key.scores, [0.9, 0.8])
    np.testing.assert_allclose(key.boxes, boxes[:2])
    assert key_frame_of(look, asked(FRAME), score=0.2).labels.tolist() == [0, 1, 1]
    all_known = oracle()(FRAME)
    assert all_known.known is None
    assert key_frame_of(look, all_known).labels.tolist() == all_known.detections.labels.tolist() == [0, 1]
    assert 1 - agreement_of(look, all_known, score=0.2).f1 > 0, "the third box is wrong to who knows bars"


def test_an_oracle_of_heads_gives_the_networks_raw_output():
    heavy = detector(seed=5)
    answer = HeadOracle(heavy, detector())(FRAME)
    with torch.no_grad():
        raw = heavy.net(heavy.prepare(FRAME[None])[0])
    np.testing.assert_array_equal(answer.heads[0], raw[0][0])


def other_detector(**change):
    net = detector().net
    config = net.config.with_input_size(*change["input_size"]) if "input_size" in change else net.config
    config = config.with_classes(3) if "classes" in change else config
    return DarknetDetector(Darknet(config), change.get("names", NAMES), resize=change.get("resize", "darknet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size": (96, 64)}, "input sizes differ"),
        ({"resize": "stretch"}, "ways of resizing differ"),
        ({"names": ("bar", "square")}, "classes differ in order or number"),
        ({"classes": 3, "names": (*NAMES, "cloud")}, "classes differ in order or number"),
    ],
)
def test_heads_that_do_not_pair(change, message):
    with pytest.raises(ConfigError, match=message):
        HeadOracle(other_detector(**change), detector())


def test_a_key_frame_holds_boxes_in_pixels_of_the_input_and_an_image_of_its_own():
    light = student()
    double = FRAME.repeat(2, 0).repeat(2, 1)
    look = light.detect(double, frame_index=3)
    key = key_frame_of(look, oracle()(double))
    np.testing.assert_array_equal(key.boxes, [[10, 20, 24, 34], [30, 50, 58, 60]])
    assert (key.frame_index, key.labels.tolist()) == (3, [0, 1])
    same_size = FRAME.copy()
    key = key_frame_of(light.detect(same_size), oracle()(same_size))
    same_size[:] = 0
    np.testing.assert_array_equal(key.image, FRAME)


def test_weak_boxes_are_counted_and_not_shown(monkeypatch):
    monkeypatch.setattr("vidkd.detection.online.student.FAINTEST", 0.005)  # an untrained student has none but weak ones
    loose = Student(detector(score_threshold=0.005))
    everything = loose.detect(FRAME)
    assert everything.scores.tolist() == everything.detections.scores.tolist()
    middle = float(np.median(everything.scores))
    strict = Student(detector(score_threshold=middle)).detect(FRAME)
    np.testing.assert_array_equal(strict.scores, everything.scores)
    above = everything.detections.select(everything.scores >= middle)
    np.testing.assert_array_equal(strict.detections.boxes, above.boxes)
    np.testing.assert_array_equal(strict.detections.scores, above.scores)
    assert 0 < len(strict.detections) < len(strict.scores)


def test_small_grey_leaves_little_of_noise():
    scene = np.repeat(np.linspace(40, 200, 768, dtype=np.uint8)[None, :, None], 576, 0).repeat(3, 2)
    noise = np.random.default_rng(0).normal(0, 10, scene.shape)
    noisy = np.clip(np.rint(scene + noise), 0, 255).astype(np.uint8)
    apart = small_grey(noisy).astype(float) - small_grey(scene)
    assert np.abs(apart).mean() < 1.5
    assert abs(apart.mean()) < 0.4


def test_observations_count_from_the_last_key_frame():
    light, watcher = student(), ObservationBuilder()
    frames = [np.full((SIDE, SIDE, 3), 10 * t, np.uint8) for t in range(6)]
    seen = []
    for index, frame in enumerate(frames):
        observation = watcher.observe(frame, light.detect(frame, frame_index=index))
        seen.append((observation.frames_since, round(observation.motion * 255), observation.last_loss))
        if index in (1, 3):
            watcher.called(observation)
        if index == 4:
            watcher.answered(2.5)
            watcher.answered(float("nan"))
    assert seen == [(0, 0, 0), (1, 0, 0), (1, 10, 0), (2, 20, 0), (1, 10, 0), (2, 20, 2.5)]


FRAMES = [Frame(index=50 + t, time_s=t / 25, image=image) for t, image in enumerate(stream(8))]


def stepper(emit_oracle=False, light=None) -> LearningStepper:
    update = Update(trains="all", lr=1e-2, steps=3)
    learner = SynchronousLearner(light or student(), BoxOracle(Painter(), NAMES), FixedInterval(), CallBudget(1, 3), update=update)
    return LearningStepper(learner, emit_oracle=emit_oracle)


def steps(stepper, frames):
    return stepper.end(frames, stepper.begin(frames))


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
    expected = plain(steps(whole, FRAMES))
    first = stepper()
    early = plain(steps(first, FRAMES[:3])) + plain(steps(first, FRAMES[3:5]))
    again = stepper(light=student(seed=4))
    again.restore(first.state())
    assert early + plain(steps(again, FRAMES[5:])) == expected
    assert [row["learning"]["called"] for row, *_ in expected] == [True, False, False, True, False, False, True, False]
    assert [(index, time_s) for *_, index, time_s in expected] == [(frame.index, frame.time_s) for frame in FRAMES]


def test_the_oracles_boxes_are_emitted_on_key_frames_only_where_asked():
    truth = [oracle()(frame.image).detections for frame in FRAMES[:2]]
    own, emitted = steps(stepper(), FRAMES[:2]), steps(stepper(emit_oracle=True), FRAMES[:2])
    assert [step.extra["boxes_of"] for step in own + emitted] == ["student", "student", "oracle", "student"]
    assert len(own[0].detections) == 0
    np.testing.assert_array_equal(emitted[0].detections.boxes, truth[0].boxes)
    np.testing.assert_array_equal(emitted[1].detections.boxes, own[1].detections.boxes)
    for step in (own[0], emitted[0]):
        key = step.extra["key"]
        np.testing.assert_allclose(key["oracle"]["boxes"], truth[0].boxes)
        assert (key["oracle"]["classes"], key["student"]["boxes"]) == (["square", "bar"], [])
    assert "key" not in own[1].extra


def test_classes_that_the_oracle_does_not_know_are_named_next_to_its_boxes():
    learner = SynchronousLearner(student(), BoxOracle(Narrow(), NAMES), FixedInterval(), CallBudget(1, 3), update=Update(steps=1))
    assert steps(LearningStepper(learner), FRAMES[:1])[0].extra["key"]["unknown"] == ["bar"]
    assert "unknown" not in steps(stepper(), FRAMES[:1])[0].extra["key"]
