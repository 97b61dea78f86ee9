import csv
import io
import json

import numpy as np
import pytest

from vidkd.base.errors import ConfigError, DataError, MissingExtraError
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import (
    CSV_COLUMNS,
    coco_rows,
    csv_rows,
    from_row,
    from_supervision,
    mot_lines,
    read_json_lines,
    to_row,
    to_supervision,
    write_coco,
    write_coco_results,
    write_csv,
    write_json_lines,
    write_mot,
)

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
        ("[]", DataError, "it is no mapping"),
        ({**ROW, "classes": ["persn"]}, ConfigError, "unknown class 'persn'"),
        ({**ROW, "scores": [0.5, 0.6]}, DataError, "differ in number"),
        ({**ROW, "frame": -1}, DataError, "frame is no whole number from 0: -1"),
        ({**ROW, "frame": 1.0}, DataError, "frame is no whole number from 0: 1.0"),
        ({**ROW, "time_s": "0:01"}, DataError, "not a line of detections"),
        ({**ROW, "scores": ["high"]}, DataError, "not a line of detections"),
        ({**ROW, "scores": [None]}, DataError, "scores of frame 0 are not finite"),
        ({key: value for key, value in ROW.items() if key != "boxes"}, DataError, "'boxes' is missing"),
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


def test_coco_results_as_evaluators_read_them():
    rows = coco_rows(some(), NAMES, first_image=100, category_ids=(1, 10, 90))
    assert rows == [
        {"image_id": 104, "category_id": 90, "bbox": [10, 20, 20.5, 40], "score": 0.9, "track_id": 7},
        {"image_id": 104, "category_id": 1, "bbox": [0.1, 0, 4.9, 6.25], "score": 0.3, "track_id": 9},
    ]
    assert [row["category_id"] for row in coco_rows(some(track_ids=None), NAMES)] == [3, 1]
    with pytest.raises(ValueError, match="2 category ids do not fit 3 classes"):
        coco_rows(some(), NAMES, category_ids=(1, 2))


def test_coco_results_of_a_stream_are_one_list():
    frames = random_frames()
    file = io.StringIO()
    write_coco_results(file, iter(frames), NAMES)
    assert json.loads(file.getvalue()) == [row for frame in frames for row in coco_rows(frame, NAMES)]
    file = io.StringIO()
    write_coco_results(file, [Detections.none()], NAMES)
    assert json.loads(file.getvalue()) == []


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


def test_coco_files_load_in_faster_coco_eval(tmp_path):
    faster = pytest.importorskip("faster_coco_eval")
    frames = [frame for frame in random_frames() if len(frame)]
    with (tmp_path / "truth.json").open("w", encoding="utf-8") as file:
        write_coco(file, frames, NAMES, size=(900, 900), video="a.mp4")
    with (tmp_path / "found.json").open("w", encoding="utf-8") as file:
        write_coco_results(file, frames, NAMES)
    truth = faster.COCO(str(tmp_path / "truth.json"))
    evaluation = faster.COCOeval_faster(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox", print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)  # boxes against themselves


def test_mot_counts_frames_from_one_and_writes_sizes():
    assert mot_lines(some()) == ["5,7,10.0,20.0,20.5,40.0,0.9,-1,-1,-1", "5,9,0.1,0.0,4.9,6.25,0.3,-1,-1,-1"]
    assert mot_lines(some(track_ids=None))[0].startswith("5,-1,10.0,")
    assert [line[:5] for line in mot_lines(some(track_ids=(-1, 9)))] == ["5,9,0"], "what has no track is no track"
    file = io.StringIO()
    frames = random_frames()
    write_mot(file, frames)
    table = np.loadtxt(io.StringIO(file.getvalue()), delimiter=",")
    boxes = np.concatenate([frame.boxes for frame in frames])
    np.testing.assert_allclose(table[:, 2:4] + table[:, 4:6], boxes[:, 2:], rtol=1e-5)
    assert table[:, 0].tolist() == [frame.frame_index + 1 for frame in frames for _ in range(len(frame))]


def test_csv_has_a_line_a_box():
    file = io.StringIO()
    frames = random_frames()
    write_csv(file, frames, NAMES)
    rows = list(csv.reader(io.StringIO(file.getvalue())))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert rows[1:] == [[str(value) for value in row] for frame in frames for row in csv_rows(frame, NAMES)]
    assert csv_rows(some(), NAMES)[0] == (4, 0.16, 10, 20, 30.5, 60, 0.9, "Füchsin", 7)
    assert csv_rows(some(time_s=None, track_ids=None), NAMES)[1] == (4, "", 0.1, 0, 5, 6.25, 0.3, "person", "")


@pytest.mark.parametrize("over", [{"boxes": [[0, 0, np.inf, 1], [0, 0, 1, 1]]}, {"scores": [np.nan, 0]}, {"time_s": np.nan}])
@pytest.mark.parametrize(
    "write",
    [
        lambda d: to_row(d, NAMES),
        lambda d: coco_rows(d, NAMES),
        mot_lines,
        lambda d: csv_rows(d, NAMES),
        lambda d: to_supervision(d, NAMES),
    ],
)
def test_numbers_that_are_not_finite_are_refused(write, over):
    with pytest.raises(DataError, match=f"{next(iter(over))} of frame 4 are not finite"):
        write(some(**over))


@pytest.mark.parametrize("write", [to_row, coco_rows, csv_rows, to_supervision])
def test_labels_without_a_name_are_refused(write):
    for labels in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match="do not fit 3 class names"):
            write(some(labels=labels), NAMES)


def test_supervision_and_back():
    for frame in random_frames():
        found = to_supervision(frame, NAMES)
        assert found.data["class_name"].tolist() == [NAMES[label] for label in frame.labels]
        if len(frame):
            same(from_supervision(found, frame_index=frame.frame_index, time_s=frame.time_s), frame)
    nothing = from_supervision(to_supervision(Detections.none(), NAMES), frame_index=6, time_s=0.5)
    same(nothing, Detections.none(frame_index=6, time_s=0.5))


def test_supervisions_boxes_without_scores_are_refused():
    supervision = pytest.importorskip("supervision")
    with pytest.raises(ValueError, match="no confidence or no class_id"):
        from_supervision(supervision.Detections(xyxy=np.asarray([[0, 0, 1, 1]])))
    assert len(from_supervision(supervision.Detections.empty())) == 0


def test_a_missing_supervision_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vidkd\[detect\]'"):
        to_supervision(some(), NAMES)
