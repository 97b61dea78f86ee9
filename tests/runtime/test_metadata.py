import dataclasses
from pathlib import Path

import numpy as np
import pytest
from model_files import constant_onnx, picture_metadata, picture_onnx

from vidkd.base.errors import ConfigError
from vidkd.runtime.metadata import Head, InputFormat, ModelMetadata, embedded, metadata_of, read_metadata, read_names
from vidkd.runtime.opening import find_metadata, open_detector, open_network

INPUT = {"size": [416, 320], "layout": "NCHW", "colour": "bgr", "pixel_max": 255, "resize": "top_left"}
HEAD = {"style": "yolox", "strides": [8, 16, 32]}
WHOLE = {"classes": ["cat", "dog"], "input": INPUT, "head": HEAD}
DARKNET = {"style": "darknet", "anchors": [[[10, 14], [23, 27]], [[3, 5]]], "scale_xy": [1.05, 1]}


def read(**over) -> ModelMetadata:
    return metadata_of(ModelMetadata, {**WHOLE, **over}, "model.yaml")


def test_what_is_read_is_typed_and_defaults_are_the_schemas():
    got = read()
    assert got == ModelMetadata(
        classes=("cat", "dog"),
        input=InputFormat(size=(416, 320), layout="NCHW", colour="bgr", pixel_max=255, resize="top_left"),
        head=Head(style="yolox", strides=(8, 16, 32)),
    )
    assert (got.task, got.score, got.nms_iou, got.version) == ("detect", 0.25, 0.45, 1)
    assert (got.input.mean, got.input.std, got.input.fill, got.input.name) == ((0, 0, 0), (1, 1, 1), 114, None)


@pytest.mark.parametrize(
    "head", [HEAD, DARKNET, {"style": "yolov8", "boxes": "unit"}, {"style": "boxes", "boxes": "pixels", "outputs": ["a", "b"]}]
)
def test_json_gives_the_same_metadata_again(head):
    whole = read(head=head, nms_iou=None, score=0.5, classes=["Katze", "Füchsin"])
    assert embedded(ModelMetadata, whole.to_json(), "file") == whole


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"clases": []}, "unknown key 'clases'"),
        ({"input": {**INPUT, "color": "rgb"}}, r"unknown key 'input.color'(.|\n)*did you mean : input.colour"),
        ({"input": {"size": [1, 1], "layout": "NCHW"}}, "missing: input.colour, input.pixel_max, input.resize"),
        ({"input": None}, "input must be a mapping of keys to values"),
        ({"classes": []}, "classes must be a list of texts of at least 1 entries"),
        ({"classes": {0: "cat"}}, "classes must be a list"),
        ({"score": 1.5}, "score must be a number from 0 on at most 1, found 1.5"),
        ({"nms_iou": -0.1}, "nms_iou must be a number from 0 on at most 1, or null, found -0.1"),
        ({"input": {**INPUT, "size": [416, 0]}}, "input.size must be a list of 2 whole numbers from 1 on, found 0 in .1."),
        ({"input": {**INPUT, "layout": "HWC"}}, "input.layout must be one of NCHW, NHWC"),
        ({"input": {**INPUT, "mean": [0, 0, float("nan")]}}, "input.mean.* must be a "),
        ({"input": {**INPUT, "std": [1, 0, 1]}}, "input.std must be a list of 3 numbers above 0, found 0 in .1."),
        ({"input": {**INPUT, "fill": 256}}, "input.fill must be a whole number from 0 on at most 255, found 256"),
        ({"head": {"style": "yolo"}}, "head.style must be one of yolox, yolov5, yolov8, darknet, boxes"),
        ({"head": {"style": "yolox"}}, "head.strides must be given for style 'yolox'"),
        ({"head": {**HEAD, "boxes": "unit"}}, "head.boxes must be left out for style 'yolox', which does not use it"),
        ({"head": {**DARKNET, "anchors": [[[10, -1]], [[1, 1]]]}}, "head.anchors must be a list of lists of lists of 2 numbers above 0"),
        ({"head": {**DARKNET, "scale_xy": [1]}}, "head.scale_xy must be one number for each of the 2 lists of anchors"),
    ],
)
def test_what_cannot_be_is_named_with_its_file_and_key(over, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(**over)
    assert caught.value.lines["where"] == "model.yaml"


def test_metadata_of_a_classifier_are_told_from_those_of_a_detector():
    with pytest.raises(ConfigError, match=r"a classifier, not a detector: model\.yaml"):
        read(task="classify")


def test_a_later_schema_is_told_before_its_keys_are():
    with pytest.raises(ConfigError, match=r"metadata of another version of vidkd: model\.yaml") as caught:
        read(version=2, later=True, vidkd="9.9")
    assert caught.value.lines["found"] == "schema 2, written by vidkd 9.9"


YAML = """
classes: {classes}
input: {{size: [4, 4], layout: NHWC, colour: rgb, pixel_max: 1, resize: stretch}}
head: {{style: boxes, boxes: unit}}
score: {score}
"""


def side(path, *, classes="[cat, dog]", score=0.3):
    path.write_text(YAML.format(classes=classes, score=score), encoding="utf-8")
    return path


def test_what_is_given_goes_before_the_file_and_the_file_before_the_yaml_next_to_it(tmp_path):
    plain = open_network(picture_onnx(tmp_path / "plain.onnx"))
    full = open_network(picture_onnx(tmp_path / "full.onnx", embedded=picture_metadata(score=0.2).to_json()))
    for name in ("plain", "full"):
        side(tmp_path / f"{name}.yaml")
    assert find_metadata(plain).score == 0.3
    assert find_metadata(full) == picture_metadata(score=0.2)
    assert find_metadata(full, side(tmp_path / "other.yml", score=0.4)).score == 0.4
    assert find_metadata(full, picture_metadata(score=0.5)).score == 0.5


def test_classes_may_stand_in_a_file_next_to_the_yaml(tmp_path):
    (tmp_path / "animals.names").write_text("cat \nwild dog\n\n", encoding="utf-8")
    assert read_metadata(side(tmp_path / "m.yaml", classes="animals.names")).classes == ("cat", "wild dog")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "file of class names not found"),
        ("", "found *: .*animals.names is empty"),
        ("cat\n\ndog", "an empty line at .*animals.names:2"),
        (b"\xff\xfe", "cannot read class names"),
    ],
)
def test_names_that_cannot_be_read_are_named(tmp_path, text, message):
    path = tmp_path / "animals.names"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message):
        read_names(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("score: [", "cannot read"),
        ("!!python/object/apply:os.getcwd []", "cannot read"),
        ("", "missing: classes, input, head"),
        ("clases: [a]", "unknown key 'clases'"),
    ],
)
def test_a_yaml_that_cannot_be_read_is_named(tmp_path, text, message):
    path = tmp_path / "m.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        read_metadata(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match="not found"):
        read_metadata(tmp_path / "none.yaml")


def test_embedded_metadata_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="embedded metadata cannot be read"):
        find_metadata(open_network(picture_onnx(tmp_path / "m.onnx", embedded="{")))
    with pytest.raises(ConfigError, match=r"missing: classes, input, head\n *where *: .*m.onnx \(embedded\)"):
        find_metadata(open_network(picture_onnx(tmp_path / "m.onnx", embedded="{}")))


CELLS = (64 // 8) ** 2 + (64 // 16) ** 2 + (64 // 32) ** 2
ROWS = np.zeros((1, CELLS, 8))


@pytest.mark.parametrize(
    ("outputs", "shape", "style", "names", "start"),
    [
        ({"out": ROWS}, (1, 3, 64, 64), "yolox", 3, "vidkd config cp detectors/yolox.yaml"),
        ({"out": np.zeros((1, 50, 8))}, (1, 3, 64, 64), "yolov5", 3, "vidkd config cp detectors/yolov5.yaml"),
        ({"out": np.zeros((1, 7, 50))}, (1, 64, 64, 3), "yolov8", 3, "vidkd config cp detectors/yolov8_tflite.yaml"),
        ({"out": np.zeros((1, 50, 6))}, (1, 3, "height", "width"), "boxes", 2, "write"),
        ({"b": np.zeros((1, 5, 4)), "s": np.zeros((1, 5)), "l": np.zeros((1, 5))}, (1, 3, 64, 64), "boxes", 2, "write"),
        ({"coarse": np.zeros((1, 16, 2, 2)), "fine": np.zeros((1, 16, 4, 4))}, ("batch", 3, 64, 64), "darknet", 3, "write"),
    ],
)
def test_without_metadata_the_error_names_a_shipped_yaml_and_shows_one_that_runs_the_file(tmp_path, outputs, shape, style, names, start):
    batch = 1 if shape[0] == 1 else None
    path = constant_onnx(tmp_path / "net.onnx", outputs, shape=shape)
    with pytest.raises(ConfigError, match="nothing says how to run") as caught:
        open_detector(path)
    assert f": {start} {tmp_path / 'net.yaml'}, then compare" in str(caught.value)
    text = str(caught.value).partition("its source does:\n\n")[2]
    yolox = style == "yolox"  # whose code takes BGR from 0 to 255 from the top left corner
    assert f"colour: {'bgr' if yolox else 'rgb'}  # CHECK: rgb or bgr" in text
    assert f"pixel_max: {255 if yolox else 1}  # CHECK" in text
    assert f"resize: {'top_left' if yolox else 'centre'}  # CHECK" in text
    assert (f"{names} names" in text) == (style not in ("boxes", "darknet"))
    (tmp_path / "net.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "classes.names").write_text("\n".join(f"class {number}" for number in range(names)), encoding="utf-8")
    got = read_metadata(tmp_path / "net.yaml")
    assert got.head.style == style
    assert got.input.layout == ("NHWC" if shape[-1] == 3 else "NCHW")
    assert got.input.size == ((640, 640) if "width" in shape else (64, 64))
    detector = open_detector(path)
    assert len(detector.class_names) == names
    assert len(detector(np.zeros((batch or 1, 30, 40, 3), np.uint8))) == 1


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs" / "detectors").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_yamls_describe_the_files_that_their_names_say(tmp_path, path):
    """Files of the layout and the outputs of the published exports, at 64 pixels and with three classes."""
    style, is_tflite = path.stem.split("_")[0], path.stem.endswith("_tflite")
    assert path.read_text(encoding="utf-8").startswith(f"# vidkd config cp detectors/{path.name} MODEL.yaml\n")
    metadata = read_metadata(path)
    assert (metadata.head.style, len(metadata.classes), metadata.classes[0]) == (style, 80, "person")
    small = dataclasses.replace(metadata, classes=("a", "b", "c"), input=dataclasses.replace(metadata.input, size=(64, 64)))
    outputs = {"out": {"yolox": ROWS, "yolov5": np.zeros((1, 50, 8)), "yolov8": np.zeros((1, 7, 50))}[style]}
    found = constant_onnx(tmp_path / "net.onnx", outputs, shape=(1, 64, 64, 3) if is_tflite else (1, 3, 64, 64))
    assert open_detector(found, metadata=small).class_names == ("a", "b", "c")
