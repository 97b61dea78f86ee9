"""Stamps of decoded frames to times; display matrices to turns."""

from fractions import Fraction

import numpy as np
import pytest

from vidkd.video.pyav_reader import end_s, in_seconds, presentation_times
from vidkd.video.reader import orientation_of_matrix

MILLISECOND = Fraction(1, 1000)


def test_rising_stamps_count_from_the_first() -> None:
    times_s = presentation_times([9000, 9040, 9200], [None, None, None], MILLISECOND, 0.04)
    np.testing.assert_allclose(times_s, [0, 0.04, 0.2], atol=1e-12)


@pytest.mark.parametrize("time_base", [Fraction(1, 12800), Fraction(1, 90000), Fraction(1001, 30000), MILLISECOND, Fraction(1, 10**9)])
@pytest.mark.parametrize("step", [1, 512, 3003])
def test_seconds_are_the_doubles_nearest_to_the_fractions(time_base: Fraction, step: int) -> None:
    ticks = [number * step + number % 3 for number in range(2000)]
    expected = [float(tick * time_base) for tick in ticks]
    assert in_seconds(ticks, time_base).tolist() == expected
    assert in_seconds(np.array(ticks), time_base).tolist() == expected


def test_stamps_that_go_back_give_way_to_decoding_stamps() -> None:
    """As an XviD file of HMDB51 comes out of FFmpeg: the last frame has no stamp of its own."""
    times_s = presentation_times([1, 4, 3, 5, 7, 6], [2, 3, 4, 5, 6, None], Fraction(1, 30), 1 / 30)
    np.testing.assert_allclose(times_s, np.arange(6) / 30, atol=1e-12)


def test_without_usable_stamps_the_frame_rate_counts() -> None:
    for pts, dts in (([None] * 3, [None] * 3), ([5, 5, 6], [None, 1, 2]), ([3, 2, 1], [7, 7, 8])):
        np.testing.assert_allclose(presentation_times(pts, dts, MILLISECOND, 0.04), [0, 0.04, 0.08], atol=1e-12)


def test_one_frame_and_none() -> None:
    assert presentation_times([700], [None], MILLISECOND, 0.04).tolist() == [0.0]
    assert presentation_times([], [], MILLISECOND, 0.04).tolist() == []


@pytest.mark.parametrize(
    ("times_s", "declared", "expected_s"), [([0, 1, 2], 3000, 5), ([0, 1, 2], None, 3), ([0, 1, 2], 10, 3), ([0], None, 0.04)]
)
def test_end_of_the_last_frame(times_s: list[float], declared: int | None, expected_s: float) -> None:
    assert end_s(np.array(times_s, float), declared, MILLISECOND, 0.04) == expected_s


IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
ONE = 65536


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "expected", "mirrored"),
    [
        (ONE, 0, 0, ONE, IMAGE, False),
        (0, ONE, -ONE, 0, np.rot90(IMAGE, -1), False),
        (-ONE, 0, 0, -ONE, np.rot90(IMAGE, 2), False),
        (0, -ONE, ONE, 0, np.rot90(IMAGE, 1), False),
        (-ONE, 0, 0, ONE, IMAGE[:, ::-1], True),
        (ONE, 0, 0, -ONE, IMAGE[::-1], True),
        (0, ONE, ONE, 0, IMAGE.transpose(1, 0, 2), True),
        (46340, 46340, -46340, 46340, IMAGE, False),  # 45 degrees: shown as stored
    ],
)
def test_display_matrix(a: int, b: int, c: int, d: int, expected: np.ndarray, mirrored: bool) -> None:
    orientation = orientation_of_matrix(np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32))
    np.testing.assert_array_equal(orientation.apply(IMAGE), expected)
    assert orientation.mirrored == mirrored
