"""Layouts of boxes in images, each over a small generated tree: what is read, what is left out, what is refused and where."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_samples import HEIGHT, WIDTH, images, rows, texts
from PIL import Image

from vidkd.base.errors import DataError
from vidkd.detection.layouts import read_boxes
from vidkd.detection.layouts.common import subset_in

CATEGORIES = [{"id": 17, "name": "dog"}, {"id": 3, "name": "cat"}]  # sparse ids, not in order
SIZE = {"width": WIDTH, "height": HEIGHT}


def coco(**over: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 5, "file_name": "b.jpg", **SIZE}, {"id": 2, "file_name": "a.jpg", **SIZE}],
        "annotations": [
            {"image_id": 5, "category_id": 17, "bbox": [1, 2, 10, 8], "iscrowd": 0},
            {"image_id": 5, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1},
            {"image_id": 5, "category_id": 3, "bbox": [4, 4, 0, 3]},  # without area
            {"image_id": 5, "category_id": 3, "bbox": [WIDTH, 4, 3, 3]},  # outside
        ],
        "categories": CATEGORIES,
        **over,
    }


def coco_tree(root: Path, document: Any, images_there: Sequence[str] = ("val2017/a.jpg", "val2017/b.jpg")) -> Path:
    texts(root, {"annotations/instances_val2017.json": json.dumps(document), "annotations/captions_val2017.json": "{}"})
    images(root, *images_there)
    return root


def test_coco(tmp_path: Path) -> None:
    manifest = read_boxes("coco", coco_tree(tmp_path, coco()))
    assert manifest.classes == ("cat", "dog")
    assert rows(manifest) == [
        ("val2017/b.jpg", None, [[1, 2, 11, 10], [0, 0, 40, 30]], [1, 0], [False, True]),
        ("val2017/a.jpg", None, [], [], []),  # listed without an annotation: nothing there
    ]
    assert {frame.subset for frame in manifest.frames} == {"val"}
    asked = read_boxes("coco", tmp_path, classes=("kite", "dog"))
    assert (asked.classes, [frame.labels.tolist() for frame in asked.frames]) == (("kite", "dog"), [[1], []])


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["street_0001.jpg", "street_0002.jpg", "mall_0001.jpg"], ["street", "street", "mall"]),
        (["a_frame1.jpg", "a_frame12.jpg", "frame_1.jpg"], ["a", "a", "frame"]),
        (["in_mp4-7_jpg.rf.0a1b.jpg", "in_mp4-12_jpg.rf.ff00.jpg"], ["in", "in"]),
        (["one/0001.jpg", "one/0002.jpg", "two/0001.jpg"], ["one", "one", "two"]),
        (["all/a_0001.jpg", "all/b_0001.jpg"], ["all/a", "all/b"]),  # one folder is no video
        (["IMG_0012.jpg", "COCO_val2014_000000000042.jpg", "000000000042.jpg", "2007_000027.jpg", "cat1.jpg", "cat.jpg"], None),
    ],
)
def test_frames_of_one_video_are_one_group(tmp_path: Path, names: list[str], groups: list[str] | None) -> None:
    images(tmp_path, *(f"images/train/{name}" for name in names))
    texts(tmp_path, {f"labels/train/{name.removesuffix('.jpg')}.txt": "" for name in names} | {"classes.txt": "cat"})
    found = {frame.path.removeprefix("images/train/"): frame.group for frame in read_boxes("yolo", tmp_path).frames}
    assert [found[name] for name in names] == (groups or [f"images/train/{name}" for name in names])


def test_the_video_id_of_a_coco_image_is_its_group(tmp_path: Path) -> None:
    document = coco(images=[{**row, "video_id": 7} for row in coco()["images"]])
    assert {frame.group for frame in read_boxes("coco", coco_tree(tmp_path, document)).frames} == {"video 7"}


def test_coco_next_to_the_images_of_which_one_is_missing(tmp_path: Path) -> None:
    texts(tmp_path, {"train/_annotations.coco.json": json.dumps(coco())})
    images(tmp_path, "train/a.jpg")
    with pytest.raises(DataError, match=r"1 of the files that its annotations name are missing(.|\n)*b\.jpg"):
        read_boxes("coco", tmp_path)
    assert [(frame.path, frame.subset) for frame in read_boxes("coco", tmp_path, allow_missing=True).frames] == [("train/a.jpg", "train")]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (coco(images=[{"id": 1, "file_name": "a.jpg", "height": 3}]), "missing required field `width`"),
        (coco(images=coco()["images"] * 2), "an image id is given twice"),
        (coco(annotations=[{"image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]}]), r"annotations\[0\]: image 9 or category 3 is not"),
        (coco(annotations=[{"image_id": 5, "category_id": 4, "bbox": [0, 0, 1, 1]}]), r"annotations\[0\]: image 5 or category 4 is not"),
        (coco(categories=[CATEGORIES[0], CATEGORIES[0]]), "a category id is given twice"),
        (coco(images=[{"id": 5, "file_name": "b.jpg", "width": 0, "height": 9}], annotations=[]), "0 x 9 pixels is empty"),
    ],
)
def test_coco_refused(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_boxes("coco", coco_tree(tmp_path, document))


def test_coco_files_of_other_classes(tmp_path: Path) -> None:
    coco_tree(tmp_path, coco())
    texts(tmp_path, {"annotations/instances_train2017.json": json.dumps(coco(categories=[{"id": 3, "name": "cat"}]))})
    with pytest.raises(DataError, match=r"instances_val2017.json: (.|\n)*other than in .*instances_train2017.json"):
        read_boxes("coco", tmp_path)
    assert len(read_boxes("coco", tmp_path, annotations=[tmp_path / "annotations/instances_val2017.json"]).frames) == 2


def coco_video(frame_ids: Sequence[int] = (1, 0), **over: Any) -> dict[str, Any]:
    listed = [
        {"id": 10 + k, "video_id": 1, "frame_id": k, "file_name": f"walk/{number:03d}.jpg", **SIZE}
        for number, k in zip((1, 0), frame_ids, strict=True)
    ]
    row = {"image_id": 10 + frame_ids[0], "video_id": 1, "category_id": 3, "instance_id": 8, "bbox": [1, 1, 4, 4]}
    return {"videos": [{"id": 1, "name": "walk"}], "images": listed, "annotations": [row], "categories": CATEGORIES, **over}


def test_coco_video(tmp_path: Path) -> None:
    coco_tree(tmp_path, coco_video(), ["walk/000.jpg", "walk/001.jpg"])
    manifest = read_boxes("coco_video", tmp_path)
    assert rows(manifest) == [("walk", 0, [], [], []), ("walk", 1, [[1, 1, 5, 5]], [0], [False])]
    assert [(frame.group, frame.subset) for frame in manifest.frames] == [("walk", "val")] * 2
    assert manifest.frames[1].track_ids.tolist() == [8]
    (tmp_path / "walk/001.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of the files(.|\n)*walk/001\.jpg"):
        read_boxes("coco_video", tmp_path)
    coco_tree(tmp_path, coco_video(videos=[{"id": 1, "name": "walk", "file_name": "walk.mp4"}]), [])
    (tmp_path / "walk.mp4").touch()
    assert [frame.key for frame in read_boxes("coco_video", tmp_path).frames] == [("walk.mp4", 0), ("walk.mp4", 1)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (coco_video((2, 1)), r"image 12: frame_id 2 is not the place of 001.jpg(.|\n)*count from 0"),
        (coco_video((0, 1)), "image 10: frame_id 0 is not the place of 001.jpg"),
        (coco_video(videos=[]), "image 11: no frame_id, or a video_id that is not among the videos"),
    ],
)
def test_coco_video_refused(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_boxes("coco_video", coco_tree(tmp_path, document, ["walk/000.jpg", "walk/001.jpg"]))


def yolo_tree(root: Path, files: Mapping[str, str], names: Sequence[str] = ("images/train/a.jpg", "images/val/b.jpg")) -> Path:
    texts(root, {"data.yaml": "names: {0: cat, 1: dog}\ntrain: images/train\nval: images/val\n", **files})
    images(root, *names)
    return root


def test_yolo(tmp_path: Path) -> None:
    labels = {"labels/train/a.txt": "1 0.5 0.5 0.5 0.25\n\n0 0.125 0.125 0.25 0.25\n", "labels/val/b.txt": ""}
    manifest = read_boxes("yolo", yolo_tree(tmp_path, labels, ["images/train/a.jpg", "images/val/b.jpg", "images/val/c.jpg"]))
    assert manifest.classes == ("cat", "dog")
    assert rows(manifest) == [
        ("images/train/a.jpg", None, [[16, 18, 48, 30], [0, 0, 16, 12]], [1, 0], [False, False]),
        ("images/val/b.jpg", None, [], [], []),  # c.jpg has no label file: not annotated
    ]
    assert [frame.subset for frame in manifest.frames] == ["train", "val"]


@pytest.mark.parametrize(
    ("files", "image", "subset"),
    [
        ({"classes.txt": "cat\ndog\n", "labels/a.txt": ""}, "images/a.jpg", ""),
        ({"classes.txt": "cat\n", "valid/labels/a.txt": ""}, "valid/images/a.jpg", "val"),
        ({"data.yaml": "names: [cat]\nval: ../valid/images\n", "valid/labels/a.txt": ""}, "valid/images/a.jpg", "val"),
        ({"data.yaml": "names: [cat]\ntest: list.txt\n", "list.txt": "./images/a.jpg\n", "labels/a.txt": ""}, "images/a.jpg", "test"),
        ({"data.yaml": "names: [cat]\npath: /elsewhere\ntrain: [images]\n", "labels/a.txt": ""}, "images/a.jpg", "train"),
    ],
)
def test_yolo_forms(tmp_path: Path, files: Mapping[str, str], image: str, subset: str) -> None:
    texts(tmp_path, files)
    images(tmp_path, image)
    assert [(frame.path, frame.subset) for frame in read_boxes("yolo", tmp_path).frames] == [(image, subset)]


def test_yolo_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    yolo_tree(tmp_path, {"labels/train/a.txt": "0 0.5 0.5 1 1\n"})
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images/train/a.jpg", exif=exif)
    frame = read_boxes("yolo", tmp_path).frames[0]
    assert (frame.width, frame.height, frame.boxes.tolist()) == (HEIGHT, WIDTH, [[0, 0, HEIGHT, WIDTH]])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"labels/train/a.txt": "0 .5 .5 .1 .1\n0 .5 .5 .1\n"}, r"a.txt:2: not `class cx cy w h`"),
        ({"labels/train/a.txt": "2 .5 .5 .1 .1\n"}, r"a.txt:1: class 2 is out of range(.|\n)*0 to 1"),
        ({"labels/train/a.txt": "0 20 12 4 4\n"}, r"a.txt:1: values must lie in 0 to 1"),
        ({"data.yaml": "train: images/train\n"}, "no names of classes"),
        ({"data.yaml": "names: {1: cat}\n"}, "no names of classes"),
        ({"data.yaml": "names: [cat\n"}, "not a YAML file"),
        ({"data.yaml": "- cat\n"}, "data.yaml: not a map of keys"),
        ({"data.yaml": "names: [cat]\ntrain: images/trian\n"}, "not in the data set: images/trian"),
        ({"data.yaml": "names: [cat]\ntrain: /\n"}, "not in the data set: /"),
        ({"data.yaml": "names: [cat]\ntrain: list.txt\n", "list.txt": "/else/a.jpg\n"}, "not in the data set: list.txt"),
        ({"data.yaml": "names: [cat]\ntrain: images\nval: images/val\n"}, r"a frame is listed twice: images/val/b\.jpg"),
        ({"images/train/a.jpg": "text", "labels/train/a.txt": ""}, "cannot read image: .*a.jpg"),
    ],
)
def test_yolo_refused(tmp_path: Path, files: Mapping[str, str], message: str) -> None:
    yolo_tree(tmp_path, {"labels/val/b.txt": ""})
    texts(tmp_path, files)
    with pytest.raises(DataError, match=message):
        read_boxes("yolo", tmp_path)


@pytest.mark.parametrize(
    ("name", "subset"),
    [("instances_val2017", "val"), ("valid", "val"), ("my-test", "test"), ("training", "train"), ("latest", ""), ("train_test", "test")],
)
def test_subset_in(name: str, subset: str) -> None:
    assert subset_in(name) == subset


def voc_object(name: str, box: Sequence[float], difficult: int = 0) -> str:
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    part = f"<part><name>head</name><bndbox>{sides}</bndbox></part>"
    return f"<object>\n<name>{name}</name><difficult>{difficult}</difficult>\n<bndbox>{sides}</bndbox>{part}</object>\n"


def voc_xml(*objects: str, size: str = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>") -> str:
    return f'<?xml version="1.0"?>\n<annotation><filename>a.jpg</filename>{size}\n{"".join(objects)}</annotation>\n'


def test_voc(tmp_path: Path) -> None:
    files = {
        "Annotations/a.xml": voc_xml(voc_object("dog", (1, 1, WIDTH, HEIGHT)), voc_object("cat", (3, 4, 10, 12), 1)),
        "Annotations/b.xml": voc_xml(size=""),
        "ImageSets/Main/trainval.txt": "a\nb\n",
        "ImageSets/Main/val.txt": "b\n",
        "ImageSets/Main/dog_train.txt": "a -1\n",
    }
    texts(tmp_path, files)
    images(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.png")
    manifest = read_boxes("voc", tmp_path)
    assert len(manifest.classes) == 20
    dog, cat = manifest.classes.index("dog"), manifest.classes.index("cat")
    assert rows(manifest) == [  # pixels 1 to 64 are the whole width
        ("JPEGImages/a.jpg", None, [[0, 0, WIDTH, HEIGHT], [2, 3, 10, 12]], [dog, cat], [False, True]),
        ("JPEGImages/b.png", None, [], [], []),
    ]
    assert [(frame.subset, frame.width, frame.group) for frame in manifest.frames] == [
        ("train", WIDTH, "JPEGImages/a.jpg"),
        ("val", WIDTH, "JPEGImages/b.png"),
    ]


def test_classes_of_voc(tmp_path: Path) -> None:
    texts(tmp_path, {"Annotations/a.xml": voc_xml(*(voc_object(name, (1, 1, 4, 3)) for name in ("aeroplane", "dog", "cow", "sofa")))})
    images(tmp_path, "images/a.jpg")
    of_coco = read_boxes("voc", tmp_path, classes=("dog", "airplane", "sofa", "couch"))
    assert of_coco.frames[0].labels.tolist() == [1, 0, 2]
    texts(tmp_path, {"Annotations/a.xml": voc_xml(voc_object("zebra", (1, 1, 4, 3)), voc_object("dog", (1, 1, 4, 3)))})
    assert read_boxes("voc", tmp_path).classes == ("dog", "zebra")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "undefined entity"),
        ("<annotation>\n<object>\n</annotation>", "not an annotation of VOC: .*a.xml(.|\n)*mismatched tag"),
        (voc_xml("<object><name>dog</name></object>"), "could not convert string to float: 'nothing'"),
        (voc_xml(voc_object("dog", (1, 1, 4, 3)).replace("<xmax>4</xmax>", "<xmax>four</xmax>", 1)), "a.xml(.|\n)*'four'"),
        (voc_xml(voc_object("dog", (float("nan"), 1, 4, 3))), "a.xml: a box is not finite"),
        (voc_xml(size="<size><width>0</width><height>0</height></size>"), r"cannot read image: .*a\.jpg"),
    ],
)
def test_voc_refused(tmp_path: Path, xml: str, message: str) -> None:
    texts(tmp_path, {"Annotations/a.xml": xml})
    with pytest.raises(DataError, match=message):
        read_boxes("voc", tmp_path)


def test_voc_lists_and_trees_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data set not found(.|\n)*no XML file in"):
        read_boxes("voc", tmp_path)
    texts(tmp_path, {"Annotations/a.xml": voc_xml(), "ImageSets/Main/test.txt": "a\nz\n"})
    with pytest.raises(DataError, match=r"1 files of the lists in ImageSets/ have no annotation(.|\n)*z"):
        read_boxes("voc", tmp_path)


def test_youtube_objects(tmp_path: Path) -> None:
    base, car = tmp_path / "YTOdevkit/YTO", voc_object("car", (1, 1, 4, 3))
    files = {
        "Annotations/car_00000001.xml": voc_xml(car),
        "Annotations/car_00000002.xml": voc_xml(car, voc_object("car", (9, 9, 14, 13))),
        "ImageSets/Main/trainYTO.txt": "car_00000001\n",
        "ImageSets/Main/car_test.txt": "car_00000001 -1\ncar_00000002 1\n",
    }
    texts(base, files)
    images(base, "JPEGImages/car_00000001.jpg", "JPEGImages/car_00000002.jpg")
    manifest = read_boxes("youtube_objects", tmp_path)
    assert (manifest.classes[3], len(manifest.classes)) == ("car", 10)
    assert [(frame.path, frame.subset, frame.complete, len(frame)) for frame in manifest.frames] == [
        ("YTOdevkit/YTO/JPEGImages/car_00000001.jpg", "train", False, 1),
        ("YTOdevkit/YTO/JPEGImages/car_00000002.jpg", "test", True, 2),
    ]
    assert np.array_equal(manifest.frames[1].labels, [3, 3])
