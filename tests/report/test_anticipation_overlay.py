"""The panel below a running video: what it shows when, and that the video itself is as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidkd.inference.anticipate import Decision
from vidkd.report import anticipation_overlay
from vidkd.report.anticipation_overlay import MARK, PAST_S, WHITE, OverlayWriter, Panel, colour_of, panel_height, shaded
from vidkd.video import Frame, open_video

CLASSES = ("waves", "walks", "falls")


def decision(time_s: float, best: int = 0, gap_s: float = 1.0) -> Decision:
    """0.8 for one class, 0.1 for each of the others."""
    probabilities = np.full(3, 0.1)
    probabilities[best] = 0.8
    return Decision(time_s, gap_s, 0, 9, probabilities, {}, False)


def panel(**over: Any) -> Panel:
    return Panel(960, 232, CLASSES, **{"step_s": 0.5, "top": 1, **over})


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
    monkeypatch.setattr(anticipation_overlay, "write", lambda image, text, x, base, *_: written.append(text) if x >= 480 else None)
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


def test_the_best_class_has_the_longest_bar() -> None:
    shown = panel(top=3)
    shown.add([decision(4.0, best=2)])
    left = shown.draw(4.1)[:, :470]
    lengths = [(left == colour_of(k)).all(-1).sum(1).max() for k in range(3)]
    assert lengths[2] > 3 * max(lengths[:2])
    assert min(lengths) > 0


def test_what_lies_behind_the_strip_is_forgotten() -> None:
    shown = panel()
    for k in range(4000):
        shown.add([decision(k / 2, best=k % 3)])
        if k % 10 == 0:
            shown.draw(k / 2 + 0.1)
            assert len(shown) <= 2 * (PAST_S + 1) + 12
    shown.draw(5000.0)
    assert len(shown) == 1, "the last decision stays in force"


@pytest.mark.parametrize(("height", "width"), [(48, 64), (45, 61), (480, 640), (1080, 1920)])
def test_the_whole_has_an_even_height(height: int, width: int) -> None:
    assert (height + panel_height(height, width)) % 2 == 0
    assert panel_height(height, width) == pytest.approx(0.24 * width, abs=1.5)


def test_frames_and_times_are_those_of_the_video(tmp_path: Path) -> None:
    """A small video of variable rate: enlarged eight times, its pixels above the panel, its times kept."""
    times_s = np.cumsum([0, *np.tile([0.04, 0.1], 6)])[:12]
    with OverlayWriter(tmp_path / "o.mp4", CLASSES, fps=15, step_s=0.2) as writer:
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
