import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidkd.runtime.letterbox import RESIZE_MODES, Letterbox


def place(box: Letterbox) -> tuple[int, int, int, int]:
    return box.width, box.height, box.left, box.top


@pytest.mark.parametrize(
    ("source", "target", "mode", "expected"),
    [
        ((768, 576), (416, 416), "centre", (416, 312, 0, 52)),
        ((768, 576), (416, 416), "darknet", (416, 312, 0, 52)),
        ((768, 576), (416, 416), "top_left", (416, 312, 0, 0)),
        ((768, 576), (416, 416), "stretch", (416, 416, 0, 0)),
        ((854, 480), (320, 320), "centre", (320, 180, 0, 70)),  # 179.86 rows: rounded, or rounded down
        ((854, 480), (320, 320), "darknet", (320, 179, 0, 70)),  # 141 rows of padding: 70 above, 71 below
        ((854, 480), (320, 320), "top_left", (320, 179, 0, 0)),
        ((480, 854), (320, 320), "darknet", (179, 320, 70, 0)),
        ((4, 6), (2, 4), "centre", (2, 3, 0, 0)),
        ((2, 5), (9, 1), "centre", (1, 1, 4, 0)),  # 0.4 columns: at least one
        ((3, 3), (3, 3), "centre", (3, 3, 0, 0)),
    ],
)
def test_where_the_picture_lies(source, target, mode, expected):
    assert place(Letterbox.fit(source, target, mode)) == expected


@given(
    source=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    target=st.tuples(st.integers(1, 1300), st.integers(1, 1300)),
    mode=st.sampled_from(RESIZE_MODES),
)
@settings(max_examples=200, deadline=None)
def test_the_picture_is_inside_and_touches_two_sides(source, target, mode):
    box = Letterbox.fit(source, target, mode)
    assert 0 <= box.left <= box.left + box.width <= box.input_width
    assert 0 <= box.top <= box.top + box.height <= box.input_height
    assert box.width == target[0] or box.height == target[1]
    boxes = np.asarray([[0, 0, *source], [1.25, -3, 0.1, 7000]])
    np.testing.assert_allclose(box.to_frame(box.to_input(boxes)), boxes, rtol=1e-9, atol=1e-9)
    whole = [box.left, box.top, box.left + box.width, box.top + box.height]
    np.testing.assert_allclose(box.to_input(boxes)[0], whole, rtol=1e-9)


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_a_bright_patch_is_found_where_to_input_says(mode):
    frame = np.zeros((60, 90, 3), np.uint8)
    frame[20:40, 30:60] = 255
    box = Letterbox.fit((90, 60), (120, 120), mode)
    ys, xs = np.nonzero(box.apply(frame, fill=9)[..., 0] > 127)
    seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    np.testing.assert_allclose(box.to_input([[30, 20, 60, 40]])[0], seen, atol=1)


def test_the_rest_is_filled_and_a_frame_that_fits_is_untouched():
    frame = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    padded = Letterbox.fit((8, 4), (8, 7)).apply(frame, fill=77)
    np.testing.assert_array_equal(padded[1:5], frame)
    assert (padded[[0, 5, 6]] == 77).all()
    np.testing.assert_array_equal(Letterbox.fit((8, 4), (8, 4), "stretch").apply(frame), frame)
