import numpy as np
import pytest

from vidkd.runtime.detector import fill_input, pixel_table
from vidkd.runtime.letterbox import Letterbox
from vidkd.runtime.metadata import InputFormat
from vidkd.runtime.network import Port

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)


def form(**over) -> InputFormat:
    return InputFormat(**{"size": (8, 6), "layout": "NCHW", "colour": "rgb", "pixel_max": 1, "resize": "centre", **over})


def port(dtype="float32", quantisation=None) -> Port:
    return Port(name="images", shape=(None, 3, 6, 8), dtype=np.dtype(dtype), quantisation=quantisation)


def filled(frames: np.ndarray, form: InputFormat, port: Port) -> np.ndarray:
    box = Letterbox.fit((frames.shape[2], frames.shape[1]), form.size, form.resize)
    return fill_input(frames, form, box, pixel_table(form, port), port.dtype)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("pixel_max", [1, 255])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pixels_are_scaled_then_normalised_in_the_order_of_the_channels(frames, layout, colour, pixel_max, dtype):
    got = filled(frames, form(layout=layout, colour=colour, pixel_max=pixel_max, mean=MEAN, std=STD), port(dtype))
    values = frames[..., ::-1] if colour == "bgr" else frames
    expected = (values / 255 * pixel_max - np.asarray(MEAN)) / np.asarray(STD)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected.transpose(0, 3, 1, 2) if layout == "NCHW" else expected, rtol=2e-3, atol=2e-3)


def test_padding_is_normalised_like_pixels(frames):
    got = filled(frames[:, :3], form(fill=51, mean=MEAN, std=STD), port())
    np.testing.assert_allclose(got[:, 0, 0], (51 / 255 - 0.5) / 0.2, rtol=1e-5)
    np.testing.assert_allclose(got[:, 2, 5], (51 / 255 - 0.3) / 0.5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "zero", "expected"), [("int8", -128, [-128, 0, 127]), ("uint8", 0, [0, 128, 255])])
def test_a_quantised_input_gets_the_nearest_step(dtype, zero, expected):
    frames = np.asarray([0, 128, 255], np.uint8)[None, None, :, None].repeat(3, 3)
    got = filled(frames, form(size=(3, 1), layout="NHWC"), port(dtype, (1 / 255, zero)))
    assert got.dtype == dtype
    assert got[0, 0, :, 0].tolist() == expected


def test_steps_outside_the_integers_are_cut():
    table = pixel_table(form(mean=(0.5, 0.5, 0.5)), port("int8", (0.001, 0)))
    assert (table.min(), table.max()) == (-128, 127)


def test_plain_integers_take_pixels_as_they_are(frames):
    np.testing.assert_array_equal(filled(frames, form(pixel_max=255, layout="NHWC"), port("uint8")), frames)


@pytest.mark.parametrize(
    ("over", "dtype"), [({"pixel_max": 1}, "uint8"), ({"pixel_max": 255}, "int8"), ({"pixel_max": 255, "mean": MEAN}, "uint8")]
)
def test_plain_integers_that_cannot_hold_the_values_are_refused(over, dtype):
    with pytest.raises(ValueError, match=f"holds plain {dtype}"):
        pixel_table(form(**over), port(dtype))


def test_an_input_without_numbers_is_refused():
    with pytest.raises(ValueError, match="does not hold numbers"):
        pixel_table(form(), port("object"))
