"""Numbers of tracks: kept along a motion, behind a gap, between crossing objects, and over an interruption."""

from pathlib import Path

import numpy as np
import pytest
from stream_samples import CountingStepper, content, make_video, rows, walk

from vidkd.detection.stream import ByteTracker, Tracked
from vidkd.runtime.detections import Detections

pytest.importorskip("scipy")


def found(*boxes: tuple[float, ...], scores=None, labels=None) -> Detections:
    """Boxes 20 wide and 40 high by the place of their upper left corner."""
    corners = [[x, y, x + 20, y + 40] for x, y in boxes]
    return Detections(boxes=corners, scores=scores or [0.9] * len(boxes), labels=labels or [0] * len(boxes))


def along(tracker: ByteTracker, *frames: Detections) -> list[list[int]]:
    return [tracker.update(frame).tolist() for frame in frames]


def test_a_track_gets_its_number_when_it_is_seen_again():
    moving = [found((3 * t, 50)) for t in range(6)]
    assert along(ByteTracker(fps=25), *moving) == [[-1], [1], [1], [1], [1], [1]]


def test_two_that_cross_keep_their_numbers_and_the_order_of_boxes_does_not_matter():
    tracker, numbers = ByteTracker(fps=25), []
    for t in range(40):
        left, right = (5.0 * t, 50.0), (200 - 5.0 * t, 62.0)
        ids = tracker.update(found(*((left, right) if t % 2 else (right, left)))).tolist()
        numbers.append(tuple(ids if t % 2 else ids[::-1]))
    assert set(numbers[1:]) == {numbers[-1]}
    assert sorted(numbers[-1]) == [1, 2]


@pytest.mark.parametrize(("gap", "number"), [(8, 1), (40, 2)])
def test_a_gap_is_bridged_for_a_second(gap, number):
    """25 frames a second: the motion goes on while nothing is seen."""
    frames = [found((2.0 * t, 50)) if not 20 <= t < 20 + gap else found() for t in range(80)]
    assert along(ByteTracker(fps=25), *frames)[-1] == [number]


def test_a_weak_box_carries_a_track_on_and_starts_none():
    frames = [found((10, 10), (200, 10), scores=[0.9, 0.2])] + [found((10, 10), (200, 10), scores=[0.2, 0.2]) for _ in range(4)]
    assert along(ByteTracker(fps=25), *frames[:1], frames[0], *frames[1:])[-1] == [1, -1]


def test_a_box_below_the_score_of_a_start_gets_no_number():
    assert along(ByteTracker(fps=25), *[found((10, 10), (200, 10), scores=[0.3, 0.4]) for _ in range(3)])[-1] == [-1, 1]


def test_one_class_does_not_go_on_as_another():
    frames = [found((10, 10)), found((10, 10)), found((10, 10), labels=[1]), found((10, 10), labels=[1])]
    assert along(ByteTracker(fps=25), *frames) == [[-1], [1], [-1], [2]]


def test_memory_does_not_grow():
    tracker = ByteTracker(fps=25)
    for t in range(400):
        tracker.update(found((37.0 * t % 500, 13.0 * t % 300), (91.0 * t % 400, 7.0 * t % 200)))
    assert len(tracker.state()["ids"]) < 2 * 25 + 10


def test_a_state_goes_on_exactly():
    chance = np.random.default_rng(4)
    frames = [found(*(chance.uniform(0, 8, 2) + place for place in ([3.0 * t, 40], [150 - 2.0 * t, 80]))) for t in range(60)]
    whole, halves = ByteTracker(fps=25), ByteTracker(fps=25)
    expected = along(whole, *frames)
    before = along(halves, *frames[:31])
    after = ByteTracker(fps=25)
    after.restore(halves.state())
    assert before + along(after, *frames[31:]) == expected
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, after.state()[name])


def test_tracks_and_what_is_inside_go_on_after_a_stop(tmp_path: Path):
    source = make_video(tmp_path / "v.mp4", 40)

    def tracked() -> Tracked:
        return Tracked(CountingStepper(), ByteTracker(fps=20))

    walk(source, tmp_path / "whole", stepper=tracked(), formats=("jsonl", "mot"))
    while walk(source, tmp_path / "out", stepper=tracked(), formats=("jsonl", "mot"), stop=lambda: True)["status"] == "stopped":
        pass
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    numbers = [line["track_ids"] for line in rows(tmp_path / "out")]
    assert numbers[0] == [-1]
    assert all(len(ids) == 1 for ids in numbers)
    assert max(ids[0] for ids in numbers) < 8
