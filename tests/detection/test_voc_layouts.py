"""Boxes in VOC XML, and YouTube-Objects, which is of that form: what is read, left out and counted, refused and where."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from box_trees import HEIGHT, WIDTH, images, read, rows, texts

from vidkd.base.errors import DataError
from vidkd.detection.layouts import BOX_LAYOUTS, BoxOptions


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
