import numpy as np
import pytest

from vidkd.base.errors import ConfigError
from vidkd.detection.stream import BoxFilter, Filtered, Region, labels_of
from vidkd.detection.stream.stepper import DetectorStepper
from vidkd.runtime.detections import Detections
from vidkd.video import Frame

FOUND = Detections(boxes=[[0, 0, 20, 20], [30, 10, 50, 30], [80, 40, 100, 60]], scores=[0.9, 0.5, 0.3], labels=[0, 1, 0])


def kept(**settings) -> list[int]:
    found = BoxFilter(**settings)(FOUND, width=100, height=60)
    return [FOUND.scores.tolist().index(score) for score in found.scores]


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("0,0,100,60", [0, 1, 2]),
        ("0,0,1,1", [0, 1, 2]),
        ("10,10,40.5,30", [0, 1]),  # centres (10, 10) on the edge, (40, 20)
        ("10.5,0,100,60", [1, 2]),
        ("0,0,40,60", [0]),  # the right edge is outside
        ("0.5,0.5,1,1", [2]),
        ("0,0,500,500", [0, 1, 2]),
    ],
)
def test_centres_in_a_region_of_pixels_or_parts(region, expected):
    assert kept(region=Region.parse(region)) == expected


def test_classes_alone_and_with_a_region():
    assert kept() == [0, 1, 2]
    assert kept(labels=frozenset({0})) == [0, 2]
    assert kept(labels=frozenset({0}), region=Region.parse("0.5,0,1,1")) == [2]
    assert kept(labels=frozenset()) == []


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "0,0,0,1", "5,5,4,9", "-1,0,5,5", "0,0,nan,1", "0,0,inf,1"])
def test_what_is_no_region(text):
    with pytest.raises(ConfigError, match="not a region"):
        Region.parse(text)


def test_a_region_outside_names_the_size_of_the_frame():
    with pytest.raises(ConfigError, match="the region 100,0,120,9 lies outside") as caught:
        Region.parse("100,0,120,9").pixels(100, 60)
    assert caught.value.lines == {"frame": "100 x 60"}


def test_a_region_is_written_as_it_was_read():
    assert str(Region.parse("0.25, 0,1,0.5")) == "0.25,0,1,0.5"


def test_classes_by_name():
    assert labels_of(["car", "person"], ["person", "bus", "car"]) == {0, 2}
    with pytest.raises(ConfigError) as caught:
        labels_of(["car", "persn"], ["person", "bus", "car"])
    assert caught.value.what == "unknown class 'persn'"
    assert caught.value.lines["did you mean"] == "person"


def test_a_filtered_stepper_keeps_the_rest_of_the_step():
    class Detector:
        class_names = ("a", "b")

        def __call__(self, frames):
            return [FOUND] * len(frames)

    stepper = Filtered(DetectorStepper(Detector()), BoxFilter(labels=frozenset({1})))
    frames = [Frame(index=k, time_s=k / 2, image=np.zeros((60, 100, 3), np.uint8)) for k in (3, 4)]
    steps = stepper.step(frames)
    assert [(step.detections.frame_index, step.detections.time_s) for step in steps] == [(3, 1.5), (4, 2.0)]
    assert [step.detections.labels.tolist() for step in steps] == [[1], [1]]
    assert stepper.state() == b""
