"""Layouts of boxes over videos: MOT, DAVIS, scene folders and the generated sets; and two of them on real data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.data.synthetic.motion import MotionShapesConfig, write_motion_shapes
from vidkd.detection.annotations import ANY_CLASS
from vidkd.detection.layouts import BOX_LAYOUTS, BoxOptions, BoxReading
from vidkd.video import open_video, write_video

WIDTH, HEIGHT = 64, 48
INFO = "[Sequence]\nname=S\nimDir=img1\nframeRate=20\nseqLength=3\nimWidth=64\nimHeight=48\nimExt=.jpg\n"


def texts(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def video(path: Path, frames: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, [np.full((HEIGHT, WIDTH, 3), 20 * k, np.uint8) for k in range(frames)], fps=25)
    return path


def read(layout: str, root: Path, **options: Any) -> BoxReading:
    return BOX_LAYOUTS[layout](root, BoxOptions(**options))


def rows(reading: BoxReading) -> list[tuple[str, int | None, list, list, list]]:
    """(path, frame index, boxes, labels, ignore) of every frame."""
    frames = reading.manifest.frames
    return [(f.path, f.frame_index, f.boxes.tolist(), f.labels.tolist(), f.ignore.tolist()) for f in frames]


def mot_tree(root: Path, gt: str, info: str = INFO) -> Path:
    texts(root, {"train/S/seqinfo.ini": info, "train/S/gt/gt.txt": gt})
    (root / "train/S/img1").mkdir()
    for number in (1, 2, 3):
        cv2.imwrite(str(root / f"train/S/img1/{number:06d}.jpg"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return root


def test_mot16(tmp_path: Path) -> None:
    gt = "1,4,2,3,10,20,1,1,0.9\n1,5,2,3,10,20,0,1,0.9\n3,6,0,0,5,5,1,7,1\n3,7,0,0,5,5,1,3,1\n3,8,-9,-9,5,5,1,1,0\n"
    reading = read("mot", mot_tree(tmp_path, gt))
    assert rows(reading) == [
        ("train/S/img1", 0, [[2, 3, 12, 23]] * 2, [0, 0], [False, True]),
        ("train/S/img1", 1, [], [], []),  # of the sequence, without a row: nothing there
        ("train/S/img1", 2, [[0, 0, 5, 5]], [0], [True]),  # a static person
    ]
    assert reading.manifest.classes == ("person",)
    assert reading.notes == ("1 boxes left out: of other classes of MOT", "1 boxes left out: outside the frame")
    first = reading.manifest.frames[0]
    assert (first.track_ids.tolist(), first.group, first.subset) == ([4, 5], "S", "train")
    assert [frame.time_s for frame in reading.manifest.frames] == [0, 0.05, 0.1]


def test_mot15_beside_a_video(tmp_path: Path) -> None:
    video(tmp_path / "walk.mp4")
    texts(tmp_path, {"gt_keyframes.txt": "2,1,2,3,10,20,1,-1,-1,-1\n4,1,2,3,10,20,0,-1,-1,-1\n"})
    reading = read("mot", tmp_path, annotations=(tmp_path / "gt_keyframes.txt",))
    assert rows(reading) == [  # the frames between are unknown
        ("walk.mp4", 1, [[2, 3, 12, 23]], [0], [False]),
        ("walk.mp4", 3, [[2, 3, 12, 23]], [0], [True]),
    ]
    assert [frame.time_s for frame in reading.manifest.frames] == pytest.approx([0.04, 0.12])
    assert reading.manifest.frames[0].width == WIDTH


@pytest.mark.parametrize(
    ("gt", "info", "message"),
    [
        ("1,4,2,3,10,20,1\n1,4,2\n", INFO, "gt.txt:2: not a row of MOT"),
        ("1,4,2,3,10,x,1\n", INFO, "gt.txt:1: not a row of MOT"),
        ("1,4,2,3,10,inf,1\n", INFO, "gt.txt:1: not a row of MOT"),
        ("0,4,2,3,10,20,1\n", INFO, r"gt.txt:1: frame 0, id 4(.|\n)*frames from 1"),
        ("1.5,4,2,3,10,20,1\n", INFO, "gt.txt:1: frame 1.5, id 4"),
        ("\n4,4,2,3,10,20,1\n", INFO, "gt.txt:2: frame 4 is after the last one, 3"),
        ("", "[Sequence]\nimDir=img1\n", r"not a seqinfo.ini(.|\n)*seqLength"),
        ("", "seqLength=3\n", "not a seqinfo.ini"),
        ("", INFO.replace("=20", "=0"), "must be positive"),
        ("", INFO.replace("=3\n", "=4\n"), r"seqinfo.ini: seqLength is 4, train/S/img1 has 3 images"),
    ],
)
def test_mot_refused(tmp_path: Path, gt: str, info: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("mot", mot_tree(tmp_path, gt, info))


def test_mot_without_a_sequence_or_video(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'mot' not found(.|\n)*no annotated frame"):
        read("mot", tmp_path)
    texts(tmp_path, {"gt.txt": "1,1,1,1,1,1\n"})
    with pytest.raises(DataError, match=r"'mot' not found(.|\n)*0 videos"):
        read("mot", tmp_path, annotations=(tmp_path / "gt.txt",))


def davis_tree(root: Path, **over: Any) -> Path:
    box = [1, 2, 30, 40]
    item = {"coco": "horse+person", "width": WIDTH, "height": HEIGHT, "n": 3, "box_xyxy": [box, None, box], **over}
    texts(root, {"boxes.json": json.dumps({"jump": item, "goat": {**item, "coco": None}})})
    return root


def test_davis(tmp_path: Path) -> None:
    davis_tree(tmp_path)
    for name in ("jump", "goat"):
        video(tmp_path / "videos" / f"{name}.mp4", 3)
    reading = read("davis", tmp_path)
    twice = [[1, 2, 30, 40]] * 2
    assert reading.manifest.classes == ("horse", "person")
    assert rows(reading)[:3] == [
        ("videos/jump.mp4", 0, twice, [0, 1], [False, False]),
        ("videos/jump.mp4", 1, [], [], []),
        ("videos/jump.mp4", 2, twice, [0, 1], [False, False]),
    ]
    assert rows(reading)[3] == ("videos/goat.mp4", 0, twice[:1], [ANY_CLASS], [True])
    assert not any(frame.complete for frame in reading.manifest.frames)
    assert {tuple(frame.track_ids) for frame in reading.manifest.frames if len(frame) == 2} == {(1, 1)}
    assert reading.manifest.frames[2].time_s == pytest.approx(0.08)
    coco = read("davis", tmp_path, classes=("person", "horse")).manifest
    assert coco.frames[0].labels.tolist() == [1, 0]
    assert coco.frames[3].labels.tolist() == [ANY_CLASS]


def test_davis_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'davis' not found(.|\n)*no boxes.json"):
        read("davis", tmp_path)
    davis_tree(tmp_path)
    with pytest.raises(DataError, match=r"boxes\.json: jump: its video is missing"):
        read("davis", tmp_path)
    video(tmp_path / "videos" / "jump.mp4", 3)
    part = read("davis", tmp_path, allow_missing=True)
    assert (len(part.manifest.frames), part.notes) == (3, ("1 files are missing: videos/goat.mp4",))
    video(tmp_path / "videos" / "goat.mp4", 4)
    with pytest.raises(DataError, match="goat: 3 boxes for 4 frames"):
        read("davis", tmp_path)
    for over, message in (
        ({"box_xyxy": 3}, r"boxes\.json: Expected `array`, got `int` - at `\$\[\.\.\.\]\.box_xyxy`"),
        ({"width": "64"}, r"Expected `int`, got `str` - at `\$\[\.\.\.\]\.width`"),
        ({"box_xyxy": [None, [1, 2], None]}, r"Expected `array` of length 4, got 2 - at `\$\[\.\.\.\]\.box_xyxy\[1\]`"),
    ):
        with pytest.raises(DataError, match=message):
            read("davis", davis_tree(tmp_path, **over))


def picture(name: str = "car", width: int = WIDTH) -> str:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>8</xmax><ymax>9</ymax></bndbox>"
    return f"<annotation><size><width>{width}</width><height>{HEIGHT}</height></size><object><name>{name}</name>{box}</object></annotation>"


def scenes_tree(root: Path) -> Path:
    for name in ("kitchen/a.mp4", "kitchen/b.mp4", "street/c.mp4"):
        video(root / name)
    texts(root, {"kitchen/a.txt": "3,1,2,3,10,20,1,-1,-1,-1\n", "street/c/frame_2.xml": picture(), "street/c/0.xml": picture("bus")})
    return root


def test_scenes(tmp_path: Path) -> None:
    reading = read("scenes", scenes_tree(tmp_path))
    assert reading.manifest.classes == ("bus", "car", "person")
    assert rows(reading) == [
        ("kitchen/a.mp4", 2, [[2, 3, 12, 23]], [2], [False]),
        ("street/c.mp4", 0, [[0, 0, 8, 9]], [0], [False]),
        ("street/c.mp4", 2, [[0, 0, 8, 9]], [1], [False]),
    ]
    assert [frame.group for frame in reading.manifest.frames] == ["kitchen", "street", "street"]
    assert reading.notes == ("1 videos have no boxes next to them: kitchen/b.mp4",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"street/c/9.xml": picture()}, "9.xml: frame 9 is after the last one, 3"),
        ({"street/c/00.xml": picture()}, "two files for frame 0"),
        ({"street/c/last.xml": picture()}, "no frame index in the name"),
        ({"street/c/1.xml": picture(width=65)}, r"1.xml: <size> is \(65, 48\), the video has \(64, 48\)"),
        ({"street/c.txt": "1,1,1,1,1,1\n"}, "two kinds of boxes for one video"),
        ({"kitchen/a.txt": "1,1\n"}, "a.txt:1: not a row of MOT"),
    ],
)
def test_scenes_refused(tmp_path: Path, files: Mapping[str, str], message: str) -> None:
    texts(scenes_tree(tmp_path), files)
    with pytest.raises(DataError, match=message):
        read("scenes", tmp_path)


def test_no_scene(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'scenes' not found(.|\n)*no video in a folder below it"):
        read("scenes", tmp_path / "missing")


SMALL = MotionShapesConfig(
    classes=("LeftRight", "UpDown"), clips_per_class_train=2, clips_per_class_test=2, frames=6, distractors=3, noise=0.0
)


@pytest.fixture(scope="module")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    write_motion_shapes(root, SMALL, workers=0)
    return root


def test_motion_shapes(shapes_root: Path) -> None:
    reading = read("motion_shapes", shapes_root)
    manifest = reading.manifest
    assert manifest.classes == ("cross", "diamond", "disc", "square", "triangle")
    assert len(manifest.frames) == 8 * 6
    assert [frame.subset for frame in manifest.frames].count("train") == 4 * 6
    truth = json.loads((shapes_root / "truth.jsonl").read_text().split("\n")[0])
    frame = manifest.frames[3]
    assert (frame.path, frame.frame_index, frame.time_s, frame.width) == (truth["path"], 3, 3 / SMALL.fps, SMALL.size)
    assert frame.boxes == pytest.approx(np.array([shape["boxes"][3] for shape in truth["shapes"]]), abs=1e-4)
    assert [manifest.classes[label] for label in frame.labels] == [shape["name"] for shape in truth["shapes"]]
    with open_video(shapes_root / frame.path) as reader:
        assert reader.timestamps_s[3] == pytest.approx(frame.time_s)


def truth_of(shapes: list[dict[str, Any]], path: str) -> str:
    return json.dumps({"path": path, "shapes": shapes}) + "\n"


def test_what_a_later_shape_hides_is_ignored(shapes_root: Path, tmp_path: Path) -> None:
    for name in ("manifest.jsonl", "config.json"):
        (tmp_path / name).write_text((shapes_root / name).read_text())
    path = json.loads((tmp_path / "manifest.jsonl").read_text().split("\n")[1])["path"]
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    whole, three_quarters, less = [0, 0, 20, 20], [5, 0, 25, 20], [6, 0, 26, 20]
    shapes = [{"name": "disc", "boxes": [whole, whole]}, {"name": "cross", "boxes": [three_quarters, less]}]
    (tmp_path / "truth.jsonl").write_text(truth_of(shapes, path))
    assert [frame.ignore.tolist() for frame in read("motion_shapes", tmp_path).manifest.frames] == [[True, False], [False, False]]
    for row, message in (
        (json.dumps({"path": path}) + "\n", r"truth.jsonl:1: Object missing required field `shapes`"),
        (truth_of([{"name": "blob", "boxes": [whole]}], path), "truth.jsonl:1: unknown class 'blob'"),
        (truth_of([{"name": "disc", "boxes": [[1, 2]]}], path), r"truth.jsonl:1: Expected `array` of length 4"),
        (truth_of(shapes, "videos/x.mp4"), "truth.jsonl:1: not in the manifest: videos/x.mp4"),
    ):
        (tmp_path / "truth.jsonl").write_text(row)
        with pytest.raises(DataError, match=message):
            read("motion_shapes", tmp_path)
    (tmp_path / "truth.jsonl").unlink()
    with pytest.raises(DataError, match=r"no truth\.jsonl"):
        read("motion_shapes", tmp_path)


@pytest.mark.data
def test_pets(real_data: Path) -> None:
    root = real_data / "pets09"
    manifest = read("mot", root, annotations=(root / "gt_keyframes.txt",)).manifest
    assert len(manifest.frames) == 22
    assert sum(map(len, manifest.frames)) == 124
    assert (manifest.frames[0].frame_index, manifest.frames[-1].frame_index) == (4, 264)
    assert {(frame.width, frame.height, frame.path) for frame in manifest.frames} == {(768, 576, "vtest.avi")}


@pytest.mark.data
def test_davis_sequences(real_data: Path) -> None:
    reading = read("davis", real_data / "davis16")
    frames = reading.manifest.frames
    assert len({frame.path for frame in frames}) == 12
    assert len(frames) == 852
    assert {(frame.width, frame.height) for frame in frames} == {(854, 480)}
    assert sum(bool(frame.ignore.any()) for frame in frames) == 90 + 99  # the goat and the soapbox
    assert reading.notes == ()
