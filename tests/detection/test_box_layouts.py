"""Layouts of boxes, each over a small generated tree: what is read, what is left out and counted, what is refused and where."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_trees import HEIGHT, WIDTH, images, read, rows, texts

from vidkd.base.errors import DataError
from vidkd.detection.layouts import BOX_LAYOUTS, BoxOptions
from vidkd.detection.layouts.common import subset_in

CATEGORIES = [{"id": 17, "name": "dog"}, {"id": 3, "name": "cat"}]  # sparse ids, not in order


def coco(**over: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": 5, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT},
            {"id": 2, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT},
        ],
        "annotations": [
            {"image_id": 5, "category_id": 17, "bbox": [1, 2, 10, 8], "iscrowd": 0},
            {"image_id": 5, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1},
            {"image_id": 5, "category_id": 3, "bbox": [4, 4, 0, 3]},
        ],
        "categories": CATEGORIES,
        **over,
    }


def coco_tree(root: Path, document: Any, images_there: Sequence[str] = ("val2017/a.jpg", "val2017/b.jpg")) -> Path:
    texts(root, {"annotations/instances_val2017.json": json.dumps(document), "annotations/captions_val2017.json": "{}"})
    images(root, *images_there)
    return root


def test_coco(tmp_path: Path) -> None:
    reading = read("coco", coco_tree(tmp_path, coco()))
    assert reading.manifest.classes == ("cat", "dog")
    assert rows(reading) == [
        ("val2017/b.jpg", None, [[1, 2, 11, 10], [0, 0, 40, 30]], [1, 0], [False, True]),
        ("val2017/a.jpg", None, [], [], []),  # listed without an annotation: nothing there
    ]
    assert {frame.subset for frame in reading.manifest.frames} == {"val"}
    assert reading.notes == ("1 boxes left out: without area",)


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
@pytest.mark.parametrize("layout", ["coco", "yolo"])
def test_frames_of_one_video_are_one_group(tmp_path: Path, layout: str, names: list[str], groups: list[str] | None) -> None:
    images(tmp_path, *(f"images/train/{name}" for name in names))
    if layout == "coco":
        rows_of = [
            {"id": number, "file_name": f"images/train/{name}", "width": WIDTH, "height": HEIGHT} for number, name in enumerate(names)
        ]
        texts(tmp_path, {"annotations/instances_train.json": json.dumps(coco(images=rows_of, annotations=[]))})
    else:
        texts(tmp_path, {f"labels/train/{name.removesuffix('.jpg')}.txt": "" for name in names} | {"classes.txt": "cat"})
    found = {frame.path.removeprefix("images/train/"): frame.group for frame in read(layout, tmp_path).manifest.frames}
    assert [found[name] for name in names] == (groups or [f"images/train/{name}" for name in names])


def test_the_video_id_of_a_coco_image_is_its_group(tmp_path: Path) -> None:
    document = coco(images=[{**row, "video_id": 7} for row in coco()["images"]])
    assert {frame.group for frame in read("coco", coco_tree(tmp_path, document)).manifest.frames} == {"video 7"}


def test_coco_beside_the_images(tmp_path: Path) -> None:
    texts(tmp_path, {"train/_annotations.coco.json": json.dumps(coco())})
    images(tmp_path, "train/a.jpg", "train/b.jpg")
    assert [(frame.path, frame.subset) for frame in read("coco", tmp_path).manifest.frames] == [
        ("train/b.jpg", "train"),
        ("train/a.jpg", "train"),
    ]


def test_missing_images(tmp_path: Path) -> None:
    coco_tree(tmp_path, coco(), ["val2017/a.jpg"])
    with pytest.raises(DataError, match=r"1 of the files that its annotations name are missing(.|\n)*b\.jpg"):
        read("coco", tmp_path)
    reading = read("coco", tmp_path, allow_missing=True)
    assert [frame.path for frame in reading.manifest.frames] == ["val2017/a.jpg"]
    assert "1 files are missing: b.jpg" in reading.notes


def test_classes_asked_for(tmp_path: Path) -> None:
    reading = read("coco", coco_tree(tmp_path, coco()), classes=("kite", "dog"))
    assert reading.manifest.classes == ("kite", "dog")
    assert [frame.labels.tolist() for frame in reading.manifest.frames] == [[1], []]
    assert "1 boxes left out: of other classes than those asked for" in reading.notes


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "Expected `object`, got `array`"),
        (coco(images=None), r"Expected `array`, got `null` - at `\$\.images`"),
        (
            coco(images=[{"id": 1, "file_name": "a.jpg", "width": 0, "height": 3}], annotations=[]),
            r"Expected `int` >= 1 - at `\$\.images\[0\]\.width`",
        ),
        (coco(images=[{"id": 1, "file_name": "a.jpg", "height": 3}], annotations=[]), "missing required field `width`"),
        (coco(images=coco()["images"] * 2), r"images\[2\]: image id 5 is given twice"),
        (coco(annotations=[{"image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]}]), r"annotations\[0\]: image 9 is not among the images"),
        (coco(annotations=[{"image_id": 5, "category_id": 4, "bbox": [0, 0, 1, 1]}]), r"annotations\[0\]: category 4 is not among"),
        (
            coco(annotations=[{"image_id": 5, "category_id": 3, "bbox": [0, 0, 1]}]),
            r"Expected `array` of length 4, got 3 - at `\$\.annotations\[0\]\.bbox`",
        ),
        (coco(categories=[CATEGORIES[0], CATEGORIES[0]]), r"categories\[1\]: category 17 'dog' is given twice"),
    ],
)
def test_coco_refused(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("coco", coco_tree(tmp_path, document))


def test_coco_files_of_other_classes(tmp_path: Path) -> None:
    coco_tree(tmp_path, coco())
    texts(tmp_path, {"annotations/instances_train2017.json": json.dumps(coco(categories=[{"id": 3, "name": "cat"}]))})
    with pytest.raises(DataError, match=r"instances_val2017.json: other categories than in .*instances_train2017.json"):
        read("coco", tmp_path)
    assert len(read("coco", tmp_path, annotations=(tmp_path / "annotations/instances_val2017.json",)).manifest.frames) == 2


def coco_video(frame_ids: Sequence[int] = (1, 0), file: str = "{:03d}.jpg", **over: Any) -> dict[str, Any]:
    listed = [
        {"id": 10 + k, "video_id": 1, "frame_id": k, "file_name": f"walk/{file.format(number)}", "width": WIDTH, "height": HEIGHT}
        for number, k in zip((1, 0), frame_ids, strict=True)
    ]
    row = {"image_id": 10 + frame_ids[0], "video_id": 1, "category_id": 3, "instance_id": 8, "bbox": [1, 1, 4, 4]}
    return {"videos": [{"id": 1, "name": "walk"}], "images": listed, "annotations": [row], "categories": CATEGORIES, **over}


def test_coco_video_of_images(tmp_path: Path) -> None:
    coco_tree(tmp_path, coco_video(), ["walk/000.jpg", "walk/001.jpg"])
    reading = read("coco_video", tmp_path)
    assert rows(reading) == [("walk", 0, [], [], []), ("walk", 1, [[1, 1, 5, 5]], [0], [False])]
    assert [(frame.group, frame.subset) for frame in reading.manifest.frames] == [("walk", "val")] * 2
    assert reading.manifest.frames[1].track_ids.tolist() == [8]


def test_coco_video_without_one_of_its_images(tmp_path: Path) -> None:
    coco_tree(tmp_path, coco_video(), ["walk/000.jpg"])
    with pytest.raises(DataError, match=r"1 of the files(.|\n)*walk/001\.jpg"):
        read("coco_video", tmp_path)
    assert [frame.key for frame in read("coco_video", tmp_path, allow_missing=True).manifest.frames] == [("walk", 0)]


def test_coco_video_of_files(tmp_path: Path) -> None:
    document = coco_video(videos=[{"id": 1, "name": "walk", "file_name": "walk.mp4"}])
    coco_tree(tmp_path, document, ["walk.mp4.jpg"])
    (tmp_path / "walk.mp4").touch()
    assert [frame.key for frame in read("coco_video", tmp_path).manifest.frames] == [("walk.mp4", 0), ("walk.mp4", 1)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (coco_video((2, 1)), r"images\[0\]: frame_id 2 is not the place of 001.jpg(.|\n)*2 images(.|\n)*count from 0"),
        (coco_video((0, 1)), r"images\[0\]: frame_id 0 is not the place of 001.jpg(.|\n)*000.jpg"),
        (coco_video(videos=[]), r"images\[0\]: video 1 is not among the videos"),
        (coco_video(annotations=[{"image_id": 10, "category_id": 3, "bbox": [0, 0, 1, 1]}]), r"annotations\[0\]: 'instance_id' is missing"),
    ],
)
def test_coco_video_refused(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("coco_video", coco_tree(tmp_path, document, ["walk/000.jpg", "walk/001.jpg"]))


def yolo_tree(root: Path, files: Mapping[str, str], names: Sequence[str] = ("images/train/a.jpg", "images/val/b.jpg")) -> Path:
    texts(root, {"data.yaml": "names: {0: cat, 1: dog}\ntrain: images/train\nval: images/val\n", **files})
    images(root, *names)
    return root


def test_yolo(tmp_path: Path) -> None:
    yolo_tree(
        tmp_path,
        {"labels/train/a.txt": "1 0.5 0.5 0.5 0.2\n\n0 0.1 0.1 0.2 0.2\n", "labels/val/b.txt": ""},
        ["images/train/a.jpg", "images/val/b.jpg", "images/val/c.jpg"],
    )
    reading = read("yolo", tmp_path)
    assert reading.manifest.classes == ("cat", "dog")
    a, b = reading.manifest.frames
    assert a.boxes == pytest.approx(np.array([[10, 12, 30, 18], [0, 0, 8, 6]]), abs=1e-4)
    assert (a.labels.tolist(), a.subset, b.path, len(b), b.subset) == ([1, 0], "train", "images/val/b.jpg", 0, "val")
    assert reading.notes == ("1 images have no label file and are left out: images/val/c.jpg",)
    assert [frame.path for frame in read("yolo", tmp_path, missing_is_empty=True).manifest.frames][-1] == "images/val/c.jpg"


@pytest.mark.parametrize(
    ("files", "names", "expected"),
    [
        ({"classes.txt": "cat\ndog\n", "labels/a.txt": ""}, ["images/a.jpg"], [("images/a.jpg", "")]),
        ({"classes.txt": "cat\n", "valid/labels/a.txt": ""}, ["valid/images/a.jpg"], [("valid/images/a.jpg", "val")]),
        (
            {"data.yaml": "names: [cat]\nval: ../valid/images\n", "valid/labels/a.txt": ""},
            ["valid/images/a.jpg"],
            [("valid/images/a.jpg", "val")],
        ),
        (
            {"data.yaml": "names: [cat]\ntest: list.txt\n", "list.txt": "./images/a.jpg\n", "labels/a.txt": ""},
            ["images/a.jpg"],
            [("images/a.jpg", "test")],
        ),
        (
            {"data.yaml": "names: [cat]\npath: /elsewhere\ntrain: [images]\n", "labels/a.txt": ""},
            ["images/a.jpg"],
            [("images/a.jpg", "train")],
        ),
    ],
)
def test_yolo_forms(tmp_path: Path, files: Mapping[str, str], names: Sequence[str], expected: list[tuple[str, str]]) -> None:
    texts(tmp_path, files)
    images(tmp_path, *names)
    assert [(frame.path, frame.subset) for frame in read("yolo", tmp_path).manifest.frames] == expected


def test_yolo_lists_of_images_that_are_not_there(tmp_path: Path) -> None:
    texts(
        tmp_path,
        {"data.yaml": "names: [cat]\ntest: list.txt\n", "list.txt": "images/a.jpg\nimages/b.jpg\n", "labels/a.txt": "", "labels/b.txt": ""},
    )
    images(tmp_path, "images/a.jpg")
    with pytest.raises(DataError, match=r"no such image: .*b\.jpg"):
        read("yolo", tmp_path)
    reading = read("yolo", tmp_path, allow_missing=True)
    assert ([frame.path for frame in reading.manifest.frames], reading.notes) == (["images/a.jpg"], ("1 files are missing: b.jpg",))


def test_a_frame_on_two_sides(tmp_path: Path) -> None:
    yolo_tree(tmp_path, {"data.yaml": "names: [cat]\ntrain: images\nval: images/val\n", "labels/train/a.txt": "", "labels/val/b.txt": ""})
    with pytest.raises(DataError, match=r"a frame is listed twice: images/val/b\.jpg"):
        read("yolo", tmp_path)


def test_yolo_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    from PIL import Image

    yolo_tree(tmp_path, {"labels/train/a.txt": "0 0.5 0.5 1 1\n", "labels/val/b.txt": ""})
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images/train/a.jpg", exif=exif)
    frame = read("yolo", tmp_path).manifest.frames[0]
    assert (frame.width, frame.height, frame.boxes.tolist()) == (HEIGHT, WIDTH, [[0, 0, HEIGHT, WIDTH]])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"labels/train/a.txt": "0 .5 .5 .1 .1\n0 .5 .5 .1\n"}, r"a.txt:2: not `class cx cy w h`"),
        ({"labels/train/a.txt": "0 .1 .1 .2 .2 .3 .3\n"}, r"a.txt:1: not `class cx cy w h`(.|\n)*segments"),
        ({"labels/train/a.txt": "2 .5 .5 .1 .1\n"}, r"a.txt:1: class 2 is out of range(.|\n)*0 to 1"),
        ({"labels/train/a.txt": "0.5 .5 .5 .1 .1\n"}, r"a.txt:1: class 0.5 is out of range"),
        ({"labels/train/a.txt": "0 20 12 4 4\n"}, r"a.txt:1: values must lie in 0 to 1"),
        ({"data.yaml": "train: images/train\n"}, "no names of classes"),
        ({"data.yaml": "names: {1: cat}\n"}, "no names of classes"),
        ({"data.yaml": "names: [cat\n"}, "not a YAML file"),
        ({"data.yaml": "- cat\n"}, "data.yaml: not a map of keys"),
        ({"data.yaml": "names: [cat]\ntrain: images/trian\n"}, "not in the data set: images/trian"),
        ({"data.yaml": "names: [cat]\ntrain: /\n"}, "not in the data set: /"),
        (
            {"data.yaml": "names: [cat]\ntrain: list.txt\n", "list.txt": "\n/else/a.jpg\n"},
            "list.txt:2: an image outside the data set: /else/a.jpg",
        ),
        ({"data.yaml": "names: [cat]\n", "images/train/a.jpg": "text", "labels/train/a.txt": ""}, "not an image: .*a.jpg"),
    ],
)
def test_yolo_refused(tmp_path: Path, files: Mapping[str, str], message: str) -> None:
    yolo_tree(tmp_path, {"labels/val/b.txt": ""})
    texts(tmp_path, files)
    with pytest.raises(DataError, match=message):
        read("yolo", tmp_path)


@pytest.mark.parametrize(
    ("name", "subset"),
    [
        ("instances_val2017", "val"),
        ("train", "train"),
        ("valid", "val"),
        ("my-test", "test"),
        ("training", "train"),
        ("latest", ""),
        ("trail", ""),
        ("train_test", "test"),
    ],
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
    texts(
        tmp_path,
        {
            "Annotations/a.xml": voc_xml(voc_object("dog", (1, 1, 40, 30)), voc_object("cat", (3, 4, 10, 12), 1)),
            "Annotations/b.xml": voc_xml(size=""),
            "ImageSets/Main/trainval.txt": "a\nb\n",
            "ImageSets/Main/val.txt": "b\n",
            "ImageSets/Main/dog_train.txt": "a -1\n",
        },
    )
    images(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.png")
    reading = read("voc", tmp_path)
    assert len(reading.manifest.classes) == 20
    dog, cat = reading.manifest.classes.index("dog"), reading.manifest.classes.index("cat")
    assert rows(reading) == [  # pixels 1 to 40 are the whole width
        ("JPEGImages/a.jpg", None, [[0, 0, 40, 30], [2, 3, 10, 12]], [dog, cat], [False, True]),
        ("JPEGImages/b.png", None, [], [], []),
    ]
    assert [(frame.subset, frame.width, frame.group) for frame in reading.manifest.frames] == [
        ("train", WIDTH, "JPEGImages/a.jpg"),
        ("val", WIDTH, "JPEGImages/b.png"),
    ]


def test_voc_in_the_classes_of_coco(tmp_path: Path) -> None:
    texts(tmp_path, {"Annotations/a.xml": voc_xml(*(voc_object(name, (1, 1, 4, 3)) for name in ("aeroplane", "dog", "cow", "sofa")))})
    images(tmp_path, "JPEGImages/a.jpg")
    reading = read("voc", tmp_path, classes=("dog", "airplane", "sofa", "couch"))
    assert reading.manifest.frames[0].labels.tolist() == [1, 0, 2]
    assert reading.notes == ("1 boxes left out: of other classes than those asked for",)


def test_voc_with_names_of_ones_own(tmp_path: Path) -> None:
    texts(tmp_path, {"Annotations/a.xml": voc_xml(voc_object("zebra", (1, 1, 4, 3)), voc_object("dog", (1, 1, 4, 3)))})
    images(tmp_path, "images/a.jpg")
    assert read("voc", tmp_path).manifest.classes == ("dog", "zebra")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "a.xml:1: not XML(.|\n)*undefined entity"),
        ("<annotation>\n<object>\n</annotation>", "a.xml:3: not XML(.|\n)*mismatched tag"),
        ("<html/>", "a.xml: <annotation> expected, found <html>"),
        (voc_xml("<object><name>dog</name></object>"), "a.xml: object 1: no <bndbox>"),
        (voc_xml("<object><bndbox/></object>"), "a.xml: object 1: no <name>"),
        (
            voc_xml(voc_object("dog", (1, 1, 4, 3)).replace("<xmax>4</xmax>", "<xmax>four</xmax>", 1)),
            "a.xml: object 1: <xmax> must be a number(.|\n)*four",
        ),
        (
            voc_xml(voc_object("dog", (1, 1, 4, 3)).replace("<xmax>4</xmax>", "", 1)),
            "a.xml: object 1: <xmax> must be a number(.|\n)*nothing",
        ),
        (voc_xml(voc_object("dog", (float("nan"), 1, 4, 3))), "not finite"),
        (voc_xml(size="<size><width>0</width><height>0</height></size>"), "neither <size> nor the image"),
    ],
)
def test_voc_refused(tmp_path: Path, xml: str, message: str) -> None:
    texts(tmp_path, {"Annotations/a.xml": xml})
    with pytest.raises(DataError, match=message):
        read("voc", tmp_path, allow_missing=True)


def test_voc_lists_and_trees_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data set 'voc' not found(.|\n)*no XML file in"):
        read("voc", tmp_path)
    texts(tmp_path, {"Annotations/a.xml": voc_xml(), "ImageSets/Main/test.txt": "a\nz\n"})
    with pytest.raises(DataError, match=r"1 files of its lists have no annotation(.|\n)*z"):
        read("voc", tmp_path)
    images(tmp_path, "JPEGImages/a.jpg")
    assert read("voc", tmp_path, allow_missing=True).notes == ("1 files of the lists have no annotation: z",)


def test_youtube_objects(tmp_path: Path) -> None:
    base = "YTOdevkit/YTO"
    texts(
        tmp_path,
        {
            f"{base}/Annotations/car_00000001.xml": voc_xml(voc_object("car", (1, 1, 4, 3))),
            f"{base}/Annotations/car_00000002.xml": voc_xml(voc_object("car", (1, 1, 4, 3)), voc_object("car", (9, 9, 14, 13))),
            f"{base}/ImageSets/Main/trainYTO.txt": "car_00000001\n",
            f"{base}/ImageSets/Main/car_test.txt": "car_00000001 -1\ncar_00000002 1\n",
        },
    )
    images(tmp_path, f"{base}/JPEGImages/car_00000001.jpg", f"{base}/JPEGImages/car_00000002.jpg")
    reading = BOX_LAYOUTS["youtube_objects"](tmp_path, BoxOptions())
    assert reading.manifest.classes[3] == "car"
    assert len(reading.manifest.classes) == 10
    assert [(frame.subset, frame.complete, frame.labels.tolist()) for frame in reading.manifest.frames] == [
        ("train", False, [3]),
        ("test", True, [3, 3]),
    ]
    with pytest.raises(DataError, match="'youtube_objects' not found"):
        BOX_LAYOUTS["youtube_objects"](tmp_path / "YTOdevkit/YTO/JPEGImages", BoxOptions())
