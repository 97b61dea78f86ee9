from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from model_files import picture, picture_metadata

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.runtime.detector import ExportedDetector, fill_input, pixel_table
from vidkd.runtime.letterbox import Letterbox
from vidkd.runtime.metadata import Head, InputFormat
from vidkd.runtime.networks import Port

BOX = (0.2, 0.4, 0.6, 1.0)


@dataclass
class PictureNetwork:
    """Its input's numbers as rows, and how often it was run on what."""

    batch: int | None = None
    path: str = "net.onnx"
    device: str = "cpu"
    embedded: str | None = None
    outputs: Sequence[Port] = (Port(name="found", shape=(None, 8, 6), dtype=np.dtype("float32")),)
    batches: list[np.ndarray] = field(default_factory=list)
    shape: tuple[int | None, ...] = (4, 4, 3)
    inputs: Sequence[Port] = ()

    def __post_init__(self):
        self.inputs = self.inputs or (Port(name="images", shape=(self.batch, *self.shape), dtype=np.dtype("float32")),)

    def run(self, batch, outputs):
        self.batches.append(batch)
        return [batch.reshape(len(batch), 8, 6)]


@dataclass
class FixedNetwork(PictureNetwork):
    """Gives the same result for every frame."""

    result: np.ndarray = field(default_factory=lambda: np.zeros((0, 6), np.float32))

    def run(self, batch, outputs):
        return [np.repeat(self.result[None], len(batch), 0)]


def rows_of(detections) -> list[list[float]]:
    return np.column_stack([detections.boxes, detections.scores, detections.labels]).round(3).tolist()


def test_boxes_come_back_in_the_frames_own_pixels_by_falling_score():
    rows = np.asarray([[0, 0.25, 0.5, 0.5, 0.5, 1], [0.5, 0.25, 1, 0.75, 0.75, 0], [0, 0.25, 0.5, 0.5, 0.2, 1]], np.float32)
    metadata = picture_metadata(input={"resize": "centre", "size": (80, 80)})
    detector = ExportedDetector(FixedNetwork(shape=(80, 80, 3), result=rows), metadata)
    (found,) = detector(np.zeros((1, 20, 40, 3), np.uint8))  # lies in rows 20 to 60 of the input, at twice its size
    assert rows_of(found) == [[20, 0, 40, 20, 0.75, 0], [0, 0, 20, 10, 0.5, 1]]
    assert (found.frame_index, found.time_s) == (0, None)
    assert detector.class_names == ("cat", "dog")


def test_boxes_are_cut_at_the_frame_and_those_beyond_it_dropped():
    padding, endless, nothing = [0, 0, 1, 0.2, 0.8, 0], [0, 0, np.inf, 1, 0.8, 0], [0, np.nan, 1, 1, 0.8, 0]
    rows = np.asarray([[-0.5, 0.5, 1.5, 0.6, 0.9, 1], padding, endless, nothing], np.float32)
    network = FixedNetwork(shape=(80, 80, 3), result=rows[:2])
    detector = ExportedDetector(network, picture_metadata(input={"resize": "centre", "size": (80, 80)}))
    network.result = rows
    (found,) = detector(np.zeros((1, 20, 40, 3), np.uint8))
    assert rows_of(found) == [[0, 10, 40, 14, 0.9, 1]]


def test_thresholds_are_the_metadatas_unless_given():
    rows = np.asarray([[0, 0, 1, 1, 0.9, 0], [0, 0, 1, 0.8, 0.6, 0], [0, 0, 1, 0.8, 0.5, 1], [0, 0, 0.3, 1, 0.1, 1]], np.float32)
    network, metadata = FixedNetwork(result=rows), picture_metadata(score=0.3, nms_iou=0.7)

    def scores(metadata=metadata, **over):
        (found,) = ExportedDetector(network, metadata, **over)(np.zeros((1, 4, 4, 3), np.uint8))
        return [round(score, 3) for score in found.scores.tolist()]

    assert scores() == [0.9, 0.5]
    assert scores(score=0.05) == [0.9, 0.5, 0.1]
    assert scores(nms_iou=0.85) == [0.9, 0.6, 0.5]
    assert scores(picture_metadata(score=0.3, nms_iou=None)) == [0.9, 0.6, 0.5]


@pytest.mark.parametrize(("batch", "pieces"), [(None, [5]), (1, [1] * 5), (2, [2, 2, 2])])
def test_a_fixed_batch_is_run_in_pieces_and_any_other_at_once(batch, pieces):
    network = PictureNetwork(batch=batch)
    detector = ExportedDetector(network, picture_metadata())
    network.batches.clear()
    found = detector(np.stack([picture((*BOX, score, 0)) for score in (0.4, 0.6, 0.8, 0, 1)]))
    assert [round(float(f.scores.sum()), 3) for f in found] == [0.4, 0.6, 0.8, 0, 1]
    assert [len(f) for f in found] == [1, 1, 1, 0, 1]
    assert [len(b) for b in network.batches] == pieces
    assert detector(np.zeros((0, 4, 4, 3), np.uint8)) == []


def test_frames_of_another_kind_are_refused():
    detector = ExportedDetector(PictureNetwork(), picture_metadata())
    for frames in (np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.float32), np.zeros((1, 4, 4, 1), np.uint8)):
        with pytest.raises(ValueError, match=r"frames must be uint8 \(B, H, W, 3\)"):
            detector(frames)


def port(name, *shape, dtype="float32") -> Port:
    return Port(name=name, shape=shape, dtype=np.dtype(dtype))


@pytest.mark.parametrize(
    ("network", "over", "message"),
    [
        (PictureNetwork(inputs=(port("a", 1, 4, 4, 3), port("b", 1))), {}, r"it has 2 inputs \(a, b\)"),
        (PictureNetwork(), {"input": {"name": "image"}}, "unknown input 'image'\n.*\n *did you mean : images"),
        (
            PictureNetwork(),
            {"input": {"size": (8, 4)}},
            r"input 'images' is \(\?, 4, 4, 3\), the metadata make it \(\?, 4, 8, 3\) \(NHWC\)",
        ),
        (PictureNetwork(), {"input": {"layout": "NCHW"}}, r"the metadata make it \(\?, 3, 4, 4\) \(NCHW\)"),
        (PictureNetwork(inputs=(port("images", 4, 4, 3),)), {}, r"input 'images' is \(4, 4, 3\)"),
        (PictureNetwork(inputs=(port("images", None, 4, 4, 3, dtype="uint8"),)), {}, "input 'images' holds plain uint8"),
        (PictureNetwork(), {"head": Head(style="boxes", boxes="unit", outputs=("fond",))}, "unknown output 'fond'"),
        (PictureNetwork(), {"head": Head(style="yolov8", boxes="unit")}, r"2 classes make an output \(4 \+ 2, N\), not \(8, 6\)"),
        (FixedNetwork(result=np.full((3, 6), 7)), {}, "labels 7 to 7 do not fit 2 classes"),
        (
            FixedNetwork(result=np.full((3, 6), 1.5)),
            {"classes": "abc"},
            "a blank frame scores 1.5, scores end at 1; is head.style 'boxes' right?",
        ),
    ],
)
def test_files_and_metadata_that_do_not_fit_are_refused_at_opening(network, over, message):
    if "classes" in over:
        over = {**over, "classes": tuple(over["classes"])}
    with pytest.raises(ConfigError, match=message) as caught:
        ExportedDetector(network, picture_metadata(**over))
    assert "net.onnx" in str(caught.value)


def test_a_model_that_gives_no_numbers_is_refused():
    with pytest.raises(CheckpointError, match="gives values that are not numbers"):
        ExportedDetector(FixedNetwork(result=np.full((3, 6), np.nan)), picture_metadata())


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)


def form(**over) -> InputFormat:
    return InputFormat(**{"size": (8, 6), "layout": "NCHW", "colour": "rgb", "pixel_max": 1, "resize": "centre", **over})


def pixel_port(dtype="float32", quantisation=None) -> Port:
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
    got = filled(frames, form(layout=layout, colour=colour, pixel_max=pixel_max, mean=MEAN, std=STD), pixel_port(dtype))
    values = frames[..., ::-1] if colour == "bgr" else frames
    expected = (values / 255 * pixel_max - np.asarray(MEAN)) / np.asarray(STD)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected.transpose(0, 3, 1, 2) if layout == "NCHW" else expected, rtol=2e-3, atol=2e-3)


def test_padding_is_normalised_like_pixels(frames):
    got = filled(frames[:, :3], form(fill=51, mean=MEAN, std=STD), pixel_port())
    np.testing.assert_allclose(got[:, 0, 0], (51 / 255 - 0.5) / 0.2, rtol=1e-5)
    np.testing.assert_allclose(got[:, 2, 5], (51 / 255 - 0.3) / 0.5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "zero", "expected"), [("int8", -128, [-128, 0, 127]), ("uint8", 0, [0, 128, 255])])
def test_a_quantised_input_gets_the_nearest_step(dtype, zero, expected):
    frames = np.asarray([0, 128, 255], np.uint8)[None, None, :, None].repeat(3, 3)
    got = filled(frames, form(size=(3, 1), layout="NHWC"), pixel_port(dtype, (1 / 255, zero)))
    assert got.dtype == dtype
    assert got[0, 0, :, 0].tolist() == expected


def test_steps_outside_the_integers_are_cut():
    table = pixel_table(form(mean=(0.5, 0.5, 0.5)), pixel_port("int8", (0.001, 0)))
    assert (table.min(), table.max()) == (-128, 127)


def test_plain_integers_take_pixels_as_they_are(frames):
    np.testing.assert_array_equal(filled(frames, form(pixel_max=255, layout="NHWC"), pixel_port("uint8")), frames)


@pytest.mark.parametrize(
    ("over", "dtype"), [({"pixel_max": 1}, "uint8"), ({"pixel_max": 255}, "int8"), ({"pixel_max": 255, "mean": MEAN}, "uint8")]
)
def test_plain_integers_that_cannot_hold_the_values_are_refused(over, dtype):
    with pytest.raises(ValueError, match=f"holds plain {dtype}"):
        pixel_table(form(**over), pixel_port(dtype))


def test_an_input_without_numbers_is_refused():
    with pytest.raises(ValueError, match="does not hold numbers"):
        pixel_table(form(), pixel_port("object"))
