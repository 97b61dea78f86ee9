"""Cells of streams of several videos: places, truth at returns, the last allowed frame, and selectors that know the stream."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from stream_study_samples import (
    FRAMES,
    CountingPainter,
    Painter,
    make_places,
    make_study,
    run_one,
    stream,
    study_content,
    write_selector,
)

from vidkd.base.errors import ConfigError, DataError
from vidkd.bench.streams.figures import Annotated, OnAnnotated
from vidkd.bench.streams.footage import check_streams_apart, oracle_boxes, ranges_of, stretches_of, truth_of
from vidkd.bench.streams.study import read_stream_study
from vidkd.bench.study import CellKey, run_cells
from vidkd.detection.policies import save_selector
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig
from vidkd.report.study import study_tables
from vidkd.video.files import content_of

pytestmark = pytest.mark.usefixtures("painter")


def test_a_selector_that_has_seen_the_stream_or_another_student_is_refused(root, tmp_path, caplog) -> None:
    study = make_study(tmp_path, study_content(methods={"student": {"kind": "frozen"}, "lstm": {"policy": "own.pt"}}))
    places, key = make_places(root, tmp_path), CellKey("lstm", -1, 0, "both", 0.1)
    output = [
        (
            {"videos": {"train": [], "validate": [content_of(root / "both")]}},
            r"(?s)has seen both in its training.*stream *: both",
        ),
        ({"videos": {"train": [content_of(root / "both")], "validate": []}}, "has seen both"),
        ({"student": {"weights": "other", "resize": "stretch"}}, r"with another student: its weights, resize differ"),
    ]
    for over, message in output:
        write_selector(tmp_path / "own.pt", **over)
        with pytest.raises(ConfigError, match=message):
            run_one(study, key, places)
    save_selector(tmp_path / "own.pt", KeyFrameLSTM(SelectorConfig(features=24, units=4)), {"train": ["other.mp4"]})
    with pytest.raises(ConfigError, match=r"(?s)does not say which videos.*vidkd train_selector"):
        run_one(study, key, places)
    assert "other learning" not in caplog.text
    write_selector(tmp_path / "own.pt", made_from={"budget": 0.05, "update": {"steps": 3}})
    assert len(run_one(study, key, places)["called"]) == 4
    assert "lstm-calls10-s0-both: the selector" in caplog.text
    assert "was trained with other learning: budget: 0.05 then, 0.1 now; update.steps: 3 then, 8 now" in caplog.text


def joined(root: Path, folder: Path, methods=None, **stream):
    segments = [
        {"video": "both", "frames": [0, 10], "name": "first"},
        {"video": "bars"},
        {"video": "both", "frames": [5, 12], "name": "again"},
    ]
    over = {} if methods is None else {"methods": methods}
    study = make_study(folder, study_content(streams={"aba": {"segments": segments, **stream}}, **over))
    places = make_places(root, folder)
    return study, places, stretches_of(study, "aba", places)


def test_a_joined_stream_has_places_of_its_own_and_ranges_of_named_segments(root, tmp_path) -> None:
    study, places, stretches = joined(root, tmp_path, ranges={"middle": [10, 34]})
    assert ranges_of(study, "aba", stretches) == {"all": (0, 41), "middle": (10, 34), "first": (0, 10), "again": (34, 41)}
    boxes = oracle_boxes(stretches, study.oracle_files(places), places.cache).for_student(("square", "bar"))
    assert [found.frame_index for found in boxes] == list(range(41))
    np.testing.assert_array_equal(boxes[5].boxes, boxes[34].boxes)
    assert {len(found) for found in boxes[10:34]} == {1}


def test_after_the_last_allowed_frame_the_student_goes_on_alone(root, tmp_path) -> None:
    study, places, _ = joined(root, tmp_path, calls_until=20)  # a tenth of these, not of all
    cell = run_one(study, CellKey("fixed", -1, 0, "aba", 0.1), places)
    assert cell["called"] == [0, 10]
    assert len(cell["counts"]["right"]) == 41


def test_a_student_adapted_offline_learns_before_the_last_allowed_frame(root, tmp_path) -> None:
    study, places, _ = joined(root, tmp_path, {"student": {"kind": "frozen"}, "offline": {"kind": "first_tenth"}}, calls_until=2)
    cell = run_one(study, CellKey("offline", -1, 0, "aba", 0.1), places)
    assert cell["called"] == [0]  # a tenth of two frames is none, but one call is the least
    assert cell["kept"] == [2]


def test_truth_is_found_at_every_return_of_a_frame(root, tmp_path) -> None:
    rows = [f"{frame + 1},1,10,10,20,20,1" for frame in (2, 6)]
    (root / "gt.txt").write_text("\n".join(rows) + "\n")
    truth = {"layout": "mot", "folder": "mot", "annotations": ["gt.txt"]}
    (root / "mot").mkdir(exist_ok=True)
    if not (root / "mot" / "img1").exists():
        (root / "mot" / "img1").symlink_to(root / "both")
    study, places, stretches = joined(root, tmp_path, truth=truth)
    manifest = truth_of(study, "aba", stretches, ("person", "bar"), places)
    assert [(frame.path, frame.frame_index) for frame in manifest.frames] == [("aba", 2), ("aba", 6), ("aba", 35)]
    with pytest.raises(DataError, match="no annotated frame"):
        truth_of(study, "aba", stretches[1:2], ("person", "bar"), places)


def test_cells_judged_by_other_boxes_are_refused(root, tmp_path) -> None:
    layout = tmp_path / "mot"
    layout.mkdir()
    (layout / "img1").symlink_to(root / "both")
    (layout / "gt.txt").write_text("3,1,10,10,20,20,1\n")
    streams = {"both": {"segments": [{"video": "mot/img1"}], "truth": {"layout": "mot", "folder": "mot", "annotations": ["mot/gt.txt"]}}}
    names = tmp_path / "people.names"
    names.write_text("person\nbar\n")
    student = {**study_content()["student"], "names": "people.names"}
    study = make_study(tmp_path, study_content(streams=streams, student=student, methods={"student": {"kind": "frozen"}}))
    places = make_places(root, tmp_path)
    waves = study.test_waves()
    first = dict(run_cells(study, "test", waves, places, {}, 1))
    (layout / "gt.txt").write_text("3,1,10,10,20,20,1,-1,-1,-1\n")  # the same box, written otherwise
    assert dict(run_cells(study, "test", waves, places, {}, 1)) == first
    (layout / "gt.txt").write_text("3,1,10,10,20,21,1\n")
    study = read_stream_study(study.path)
    with pytest.raises(DataError, match=r"(?s)other settings or data.*truth: "):
        list(run_cells(study, "test", waves, places, {}, 1))


def test_average_precision_stands_with_intervals_next_to_f1(root, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(CountingPainter, "class_names", ("cloud", "bar", "person"))
    layout = tmp_path / "mot"
    layout.mkdir()
    (layout / "img1").symlink_to(root / "both")
    rows = []
    for place, frame in enumerate(stream(FRAMES)):
        x1, y1, x2, y2 = Painter.look(frame).boxes[0].tolist()
        rows += [f"{place + 1},1,{x1},{y1},{x2 - x1},{y2 - y1},1"] if place % 4 == 0 else []
    (layout / "gt.txt").write_text("\n".join(rows) + "\n")
    (tmp_path / "people.names").write_text("person\nbar\n")
    truth = {"layout": "mot", "folder": "mot", "annotations": ["mot/gt.txt"]}
    study = make_study(
        tmp_path,
        study_content(
            streams={"both": {"segments": [{"video": "mot/img1"}], "truth": truth, "ranges": {"late": [20, 40]}}},
            student={**study_content()["student"], "names": "people.names"},
            methods={"student": {"kind": "frozen"}, "fixed": {}, "oracle": {"kind": "oracle"}},
        ),
    )
    places = make_places(root, tmp_path)
    cells = dict(run_cells(study, "test", study.test_waves(), places, {}, 1))
    summary = study.summarise(places.store(study.name).cells("test"), {})
    methods = {name: method["metrics"] for name, method in summary["methods"].items()}
    for metric in ("ap50", "ap50_late", "ap30", "ap30_late"):
        assert methods["oracle"][f"{metric}@calls10"]["mean"] == 1.0
        assert methods["oracle"][f"{metric}@calls10"]["ci95"] == (1.0, 1.0)
    kept = Annotated.of_columns(cells[CellKey("fixed", -1, 1, "both", 0.1)]["annotated"])
    assert kept.places.tolist() == list(range(0, FRAMES, 4))
    own = OnAnnotated(seed=1, place="both", judged=kept.between(20, 40), metric="ap30")
    assert methods["fixed"]["ap30_late@calls10"]["values"]["1/both"] == own.value
    pair = next(pair for pair in summary["paired"] if (pair["method"], pair["metric"]) == ("oracle", "ap50@calls10"))
    assert pair["difference"] == pytest.approx(1 - methods["student"]["ap50@calls10"]["mean"])
    assert pair["ci95"][0] <= pair["difference"] <= pair["ci95"][1]
    assert summary["data"]["shorter_blocks"] == {"ap50": [2], "ap30": [2], "f1_late": [5], "ap50_late": [1], "ap30_late": [1]}
    at, minus = study_tables(summary)
    assert (at.title, minus.title) == ("At 10 % calls", "Minus student, at 10 % calls")
    assert minus.columns[:3] == ("method", "f1", "ap50")
    assert "recall" not in at.columns


def test_footage_that_is_not_there_is_told(root, tmp_path) -> None:
    study, places, _ = joined(root, tmp_path)
    long = make_study(tmp_path, study_content(streams={"a": {"segments": [{"video": "both", "frames": [0, 99]}]}}))
    with pytest.raises(DataError, match="frames up to 99"):
        stretches_of(long, "a", places)
    beyond = make_study(tmp_path, study_content(streams={"a": {"segments": [{"video": "both"}], "ranges": {"late": [9, 99]}}}))
    with pytest.raises(ConfigError, match=r"streams.a.ranges.late ends at 99, the stream at 40"):
        ranges_of(beyond, "a", stretches_of(beyond, "a", places))
    with pytest.raises(ConfigError, match=r"(?s)not there: nowhere.*--data.root DIR"):
        study.find("nowhere", places)


def test_a_damaged_file_of_the_oracle_s_boxes_is_made_anew(root, tmp_path, caplog) -> None:
    study, places, stretches = joined(root, tmp_path)
    first = oracle_boxes(stretches, study.oracle_files(places), places.cache)
    for path in places.cache.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:50])
    before = CountingPainter.seen
    again = oracle_boxes(stretches, study.oracle_files(places), places.cache)
    assert CountingPainter.seen - before == 41
    assert "damaged" in caplog.text
    for one, other in zip(first.detections, again.detections, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)


@pytest.mark.parametrize("way", ["copy", "link", "dots", "absolute"])
def test_tuning_and_test_streams_are_told_apart_by_content(root, tmp_path, way) -> None:
    """A copy, a link or another spelling of the same video; other frames of it are other data."""
    if way == "copy":
        shutil.copytree(root / "both", tmp_path / "copied")
    if way == "link":
        (tmp_path / "copied").symlink_to(root / "both")
    name = {"dots": "bars/../both", "absolute": str(root / "both")}.get(way, "copied")

    def study(first, second):
        segments = {"tuned": {"video": name, "frames": first}, "tested": {"video": "both", "frames": second}}
        streams = {stream: {"segments": [segment]} for stream, segment in segments.items()}
        return make_study(tmp_path, study_content(streams=streams, tuning={"streams": ["tuned"], "seeds": [9]}))

    places = make_places(root, tmp_path)
    check_streams_apart(study([0, 9], [9, 20]), places)
    with pytest.raises(ConfigError, match=rf"'tuned' \(tuning\) and 'tested' share frames of {re.escape(name)}"):
        check_streams_apart(study([0, 9], [8, 20]), places)
