import csv
import io
import json

import numpy as np
import pytest

from vidkd.base.errors import ConfigError, DataError
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import CSV_COLUMNS, from_row, read_json_lines, to_row, write_coco, write_csv, write_mot

NAMES = ("person", "traffic light", "Füchsin")


def some(frame_index=4, time_s=0.16, track_ids=(7, 9), **over) -> Detections:
    boxes = [[10, 20, 30.5, 60], [0.1, 0, 5, 6.25]]
    keys = {"boxes": boxes, "scores": [0.9, 0.3], "labels": [2, 0], "frame_index": frame_index, "time_s": time_s, "track_ids": track_ids}
    return Detections(**{**keys, **over})


def random_frames(count=20) -> list[Detections]:
    rng = np.random.default_rng(0)
    frames = []
    for index in range(count):
        n = index % 4
        corners = rng.uniform(-5, 700, (n, 2))
        tracks = rng.integers(0, 99, n) if index % 2 else None
        boxes = np.concatenate([corners, corners + rng.uniform(0.1, 90, (n, 2))], 1)
        time_s = None if index == 3 else index / 30
        frames.append(
            Detections(
                boxes=boxes, scores=rng.uniform(size=n), labels=rng.integers(0, 3, n), frame_index=index, time_s=time_s, track_ids=tracks
            )
        )
    return frames


def same(a: Detections, b: Detections) -> None:
    assert (a.frame_index, a.time_s) == (b.frame_index, b.time_s)
    assert (a.track_ids is None) == (b.track_ids is None)
    for name in ("boxes", "scores", "labels") + (() if a.track_ids is None else ("track_ids",)):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def write_json_lines(file, frames, names):
    file.writelines(json.dumps(to_row(frame, names), ensure_ascii=False) + "\n" for frame in frames)


def test_a_json_line_as_it_stands_in_the_file():
    file = io.StringIO()
    write_json_lines(file, [some(), Detections.none(frame_index=5)], NAMES)
    assert file.getvalue() == (
        '{"frame": 4, "time_s": 0.16, "boxes": [[10.0, 20.0, 30.5, 60.0], [0.1, 0.0, 5.0, 6.25]], "scores": [0.9, 0.3], '
        '"classes": ["Füchsin", "person"], "track_ids": [7, 9]}\n'
        '{"frame": 5, "time_s": null, "boxes": [], "scores": [], "classes": []}\n'
    )


def test_json_lines_give_the_same_detections_again_to_the_last_bit(tmp_path):
    path, frames = tmp_path / "d.jsonl", random_frames()
    with path.open("w", encoding="utf-8") as file:
        write_json_lines(file, frames, NAMES)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"frame": 99, "time_s"')  # a killed writer
    got = list(read_json_lines(path, NAMES))
    assert len(got) == len(frames)
    for one, other in zip(got, frames, strict=True):
        same(one, other)


def test_json_lines_read_with_classes_in_another_order(tmp_path):
    assert from_row(to_row(some(), NAMES), NAMES[::-1]).labels.tolist() == [0, 2]


ROW = {"frame": 0, "time_s": 0.0, "boxes": [[0, 0, 1, 1]], "scores": [0.5], "classes": ["person"]}


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        ("{", DataError, "not JSON"),
        ("[]", DataError, "not a line of detections"),
        ({**ROW, "classes": ["persn"]}, ConfigError, "unknown class 'persn'"),
        ({**ROW, "scores": [0.5, 0.6]}, DataError, "differ in number"),
        ({**ROW, "time_s": "0:01"}, DataError, "not a line of detections"),
        ({**ROW, "scores": ["high"]}, DataError, "not a line of detections"),
        ({**ROW, "scores": [None]}, DataError, "scores of frame 0 are not finite"),
        ({key: value for key, value in ROW.items() if key != "boxes"}, DataError, "'boxes'"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, row, error, message):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + (row if isinstance(row, str) else json.dumps(row)) + "\n", encoding="utf-8")
    rows = read_json_lines(path, NAMES)
    assert len(next(rows)) == 1
    with pytest.raises(error, match=message) as caught:
        next(rows)
    assert f"{path}:2" in str(caught.value)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="file of detections not found"):
        list(read_json_lines(tmp_path / "none.jsonl", NAMES))


def test_other_keys_may_stand_in_a_line():
    same(from_row({**to_row(some(), NAMES), "key_frame": True}, NAMES), some())


def test_a_coco_data_set_holds_frames_without_boxes_too():
    file = io.StringIO()
    write_coco(file, iter([some(), Detections.none(frame_index=5)]), NAMES, size=(640, 480), video="a.mp4")
    content = json.loads(file.getvalue())
    assert content["images"] == [
        {"id": 4, "file_name": "a.mp4#4", "width": 640, "height": 480, "frame_index": 4, "time_s": 0.16},
        {"id": 5, "file_name": "a.mp4#5", "width": 640, "height": 480, "frame_index": 5, "time_s": None},
    ]
    assert content["categories"] == [{"id": number + 1, "name": name} for number, name in enumerate(NAMES)]
    first, second = content["annotations"]
    assert first["bbox"] == [10, 20, 20.5, 40]
    assert (first["id"], first["image_id"], first["category_id"], first["area"], first["iscrowd"]) == (1, 4, 3, 820, 0)
    assert (second["id"], second["track_id"]) == (2, 9)


def mot_lines(*frames):
    file = io.StringIO()
    write_mot(file, frames)
    return file.getvalue().splitlines()


def test_mot_counts_frames_from_one_and_writes_sizes():
    assert mot_lines(some()) == ["5,7,10.0,20.0,20.5,40.0,0.9,-1,-1,-1", "5,9,0.1,0.0,4.9,6.25,0.3,-1,-1,-1"]
    assert mot_lines(some(track_ids=None))[0].startswith("5,-1,10.0,")
    assert [line[:5] for line in mot_lines(some(track_ids=(-1, 9)))] == ["5,9,0"], "what has no track is no track"
    frames = random_frames()
    assert [int(line.split(",")[0]) for line in mot_lines(*frames)] == [
        frame.frame_index + 1 for frame in frames for _ in range(len(frame))
    ]


def test_csv_has_a_line_a_box():
    file = io.StringIO()
    write_csv(file, [some(), some(time_s=None, track_ids=None)], NAMES)
    head, first, *_, last = csv.reader(io.StringIO(file.getvalue()))
    assert tuple(head) == CSV_COLUMNS
    assert first == ["4", "0.16", "10.0", "20.0", "30.5", "60.0", "0.9", "Füchsin", "7"]
    assert last == ["4", "", "0.1", "0.0", "5.0", "6.25", "0.3", "person", ""]


@pytest.mark.parametrize("over", [{"boxes": [[0, 0, np.inf, 1], [0, 0, 1, 1]]}, {"scores": [np.nan, 0]}, {"time_s": np.nan}])
@pytest.mark.parametrize("write", [lambda d: to_row(d, NAMES), mot_lines])
def test_numbers_that_are_not_finite_are_refused(write, over):
    with pytest.raises(DataError, match=f"{next(iter(over))} of frame 4 are not finite"):
        write(some(**over))
