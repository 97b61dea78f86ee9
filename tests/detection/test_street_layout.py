"""The boxes of the generated streams."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.data.synthetic.street import write_street_shapes
from vidkd.data.synthetic.street_scene import StreetShapesConfig
from vidkd.detection.layouts import BOX_LAYOUTS, BoxOptions, BoxReading


def read(root: Path) -> BoxReading:
    return BOX_LAYOUTS["motion_shapes"](root, BoxOptions())


def streets(root: Path, *rows: dict[str, Any], kinds: tuple[str, ...] = ("disc", "cross")) -> Path:
    """A data set of these rows of truth.jsonl, without frames to decode."""
    config = {"data_set": "street_shapes", "config": {"size": 100, "fps": 10.0, "kinds": list(kinds)}}
    (root / "config.json").write_text(json.dumps(config))
    (root / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "a.mp4").touch()
    return root


def row(*shapes: dict[str, Any], **over: Any) -> dict[str, Any]:
    return {"path": "a.mp4", "group": "a", "subset": "val", "frames": 3, "shapes": list(shapes), **over}


def test_a_written_data_set_is_read_whole(tmp_path: Path) -> None:
    config = StreetShapesConfig(size=64, videos_plain=0, videos_wide=1, videos_val=0, video_scenes=2, streams_train=0, streams_val=0)
    config = StreetShapesConfig(**{**config.__dict__, "streams_test": 1, "stream_s": 2.0, "shortest_visit_s": 0.2, "arrivals_per_s": 2.0})
    write_street_shapes(tmp_path, config, workers=1)
    manifest = read(tmp_path).manifest
    assert manifest.classes == ("disc", "square", "triangle", "cross")
    assert [(frame.path, frame.frame_index, frame.subset) for frame in manifest.frames] == [
        *(("videos/wide_01.mp4", index, "train") for index in range(6)),
        *(("streams/test_01.mp4", index, "test") for index in range(30)),
    ]
    assert sum(map(len, manifest.frames)) > 20
    for frame in manifest.frames:
        assert (frame.boxes >= 0).all()
        assert (frame.boxes <= 64).all()
    assert manifest.frames[9].time_s == pytest.approx(3 / 15)


def test_boxes_belong_to_their_frames_and_an_empty_frame_has_none(tmp_path: Path) -> None:
    disc = {"name": "disc", "first_frame": 1, "boxes": [[10, 10, 20, 20]]}
    cross = {"name": "cross", "first_frame": 1, "boxes": [[50, 50, 60, 60], [52, 50, 62, 60]]}
    frames = read(streets(tmp_path, row(disc, cross))).manifest.frames
    assert [frame.labels.tolist() for frame in frames] == [[], [0, 1], [1]]
    assert [frame.track_ids.tolist() if frame.track_ids is not None else None for frame in frames] == [None, [0, 1], [1]]
    assert frames[2].boxes.tolist() == [[52, 50, 62, 60]]
    assert (frames[0].group, frames[0].subset, frames[2].time_s) == ("a", "val", 0.2)


def test_what_the_edge_hides_is_cut_and_ignored(tmp_path: Path) -> None:
    boxes = [[-30, 10, 10, 50], [-29.9, 10, 10.1, 50], [60, 60, 140, 100]]
    frames = read(streets(tmp_path, row({"name": "disc", "first_frame": 0, "boxes": boxes}))).manifest.frames
    assert np.concatenate([frame.boxes for frame in frames]).tolist() == pytest.approx(
        np.array([[0, 10, 10, 50], [0, 10, 10.1, 50], [60, 60, 100, 100]])
    )
    assert [frame.ignore.tolist() for frame in frames] == [[True], [False], [False]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row({"name": "square", "first_frame": 0, "boxes": [[0, 0, 9, 9]]}), "truth.jsonl:1: unknown class 'square'"),
        (row({"name": "disc", "first_frame": -1, "boxes": [[0, 0, 9, 9]]}), "Expected `int` >= 0"),
        (row({"name": "disc", "first_frame": 0, "boxes": [[0, 0, 9]]}), "Expected `array` of length 4"),
    ],
)
def test_rows_that_cannot_be_are_refused(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(streets(tmp_path, wrong))
