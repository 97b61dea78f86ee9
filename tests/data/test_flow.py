"""DIS flow against known motion, and flow as a thing that is resized, flipped and cropped with its frames."""

import cv2
import numpy as np
import pytest
from moving_textures import about, epe, moved, translation

from vidkd.base.errors import DataError
from vidkd.data.flow import dis_flow, resize_flow

H, W = 120, 160
MOTIONS = {
    "still": translation(0, 0),
    "whole pixels": translation(3, -2),
    "parts of a pixel": translation(-1.5, 0.75),
    "fast": translation(9, 6),
    "turning": about(H, W, angle_deg=3),
    "nearing": about(H, W, zoom=1.05),
}
# mean endpoint error in pixels away from the border
BOUND_PX = {"medium": 0.1, "fast": 0.3, "ultrafast": 0.45}


def dis(first: np.ndarray, second: np.ndarray, preset: str = "medium") -> np.ndarray:
    return dis_flow(first[None], second[None], preset=preset)[0]


@pytest.mark.parametrize("preset", ["medium", "fast", "ultrafast"])
@pytest.mark.parametrize("motion", MOTIONS)
def test_endpoint_error_on_known_motion(motion: str, preset: str) -> None:
    first, second, truth = moved(H, W, MOTIONS[motion])
    assert epe(dis(first, second, preset), truth) < BOUND_PX[preset]


def test_every_pair_of_a_stack_is_computed_by_itself() -> None:
    pairs = [moved(H, W, matrix, seed)[:2] for seed, matrix in enumerate(MOTIONS.values())]
    together = dis_flow(np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs]), preset="fast")
    assert together.shape == (len(pairs), H, W, 2)
    assert together.dtype == np.float32
    for flow, (first, second) in zip(together, pairs, strict=True):
        assert np.array_equal(flow, dis(first, second, "fast"))


@pytest.mark.parametrize("preset", ["medium", "fast", "ultrafast"])
def test_flow_does_not_depend_on_what_was_computed_before(preset: str) -> None:
    """OpenCV's estimator remembers what it chose for a small frame; ours must not."""
    pairs = [
        moved(*size, about(*size, angle_deg=4), seed)[:2] for seed, size in enumerate([(64, 80), (16, 20), (32, 43), (120, 160), (64, 80)])
    ]
    number = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}")
    for place in (0, 1, 2, 3, 4, 0, 0, 2, 2, 4, 3, 1, 0):
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in pairs[place]]
        alone = cv2.DISOpticalFlow_create(number).calc(*grey, None)
        assert np.array_equal(dis(*pairs[place], preset), alone)


def test_frames_that_cannot_have_flow_are_refused() -> None:
    small = np.zeros((1, 15, 64, 3), np.uint8)
    with pytest.raises(DataError, match="64x15 are too small"):
        dis_flow(small, small)


# --- recomputed on frames that were flipped, cropped or resized ---


@pytest.mark.parametrize(("height", "width"), [(60, 80), (90, 160), (180, 240)])
@pytest.mark.parametrize("motion", ["whole pixels", "turning", "nearing"])
def test_resized_flow_is_the_flow_of_resized_frames(motion: str, height: int, width: int) -> None:
    first, second, _ = moved(H, W, MOTIONS[motion])
    how = cv2.INTER_AREA if height < H else cv2.INTER_LINEAR
    recomputed = dis(*(cv2.resize(frame, (width, height), interpolation=how) for frame in (first, second)))
    assert epe(resize_flow(dis(first, second)[None], height, width)[0], recomputed) < 0.12


# --- exactly, on a field that is linear in the place ---


def linear_field(height: int, width: int) -> np.ndarray:
    """(T, H, W, 2) whose two components are different linear functions of x and y, counted at pixel centres in shares of the frame."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    one = np.stack([1 + 2 * x - 3 * y, -2 + x + 4 * y], -1)
    return np.stack([one, -2 * one]).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(12, 16), (8, 48), (48, 64), (24, 32), (72, 96)])
def test_resizing_a_linear_field_scales_vectors_by_their_axis(height: int, width: int) -> None:
    resized = resize_flow(linear_field(24, 32), height, width)
    expected = linear_field(height, width) * np.array([width / 32, height / 24], np.float32)
    inner = (slice(None), slice(2, -2), slice(4, -4))  # interpolation has nothing beyond the border
    np.testing.assert_allclose(resized[inner], expected[inner], atol=2e-5)


def flipped(flow: np.ndarray) -> np.ndarray:
    return resize_flow(flow, *flow.shape[1:3], flip=True)


def test_flipping_mirrors_places_and_negates_dx_only() -> None:
    flow = linear_field(24, 32)
    np.testing.assert_array_equal(flipped(flow)[..., 0], -flow[:, :, ::-1, 0])
    np.testing.assert_array_equal(flipped(flow)[..., 1], flow[:, :, ::-1, 1])
    np.testing.assert_array_equal(flipped(flipped(flow)), flow)
    assert flow.tobytes() == linear_field(24, 32).tobytes()  # and it is another array
