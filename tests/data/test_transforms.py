"""One geometry for all views: checked with frames and flow that carry their own coordinates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_textures import moved, translation

from vidkd.base.errors import DataError
from vidkd.data.flow import dis_flow
from vidkd.data.transforms import (
    Geometry,
    TransformConfig,
    crop_flow,
    crop_frames,
    evaluation_geometry,
    jitter_colour,
    random_geometry,
    resize_frames,
    working_size,
)


def coordinates(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames whose red is 3 x and green 3 y, and flow whose dx is x and dy is y; two of each, in pixels of the frame."""
    y, x = np.mgrid[:height, :width]
    flow = np.stack([np.stack([x, y], -1)] * 2)
    blue = np.full((2, height, width, 1), 9)
    return np.concatenate([3 * flow, blue], -1).astype(np.uint8), flow.astype(np.float32)


geometries = st.builds(
    lambda side, top, left, size, flip: Geometry(int(top * (60 - side)), int(left * (80 - side)), side, size, flip),
    st.integers(8, 60),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(8, 64),
    st.booleans(),
)


@settings(deadline=None, max_examples=50)
@given(geometries)
def test_frames_and_flow_get_the_same_crop_and_flip(geometry: Geometry) -> None:
    frames, flow = coordinates(60, 80)
    out, moved_flow = crop_frames(frames, geometry), crop_flow(flow, geometry)
    assert out.shape == (2, geometry.size, geometry.size, 3)
    assert moved_flow.shape == (2, geometry.size, geometry.size, 2)
    scale = geometry.size / geometry.side
    sign = -1 if geometry.flip else 1
    # the place that a pixel came from, read off the frame and read off the vectors
    np.testing.assert_allclose(sign * moved_flow[..., 0] / scale, out[..., 0] / 3, atol=0.35)
    np.testing.assert_allclose(moved_flow[..., 1] / scale, out[..., 1] / 3, atol=0.35)


@pytest.mark.parametrize("geometry", [Geometry(10, 20, 96, 64), Geometry(10, 20, 96, 96, flip=True), Geometry(0, 0, 64, 96, flip=True)])
def test_cropped_flow_is_the_flow_of_cropped_frames(geometry: Geometry) -> None:
    first, second, _ = moved(120, 160, translation(2, -3))
    cropped = [crop_frames(frame[None], geometry) for frame in (first, second)]
    recomputed = dis_flow(*(np.ascontiguousarray(frame) for frame in cropped), preset="medium")[0]
    ours = crop_flow(dis_flow(first[None], second[None], preset="medium"), geometry)[0]
    inner = (slice(12, -12), slice(12, -12))
    assert np.linalg.norm(ours[inner] - recomputed[inner], axis=-1).mean() < 0.12
    assert np.linalg.norm(recomputed[inner], axis=-1).mean() > 2


# --- which crops are drawn ---


@settings(deadline=None, max_examples=50)
@given(st.integers(16, 90), st.integers(16, 90), st.integers(0, 10_000), st.floats(0.1, 1))
def test_random_crops_lie_inside_the_frame(height: int, width: int, seed: int, min_scale: float) -> None:
    config = TransformConfig(min_scale=min_scale)
    geometry = random_geometry(height, width, config, np.random.default_rng(seed), may_flip=True)
    shorter = min(height, width)
    assert geometry.top >= 0
    assert geometry.left >= 0
    assert geometry.top + geometry.side <= height
    assert geometry.left + geometry.side <= width
    assert min_scale * shorter - 0.5 <= geometry.side <= shorter
    assert geometry.size == config.crop


@pytest.mark.parametrize(("may_flip", "flip"), [(False, True), (True, False)])
def test_never_flips_where_it_may_not(may_flip: bool, flip: bool) -> None:
    rng = np.random.default_rng(0)
    config = TransformConfig(flip=flip)
    assert not any(random_geometry(72, 96, config, rng, may_flip=may_flip).flip for _ in range(50))


def test_evaluation_crops_run_evenly_along_the_longer_side() -> None:
    config = TransformConfig(crop=64)
    assert evaluation_geometry(72, 128, config) == Geometry(0, 28, 72, 64)
    assert [evaluation_geometry(72, 128, config, crop, 3) for crop in range(3)] == [Geometry(0, left, 72, 64) for left in (0, 28, 56)]
    assert [evaluation_geometry(100, 72, config, crop, 2) for crop in range(2)] == [Geometry(top, 0, 72, 64) for top in (0, 28)]


# --- sizes ---


@pytest.mark.parametrize(
    ("size", "config", "expected"),
    [
        ((240, 320), TransformConfig(short_side=72), (72, 96)),
        ((320, 240), TransformConfig(short_side=72), (96, 72)),
        ((36, 48), TransformConfig(short_side=72), (72, 96)),
        ((240, 320), TransformConfig(short_side=72, square=True), (72, 72)),
        ((288, 352), TransformConfig(short_side=72), (72, 88)),
    ],
)
def test_working_size(size: tuple[int, int], config: TransformConfig, expected: tuple[int, int]) -> None:
    assert working_size(*size, config) == expected


@pytest.mark.parametrize("crop", [0, -8, 73])
def test_a_crop_outside_the_frame_is_refused(crop: int) -> None:
    with pytest.raises(DataError, match=rf"data.transform.crop must lie between 1 and data.transform.short_side \(72\), not {crop}$"):
        TransformConfig(short_side=72, crop=crop)


def test_shrinking_averages() -> None:
    stripes = np.zeros((1, 16, 16, 3), np.uint8)
    stripes[:, :, ::2] = 200
    assert (resize_frames(stripes, 8, 8) == 100).all()


# --- colour ---


class Fixed(np.random.Generator):
    """Draws that were given."""

    def __init__(self, *draws: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.draws = np.array(draws)

    def random(self, size: int | None = None) -> np.ndarray:  # type: ignore[override]
        return self.draws[:size]


def noise(mean: int = 100, spread: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(mean - spread, mean + spread + 1, (3, 8, 8, 3)).astype(np.uint8)


def test_contrast_stretches_about_the_mean_of_the_clip() -> None:
    frames = noise()
    mean = frames.mean()
    np.testing.assert_allclose(jitter_colour(frames, 0.5, Fixed(0.5, 0.0, 0.5)), mean + 0.5 * (frames - mean), atol=0.52)


def test_colour_is_one_draw_for_all_frames_and_never_wraps() -> None:
    frames = np.full((4, 4, 4, 3), 250, np.uint8)
    frames[0, 0, 0] = 0
    out = jitter_colour(frames, 0.9, Fixed(1.0, 1.0, 0.5))
    assert out.dtype == np.uint8
    assert out[0, 0, 0].tolist() == [0, 0, 0]
    assert (out[1:] == 255).all()
    still = np.repeat(noise()[:1], 4, 0)
    jittered = jitter_colour(still, 0.4, np.random.default_rng(1))
    assert all(np.array_equal(frame, jittered[0]) for frame in jittered)
    assert not np.array_equal(jittered, still)
