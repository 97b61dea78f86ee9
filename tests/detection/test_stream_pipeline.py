"""Between frames and files: stages in threads, filters, tracks."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stream_samples import CountingStepper, content, make_video, rows, walk

from vidkd.base.errors import ConfigError, VideoError
from vidkd.detection.stream import ByteTracker, Filtered, Region, Tracked
from vidkd.detection.stream.run import Pipeline, Seen
from vidkd.detection.stream.stepper import Step, Stepper
from vidkd.runtime.detections import Detections
from vidkd.video import Frame


def frames(count: int, *, each_s: float = 0.0, error: Exception | None = None) -> Iterator[Frame]:
    for index in range(count):
        time.sleep(each_s)
        yield Frame(index=index, time_s=index / 10, image=np.full((4, 6, 3), index, np.uint8))
    if error is not None:
        raise error


class Recorder(Stepper):
    """Notes what it is given; its state is how many frames it has seen."""

    def __init__(self, *, each_s: float = 0.0, fails_at: int | None = None) -> None:
        self.batches: list[int] = []
        self._each_s, self._fails_at = each_s, fails_at

    def end(self, given, begun):
        time.sleep(self._each_s * len(given))
        if any(frame.index == self._fails_at for frame in given):
            raise VideoError("the stepper's own trouble")
        self.batches.append(len(given))
        return [Step(detections=Detections.none(frame_index=frame.index, time_s=frame.time_s)) for frame in given]

    def state(self) -> bytes:
        return str(sum(self.batches)).encode()


class Halves(Recorder):
    """The same in two halves, of which the second does the work that leaves a state."""

    staged = True

    def begin(self, given):
        return [frame.index for frame in given]

    def end(self, given, begun):
        assert begun == [frame.index for frame in given]
        return super().end(given, begun)


KINDS = pytest.mark.parametrize("kind", [Recorder, Halves])


def indices(items) -> list[object]:
    return [item.step.detections.frame_index if isinstance(item, Seen) else (item.state, item.ended) for item in items]


@KINDS
def test_frames_in_order_and_a_cut_with_the_state_after_each_part(kind):
    recorder = kind()
    pipeline = Pipeline(recorder, batch=4, part_frames=6, draw=None)
    assert indices(pipeline.along(frames(15))) == [
        *range(6), (b"6", False), *range(6, 12), (b"12", False), *range(12, 15), (b"15", True),
    ]  # fmt: skip
    assert recorder.batches == [4, 2, 4, 2, 3]
    assert pipeline.trouble is None


@KINDS
def test_a_stream_that_ends_with_a_part_has_an_empty_one_after_it(kind):
    items = indices(Pipeline(kind(), batch=3, part_frames=3, draw=None).along(frames(3)))
    assert items == [0, 1, 2, (b"3", False), (b"3", True)]


@KINDS
def test_a_source_that_breaks_off_ends_with_all_that_came_before(kind):
    pipeline = Pipeline(kind(), batch=4, part_frames=100, draw=None)
    gone = VideoError("gone")
    assert indices(pipeline.along(frames(7, error=gone))) == [*range(7), (b"7", True)]
    assert pipeline.trouble is gone


def raises_at(number: int):
    def draw(image, found):
        if found.frame_index == number:
            raise ZeroDivisionError
        return image

    return draw


@pytest.mark.parametrize(
    ("stepper", "draw", "source", "error", "seen"),
    [
        (Recorder(fails_at=5), None, frames(10_000), VideoError, 4),
        (Halves(fails_at=5), None, frames(10_000), VideoError, 4),
        (Recorder(), raises_at(6), frames(10_000), ZeroDivisionError, 6),
        (Recorder(), None, frames(8, error=MemoryError()), MemoryError, 8),
    ],
    ids=["step", "end", "draw", "decode"],
)
def test_an_error_in_any_stage_comes_after_the_frames_before_it_and_ends_all_threads(stepper, draw, source, error, seen):
    before, got = set(threading.enumerate()), []
    pipeline = Pipeline(stepper, batch=2, part_frames=100, draw=draw)
    with pytest.raises(error):
        got.extend(pipeline.along(source))
    assert indices(got) == list(range(seen))
    assert set(threading.enumerate()) <= before
    assert pipeline.trouble is None


def test_leaving_the_loop_ends_all_threads():
    before = set(threading.enumerate())
    items = Pipeline(Recorder(), batch=2, part_frames=100, draw=None).along(frames(10_000))
    next(items)
    items.close()
    assert set(threading.enumerate()) <= before


def test_stages_work_at_the_same_time():
    """Each takes 8 ms a frame; one after the other they would take three times as long as together."""
    pipeline = Pipeline(Recorder(each_s=0.008), batch=2, part_frames=100, draw=lambda image, _: time.sleep(0.008) or image)
    start = time.perf_counter()
    assert len(list(pipeline.along(frames(40, each_s=0.008)))) == 41
    took_s, seconds = time.perf_counter() - start, pipeline.seconds()
    assert took_s < 0.75 * sum(seconds.values())
    assert all(0.3 < seconds[stage] < 1.2 * took_s for stage in ("decode", "infer", "draw"))


def test_what_comes_next_is_begun_before_what_came_before_is_ended():
    """The second half of a batch waits until the next one has begun, which would never be if one waited for the other."""
    begun = [threading.Event() for _ in range(5)]

    class Waits(Halves):
        def begin(self, given):
            begun[given[0].index // 2].set()
            return super().begin(given)

        def end(self, given, indices_begun):
            assert begun[min(given[0].index // 2 + 1, 4)].wait(5)
            return super().end(given, indices_begun)

    pipeline = Pipeline(Waits(), batch=2, part_frames=4, draw=None)
    assert [item for item in indices(pipeline.along(frames(10))) if isinstance(item, int)] == list(range(10))
    assert pipeline.seconds().keys() == {"decode", "infer", "boxes", "draw", "encode", "total"}


FOUND = Detections(boxes=[[0, 0, 20, 20], [30, 10, 50, 30], [80, 40, 100, 60]], scores=[0.9, 0.5, 0.3], labels=[0, 1, 0])


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


def kept(region=None, labels=None) -> list[int]:
    found = Filtered(Stepper(), labels, region).changed(FOUND, 100, 60)
    return [FOUND.scores.tolist().index(score) for score in found.scores]


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
