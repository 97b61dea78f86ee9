"""Layouts of boxes over videos: MOT, DAVIS, scene folders and the generated sets; and two of them on real data."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_samples import HEIGHT, WIDTH, images, rows, texts, video

from vidkd.base.errors import DataError
from vidkd.data.synthetic.motion import MotionShapesConfig, write_motion_shapes
from vidkd.data.synthetic.street import StreetShapesConfig, write_street_shapes
from vidkd.detection.annotations import ANY_CLASS
from vidkd.detection.layouts import read_boxes
from vidkd.video import open_video

INFO = "[Sequence]\nname=S\nimDir=img1\nframeRate=20\nseqLength=3\nimWidth=64\nimHeight=48\nimExt=.jpg\n"


def mot_tree(root: Path, gt: str, info: str = INFO) -> Path:
    texts(root, {"train/S/seqinfo.ini": info, "train/S/gt/gt.txt": gt})
    images(root, *(f"train/S/img1/{number:06d}.jpg" for number in (1, 2, 3)))
    return root


def test_mot16(tmp_path: Path) -> None:
    # a person, one to ignore, a static one, a car, one outside the frame
    gt = "1,4,2,3,10,20,1,1,0.9\n1,5,2,3,10,20,0,1,0.9\n3,6,0,0,5,5,1,7,1\n3,7,0,0,5,5,1,3,1\n3,8,-9,-9,5,5,1,1,0\n"
    manifest = read_boxes("mot", mot_tree(tmp_path, gt))
    assert rows(manifest) == [
        ("train/S/img1", 0, [[2, 3, 12, 23]] * 2, [0, 0], [False, True]),
        ("train/S/img1", 1, [], [], []),  # of the sequence, without a row: nothing there
        ("train/S/img1", 2, [[0, 0, 5, 5]], [0], [True]),
    ]
    first = manifest.frames[0]
    assert (manifest.classes, first.track_ids.tolist(), first.group, first.subset) == (("person",), [4, 5], "S", "train")
    assert [frame.time_s for frame in manifest.frames] == [0, 0.05, 0.1]


def test_mot15_next_to_a_video(tmp_path: Path) -> None:
    video(tmp_path / "walk.mp4")
    texts(tmp_path, {"gt_keyframes.txt": "2,1,2,3,10,20,1,-1,-1,-1\n4,1,2,3,10,20,0,-1,-1,-1\n"})
    manifest = read_boxes("mot", tmp_path, annotations=[tmp_path / "gt_keyframes.txt"])
    assert rows(manifest) == [  # the frames between are unknown
        ("walk.mp4", 1, [[2, 3, 12, 23]], [0], [False]),
        ("walk.mp4", 3, [[2, 3, 12, 23]], [0], [True]),
    ]
    assert [frame.time_s for frame in manifest.frames] == pytest.approx([0.04, 0.12])


@pytest.mark.parametrize(
    ("gt", "info", "message"),
    [
        ("1,4,2,3,10,20,1\n1,4,2\n", INFO, "not rows of MOT: .*gt.txt"),
        ("1,4,2,3,10,x,1\n", INFO, "not rows of MOT: .*gt.txt(.|\n)*'x'"),
        ("1,4,2\n", INFO, "not rows of MOT"),
        ("1,4,2,3,10,inf,1\n", INFO, "a box is not finite"),
        ("0,4,2,3,10,20,1\n", INFO, r"gt.txt: frames 0 to 0(.|\n)*1 to 3"),
        ("\n4,4,2,3,10,20,1\n", INFO, r"gt.txt: frames 4 to 4(.|\n)*1 to 3"),
        ("", "[Sequence]\nimDir=img1\n", r"not a seqinfo.ini(.|\n)*seqLength"),
        ("", INFO.replace("=3\n", "=4\n"), r"seqinfo.ini: seqLength is 4, train/S/img1 has 3 images"),
    ],
)
def test_mot_refused(tmp_path: Path, gt: str, info: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_boxes("mot", mot_tree(tmp_path, gt, info))


def test_data_sets_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'mot' has no annotated frame"):
        read_boxes("mot", tmp_path)
    texts(tmp_path, {"gt.txt": "1,1,1,1,1,1\n"})
    with pytest.raises(DataError, match=r"data set not found(.|\n)*0 videos"):
        read_boxes("mot", tmp_path, annotations=[tmp_path / "gt.txt"])
    for layout, missing in (("davis", "no boxes.json"), ("motion_shapes", "no truth.jsonl")):
        with pytest.raises(DataError, match=rf"data set not found(.|\n)*{missing}"):
            read_boxes(layout, tmp_path)


def davis_tree(root: Path, **over: Any) -> Path:
    box = [1, 2, 30, 40]
    item = {"coco": "horse+person", "width": WIDTH, "height": HEIGHT, "n": 3, "box_xyxy": [box, None, box], **over}
    texts(root, {"boxes.json": json.dumps({"jump": item, "goat": {**item, "coco": None}})})
    return root


def test_davis(tmp_path: Path) -> None:
    video(davis_tree(tmp_path) / "videos/jump.mp4", 3)
    with pytest.raises(DataError, match=r"1 of the files(.|\n)*goat.mp4"):
        read_boxes("davis", tmp_path)
    assert len(read_boxes("davis", tmp_path, allow_missing=True).frames) == 3
    video(tmp_path / "videos/goat.mp4", 3)
    manifest, twice = read_boxes("davis", tmp_path), [[1, 2, 30, 40]] * 2
    assert manifest.classes == ("horse", "person")
    assert rows(manifest)[:4] == [
        ("videos/jump.mp4", 0, twice, [0, 1], [False, False]),
        ("videos/jump.mp4", 1, [], [], []),
        ("videos/jump.mp4", 2, twice, [0, 1], [False, False]),
        ("videos/goat.mp4", 0, twice[:1], [ANY_CLASS], [True]),
    ]
    assert not any(frame.complete for frame in manifest.frames)
    assert {tuple(frame.track_ids) for frame in manifest.frames if len(frame) == 2} == {(1, 1)}
    assert manifest.frames[2].time_s == pytest.approx(0.08)
    coco = read_boxes("davis", tmp_path, classes=("person", "horse")).frames
    assert (coco[0].labels.tolist(), coco[3].labels.tolist()) == ([1, 0], [ANY_CLASS])
    video(tmp_path / "videos/goat.mp4", 4)
    with pytest.raises(DataError, match=r"3 boxes for 4 frames: .*goat\.mp4"):
        read_boxes("davis", tmp_path)
    with pytest.raises(DataError, match=r"boxes\.json(.|\n)*Expected `int`, got `str` - at `\$\[\.\.\.\]\.width`"):
        read_boxes("davis", davis_tree(tmp_path, width="64"))


def test_motion_shapes(tmp_path: Path) -> None:
    config = MotionShapesConfig(
        classes=("LeftRight", "UpDown"), clips_per_class_train=2, clips_per_class_test=1, clips_per_group=1, frames=4
    )
    write_motion_shapes(tmp_path, config, workers=0)
    manifest = read_boxes("motion_shapes", tmp_path)
    assert manifest.classes == ("cross", "diamond", "disc", "square", "triangle")
    assert [frame.subset for frame in manifest.frames] == ["train"] * 4 * 4 + ["test"] * 2 * 4
    truth, frame = json.loads((tmp_path / "truth.jsonl").read_text().split("\n")[0]), manifest.frames[3]
    assert (frame.path, frame.frame_index, frame.time_s, frame.width) == (truth["path"], 3, 3 / config.fps, config.size)
    assert frame.boxes == pytest.approx(np.array([shape["boxes"][3] for shape in truth["shapes"]]), abs=1e-4)
    assert [manifest.classes[label] for label in frame.labels] == [shape["name"] for shape in truth["shapes"]]
    with open_video(tmp_path / frame.path) as reader:
        assert reader.timestamps_s[3] == pytest.approx(frame.time_s)


def test_street_shapes(tmp_path: Path) -> None:
    config = StreetShapesConfig(size=64, videos_plain=0, videos_wide=1, videos_val=0, video_scenes=2, streams_train=0, streams_val=0)
    config = dataclasses.replace(config, streams_test=1, stream_s=1.0, shortest_visit_s=0.2, arrivals_per_s=2.0)
    write_street_shapes(tmp_path, config, workers=1)
    manifest = read_boxes("motion_shapes", tmp_path)
    assert manifest.classes == ("disc", "square", "triangle", "cross")
    assert [(frame.path, frame.frame_index, frame.subset) for frame in manifest.frames] == [
        *(("videos/wide_01.mp4", index, "train") for index in range(6)),
        *(("streams/test_01.mp4", index, "test") for index in range(15)),
    ]
    assert sum(map(len, manifest.frames)) > 10
    assert manifest.frames[9].time_s == pytest.approx(3 / 15)


def streets(root: Path, *shapes: Mapping[str, Any]) -> Path:
    """A data set of one video of three frames with these shapes, without frames to decode."""
    config = {"data_set": "street_shapes", "config": {"size": 100, "fps": 10.0, "kinds": ["disc", "cross"]}}
    row = {"path": "a.mp4", "group": "a", "subset": "val", "frames": 3, "shapes": list(shapes)}
    texts(root, {"config.json": json.dumps(config), "truth.jsonl": json.dumps(row) + "\n", "a.mp4": ""})
    return root


def test_boxes_belong_to_their_frames_and_an_empty_frame_has_none(tmp_path: Path) -> None:
    disc = {"name": "disc", "first_frame": 1, "boxes": [[10, 10, 20, 20]]}
    cross = {"name": "cross", "first_frame": 1, "boxes": [[50, 50, 60, 60], [52, 50, 62, 60]]}
    frames = read_boxes("motion_shapes", streets(tmp_path, disc, cross)).frames
    assert [frame.labels.tolist() for frame in frames] == [[], [0, 1], [1]]
    assert [frame.track_ids.tolist() if frame.track_ids is not None else None for frame in frames] == [None, [0, 1], [1]]
    assert frames[2].boxes.tolist() == [[52, 50, 62, 60]]
    assert (frames[0].group, frames[0].subset, frames[2].time_s) == ("a", "val", 0.2)


def test_shapes_that_the_edge_or_a_later_one_hides_are_ignored(tmp_path: Path) -> None:
    boxes = [[-30, 10, 10, 50], [-29.9, 10, 10.1, 50], [60, 60, 140, 100]]
    frames = read_boxes("motion_shapes", streets(tmp_path, {"name": "disc", "boxes": boxes})).frames
    expected = np.array([[0, 10, 10, 50], [0, 10, 10.1, 50], [60, 60, 100, 100]])
    assert np.concatenate([frame.boxes for frame in frames]).tolist() == pytest.approx(expected)
    assert [frame.ignore.tolist() for frame in frames] == [[True], [False], [False]]
    whole, three_quarters, less = [0, 0, 20, 20], [5, 0, 25, 20], [6, 0, 26, 20]
    shapes = {"name": "disc", "boxes": [whole, whole]}, {"name": "cross", "boxes": [three_quarters, less]}
    frames = read_boxes("motion_shapes", streets(tmp_path, *shapes)).frames
    assert [frame.ignore.tolist() for frame in frames] == [[True, False], [False, False], []]
    with pytest.raises(DataError, match=r"truth.jsonl(.|\n)*Expected `array` of length 4"):
        read_boxes("motion_shapes", streets(tmp_path, {"name": "disc", "boxes": [[1, 2]]}))


@pytest.mark.data
def test_pets(real_data: Path) -> None:
    root = real_data / "pets09"
    manifest = read_boxes("mot", root, annotations=[root / "gt_keyframes.txt"])
    assert len(manifest.frames) == 22
    assert sum(map(len, manifest.frames)) == 124
    assert (manifest.frames[0].frame_index, manifest.frames[-1].frame_index) == (4, 264)
    assert {(frame.width, frame.height, frame.path) for frame in manifest.frames} == {(768, 576, "vtest.avi")}


@pytest.mark.data
def test_davis_sequences(real_data: Path) -> None:
    frames = read_boxes("davis", real_data / "davis16").frames
    assert len({frame.path for frame in frames}) == 12
    assert len(frames) == 852
    assert {(frame.width, frame.height) for frame in frames} == {(854, 480)}
    assert sum(bool(frame.ignore.any()) for frame in frames) == 90 + 99  # the goat and the soapbox
