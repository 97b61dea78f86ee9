"""Attention drawn onto a video: frame for frame, in time, inside the square that the network saw."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidkd.base.errors import VideoError
from vidkd.data.transforms import Geometry
from vidkd.inference.predict import WindowPrediction
from vidkd.report.annotate import DIM, heat
from vidkd.report.overlay import attention_at, draw, label, nearest_window, square_of, write_overlay
from vidkd.video import open_video, write_video

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


def test_the_square_in_pixels_of_the_video() -> None:
    """The video is twice as large as what the network was given."""
    assert square_of(window(), 72, 96) == (0, 12, 72, 84)


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
