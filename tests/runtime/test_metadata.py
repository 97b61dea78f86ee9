import pytest

from vidkd.base.errors import ConfigError
from vidkd.runtime.metadata import Head, InputFormat, ModelMetadata, embedded, metadata_of

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
