"""Predictions drawn onto videos: attention in the square that the network saw, the panel of what is expected, boxes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidkd.base.errors import VideoError
from vidkd.data.transforms import Geometry
from vidkd.inference.anticipate import Decision
from vidkd.inference.predict import WindowPrediction
from vidkd.report import overlay
from vidkd.report.annotate import DIM, draw_boxes, heat
from vidkd.report.overlay import (
    MARK,
    PAST_S,
    WHITE,
    OverlayWriter,
    Panel,
    attention_at,
    colour_of,
    draw,
    label,
    nearest_window,
    panel_height,
    shaded,
    square_of,
    write_overlay,
)
from vidkd.runtime.detections import Detections
from vidkd.video import Frame, open_video, write_video

CLASSES = ("waves", "walks")


def window(start_s: float = 0.0, end_s: float = 1.0, best: int = 0, **over: Any) -> WindowPrediction:
    """A window of frames 0, 2, 4 and 6 with two maps; the network saw the middle 36 of 36x48 pixels."""
    maps = np.full((2, 3, 3), 0.01)
    maps[0, 0, 0] = maps[1, 2, 2] = 0.92
    fields = {
        "start_s": start_s,
        "end_s": end_s,
        "frames": np.array([0, 2, 4, 6]),
        "probabilities": np.array([0.75, 0.25])[:: 1 if best == 0 else -1],
        "attention": maps,
        "geometry": Geometry(top=0, left=6, side=36, size=32),
        "size": (36, 48),
    }
    return WindowPrediction(**{**fields, **over})


def grey(height: int = 72, width: int = 96, level: int = 100) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_heat_lies_in_the_square_and_the_rest_is_dimmed() -> None:
    image, square = grey(), (10, 20, 50, 60)
    maps = np.full((4, 4), 0.02)
    maps[1, 2] = 0.7
    drawn = heat(image, maps, square)
    outside = np.ones(image.shape[:2], bool)
    outside[10:50, 20:60] = False
    assert (drawn[outside] == round(100 * DIM)).all()
    inside = drawn[10:50, 20:60].astype(int)
    hottest = inside[15, 25]
    assert hottest[0] > hottest[1] + 50, "red where the map has its maximum"
    assert hottest[0] > hottest[2] + 50
    assert (inside[30:, :10] == 100).all(), "transparent where attention is below even"
    assert (image == 100).all(), "the frame itself is left alone"


def test_the_map_of_a_frame() -> None:
    """Two maps over frames 0 to 6: the first stands for the first half; frames before and after take the nearest."""
    found = [int(attention_at(window(), frame).argmax()) for frame in range(-1, 9)]
    assert found == [0, 0, 0, 0, 8, 8, 8, 8, 8, 8]
    held = window(frames=np.array([0, 0, 0, 0]))
    assert attention_at(held, 3).argmax() == 0


def test_the_window_whose_middle_is_nearest() -> None:
    windows = [window(0, 1), window(0.5, 1.5), window(1, 2)]
    assert [windows.index(nearest_window(windows, time)) for time in (0.0, 0.74, 0.76, 1.24, 1.26, 9.0)] == [0, 0, 1, 1, 2, 2]


def test_the_label_names_class_and_probability() -> None:
    image = grey()
    named = label(image, "waves 0.75")
    changed = np.argwhere((named != image).any(-1))
    assert changed.min(0).tolist() == [0, 0]
    assert changed.max(0)[0] < 24, "at the top left"
    assert (named.max(), named.min()) == (255, 0), "white on black"
    assert (label(image, "walks 0.75") != named).any()
    assert (image == 100).all()


def test_a_frame_shows_heat_and_the_best_class() -> None:
    image = grey()
    first, second = window(), window(best=1)
    assert (draw(image, first, 0, CLASSES) != draw(image, second, 0, CLASSES)).any()
    expected = label(heat(image, first.attention[0], (0, 12, 72, 84)), "waves 0.75")  # type: ignore[index]
    np.testing.assert_array_equal(draw(image, first, 0, CLASSES), expected)
    np.testing.assert_array_equal(draw(image, window(attention=None), 0, CLASSES), label(image, "waves 0.75"))


@pytest.mark.parametrize("size", [(72, 96), (45, 61)])
def test_frames_times_and_size_are_those_of_the_video(tmp_path: Path, size: tuple[int, int]) -> None:
    """A variable frame rate; odd sides too."""
    times = np.cumsum([0, *np.tile([0.04, 0.1], 8)])[:16]
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, [grey(*size, level=40 + 8 * t) for t in range(16)], fps=25, times_s=times.tolist(), crf=4)
    windows = [window(0.0, 0.4), window(0.4, 1.1, best=1, frames=np.array([6, 8, 10, 12]))]
    assert write_overlay(source, out, iter(windows), CLASSES) == 16
    with open_video(source) as before, open_video(out) as after:
        assert (after.info.width, after.info.height, len(after)) == (size[1], size[0], 16)
        np.testing.assert_allclose(after.timestamps_s, before.timestamps_s, atol=2e-3)
        np.testing.assert_allclose(before.timestamps_s, times, atol=2e-3)
        frames, drawn = (reader.frames_at_indices(range(16)).astype(int) for reader in (before, after))
    top, left, bottom, _ = square_of(windows[0], *size)
    assert (top, bottom) == (0, size[0])
    side = drawn[:, size[0] // 2 :, : left - 2].mean((1, 2, 3))
    np.testing.assert_allclose(side, DIM * frames.mean((1, 2, 3)), atol=2.5)
    shown = [nearest_window(windows, time).probabilities.argmax() for time in times]
    for number in (0, 5, 15):
        expected = draw(frames[number].astype(np.uint8), windows[shown[number]], number, CLASSES).astype(int)
        assert np.abs(expected - drawn[number]).mean() < 6, "what is drawn belongs to the frame"


def test_the_video_itself_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    write_video(source, [grey()] * 4, fps=25)
    before = source.read_bytes()
    (tmp_path / "link.mp4").symlink_to(source)
    for destination in (source, tmp_path / "link.mp4", tmp_path / "." / "in.mp4"):
        with pytest.raises(VideoError, match="would replace the video"):
            write_overlay(source, destination, [window()], CLASSES)
    assert source.read_bytes() == before


NEXT = ("waves", "walks", "falls")


def decision(time_s: float, best: int = 0, gap_s: float = 1.0) -> Decision:
    """0.8 for one class, 0.1 for each of the others."""
    probabilities = np.full(3, 0.1)
    probabilities[best] = 0.8
    return Decision(time_s, gap_s, 0, 9, probabilities, {}, False)


def panel(**over: Any) -> Panel:
    return Panel(960, 232, NEXT, **{"step_s": 0.5, "top": 1, **over})


STRIP_ROWS = slice(0, round(3.0 * 232 / 5.5) + 1)
LEGEND_ROWS = slice(STRIP_ROWS.stop, 232)


def columns(image: np.ndarray, colour: Any) -> np.ndarray:
    """The columns of the strip (above, in the right half) that hold a colour."""
    return np.flatnonzero((image[STRIP_ROWS, 480:] == colour).all(-1).any(0)) + 480


def rows(image: np.ndarray, colour: Any) -> np.ndarray:
    return np.flatnonzero((image[STRIP_ROWS, 480:] == colour).all(-1).any(1))


def named(image: np.ndarray, k: int) -> bool:
    """Whether a class is in the legend (below, in the right half)."""
    return bool((image[LEGEND_ROWS, 480:] == colour_of(k)).all(-1).any())


def place(time_s: float, now_s: float, gap_s: float = 1.0) -> int:
    """The column of a time: the strip lies between 50 % and 98 % of the width and ends a step after the gap."""
    return round(480 + (time_s - (now_s - PAST_S)) / (PAST_S + gap_s + 0.5) * (941 - 480))


def test_a_decision_is_a_column_at_the_time_of_which_it_speaks() -> None:
    shown = panel()
    shown.add([decision(4.0)])
    found = columns(shown.draw(4.2), shaded(colour_of(0), 0.8))
    assert abs(found.min() - place(5.0, 4.2)) <= 1
    assert abs(found.max() + 1 - place(5.5, 4.2)) <= 1


def test_the_marks_are_now_and_the_time_of_the_decision() -> None:
    shown = panel()
    shown.add([decision(3.0), decision(3.5)])
    image = shown.draw(5.0)
    assert abs(columns(image, WHITE).mean() - place(5.0, 5.0)) <= 1
    assert abs(columns(image, MARK).mean() - place(3.5, 5.0)) <= 1


def test_a_column_is_as_high_as_the_probability() -> None:
    shown = panel(top=3)
    shown.add([decision(4.0, best=1)])
    image = shown.draw(4.1)
    found = [rows(image, shaded(colour_of(k), p)) for k, p in enumerate((0.1, 0.8, 0.1))]
    heights = [len(each) for each in found]
    assert heights[1] / sum(heights) == pytest.approx(0.8, abs=0.02)
    assert found[0].min() > found[1].max(), "stacked in the order of the classes"
    assert found[1].min() > found[2].max()


def test_classes_in_the_strip_are_named_though_they_are_not_among_the_best_any_more() -> None:
    shown = panel()
    shown.add([decision(1.0, best=2), decision(4.0, best=1)])
    assert [named(shown.draw(4.1), k) for k in range(3)] == [False, True, True]
    assert [named(shown.draw(8.0), k) for k in range(3)] == [False, True, True]
    shown.add([decision(11.0, best=0)])
    assert [named(shown.draw(11.1), k) for k in range(3)] == [True, True, False], "what has left the strip is not named"


def test_the_legend_names_the_largest_and_says_how_many_more_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(overlay, "write", lambda image, text, x, base, *_: written.append(text) if x >= 480 else None)
    classes = [f"a class of a long name {k}" for k in range(20)]
    shown = Panel(960, 232, classes, step_s=0.5, top=1)
    for k in range(20):
        probabilities = np.full(20, (1 - 0.04 * k - 0.2) / 19)
        probabilities[k] = 0.04 * k + 0.2
        shown.add([Decision(k * 0.4, 0.0, 0, 9, probabilities, {}, False)])
    shown.draw(7.7)
    *names, more, _foot = written
    assert names == classes[20 - len(names) :], "the surest, in the order of the classes"
    assert 1 <= len(names) <= 2
    assert more == f"+ {20 - len(names)} more"
    written.clear()
    few = Panel(960, 232, ["a", "b", "c"], step_s=0.5, top=3)
    few.add([decision(1.0)])
    few.draw(1.2)
    assert written[:-1] == ["a", "b", "c"]


def test_what_lies_behind_the_strip_is_forgotten() -> None:
    shown = panel()
    for k in range(4000):
        shown.add([decision(k / 2, best=k % 3)])
        if k % 10 == 0:
            shown.draw(k / 2 + 0.1)
            assert len(shown) <= 2 * (PAST_S + 1) + 12
    shown.draw(5000.0)
    assert len(shown) == 1, "the last decision stays in force"


def test_frames_and_times_are_those_of_the_video(tmp_path: Path) -> None:
    """A small video of variable rate: enlarged eight times, its pixels above the panel, its times kept."""
    times_s = np.cumsum([0, *np.tile([0.04, 0.1], 6)])[:12]
    with OverlayWriter(tmp_path / "o.mp4", NEXT, fps=15, step_s=0.2) as writer:
        for index, time_s in enumerate(times_s):
            image = np.full((48, 60, 3), 20 * index, np.uint8)
            writer.write(Frame(index=index, time_s=float(time_s), image=image), [decision(float(time_s))] if index % 3 == 0 else [])
    assert writer.seconds > 0
    with open_video(tmp_path / "o.mp4") as video:
        assert (video.info.width, video.info.height, len(video)) == (480, 8 * 48 + panel_height(8 * 48, 480), 12)
        np.testing.assert_allclose(video.timestamps_s, times_s, atol=1e-3)
        frames = video.frames_at_indices(range(12)).astype(int)
    for index in range(12):
        assert np.abs(frames[index, : 8 * 48] - 20 * index).max() <= 4
    assert np.ptp(frames[0, 8 * 48 :]) > 100, "there is a panel"


def drawn(*boxes, scores=None, labels=None, tracks=None, size=(60, 80)) -> np.ndarray:
    count = len(boxes)
    found = Detections(boxes=boxes, scores=scores or [0.5] * count, labels=labels or [0] * count, track_ids=tracks)
    return draw_boxes(np.zeros((*size, 3), np.uint8), found, ("person", "car"))


def colours(image: np.ndarray, row: int, column: int) -> tuple[int, ...]:
    return tuple(image[row, column].tolist())


def test_the_edge_of_a_box_is_drawn_on_its_own_pixels_and_nothing_outside():
    image = drawn([20, 30, 50, 55])
    inside = image[31:54, 21:49]
    assert not inside.any()
    for row, column in ((30, 20), (30, 49), (54, 20), (54, 49), (40, 20), (40, 49), (54, 35)):
        assert any(colours(image, row, column))
    assert not image[55:].any()
    assert not image[30:, 50:].any()


def test_classes_differ_in_colour_and_tracks_do():
    edge = (54, 35)
    by_class = [colours(drawn([20, 30, 50, 55], labels=[label]), *edge) for label in (0, 1)]
    assert by_class[0] != by_class[1]
    by_track = [colours(drawn([20, 30, 50, 55], tracks=[track]), *edge) for track in (3, 4, -1)]
    assert len(set(by_track)) == 3
    assert len(set(by_track[2])) == 1, "what has no track next to those that have one is grey"
    assert colours(drawn([20, 30, 50, 55], tracks=None), *edge) == by_class[0]


def test_the_better_box_lies_on_top():
    boxes = [[20, 30, 50, 55], [20, 30, 50, 55]]
    assert colours(drawn(*boxes, labels=[0, 1], scores=[0.9, 0.3]), 54, 35) == colours(drawn(boxes[0]), 54, 35)


def test_the_words_stay_inside_the_frame():
    image = drawn([60, 0, 80, 20], size=(60, 80))
    assert image[:12].any(2).sum() > 200
    assert image.shape == (60, 80, 3)


@pytest.mark.parametrize(("size", "expected"), [((59, 80), (60, 80)), ((60, 81), (60, 82)), ((61, 61), (62, 62)), ((60, 80), (60, 80))])
def test_odd_sizes_get_a_row_or_column(size, expected):
    image = draw_boxes(np.full((*size, 3), 7, np.uint8), Detections.none(), ())
    assert image.shape == (*expected, 3)
    assert (image == 7).all()


def test_letters_are_dark_on_a_bright_ground_and_bright_on_a_dark_one():
    for number in range(6):
        found = Detections(boxes=[[20, 30, 70, 55]], scores=[0.5], labels=[number])
        image = draw_boxes(np.full((60, 80, 3), 90, np.uint8), found, [f"class {k}" for k in range(6)])
        ground = image[54, 35].astype(float)
        letters = image[:30].reshape(-1, 3).astype(float)
        furthest = letters[np.abs(letters - ground).sum(1).argmax()]
        assert np.abs(furthest.mean() - ground @ (0.299, 0.587, 0.114)) > 90
