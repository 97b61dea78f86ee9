"""A finished cell is trusted if it was made as the study says now: settings, teacher and initial weights."""

import json
from pathlib import Path
from typing import Any

import pytest
from study_samples import CHAIN, cell_content, make_study, put

from vidkd.base.errors import DataError
from vidkd.bench.clip_study import ClipStudy
from vidkd.bench.study import CellKey, Places, run_cells

KEY = CellKey("rgb", -1, 0, "a")


def read(study: ClipStudy, places: Places, chosen: Any = None, key: CellKey = KEY) -> dict[str, Any]:
    ((_, cell),) = run_cells(study, "test", [[key]], places, chosen or {}, 1)
    return cell


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("--optim.lr=0.5", "optim.lr: 0.1 then, 0.5 now"),
        ("--data.transform.crop=24", "data.transform.crop: 32 then, 24 now"),
        ("--method.label_smoothing=0.1", "method.label_smoothing: 0.0 then, 0.1 now"),
        ("--init=/elsewhere/x.pt", "init: None then, /elsewhere/x.pt now"),
    ],
)
def test_a_cell_of_other_settings_is_refused(tmp_path: Path, places: Places, word: str, line: str) -> None:
    study = make_study(tmp_path)
    put(study, places, cell_content(study, KEY, accuracy=0.5))
    with pytest.raises(DataError) as raised:
        read(make_study(tmp_path, [word]), places)
    assert raised.value.what == "cell rgb-s0-a was made with other settings or data"
    assert raised.value.lines["differs"] == line


@pytest.mark.parametrize(
    "word",
    [
        "--data.root=/elsewhere",
        "--data.workers=3",
        "--train.device=cpu",
        "--train.compile=true",
    ],
)
def test_where_and_how_fast_a_cell_was_made_is_free(tmp_path: Path, places: Places, word: str) -> None:
    study = make_study(tmp_path)
    put(study, places, cell_content(study, KEY, accuracy=0.5))
    assert read(make_study(tmp_path, [word]), Places(results=places.results, runs=tmp_path / "other runs"))["seed"] == 0


def test_settings_are_all_others(tmp_path: Path, places: Places) -> None:
    found = make_study(tmp_path).settings(CellKey("attention", -1, 1, "b"), "test", places, {})
    assert found == json.loads(json.dumps(found)), "as it comes back from a file"
    assert (found["train.seed"], found["data.split"], found["task"], found["data.window.frames"]) == (1, "b", "attention_distillation", 8)
    assert (found["teacher"], found["init"], found["subset"]) == ("flow", None, "test")
    assert not {"name", "runs", "teacher_settings", "data.root", "train.device"} & set(found)


def test_a_changed_teacher_is_refused_with_its_own_cell_before_its_students(tmp_path: Path, places: Places) -> None:
    study = make_study(tmp_path, methods=CHAIN, seeds=[0], folds=["a"])
    put(study, places, *(cell_content(study, key, accuracy=0.5) for wave in study.test_waves() for key in wave))
    assert len(list(run_cells(study, "test", study.test_waves(), places, {}, 1))) == 3
    changed = make_study(tmp_path, methods={**CHAIN, "first": {"settings": {"view": "flow", "optim.lr": 0.7}}}, seeds=[0], folds=["a"])
    with pytest.raises(DataError, match="cell first-s0-a was made with other settings"):
        list(run_cells(changed, "test", changed.test_waves(["last"]), places, {}, 1))


def test_a_cell_made_with_another_choice_is_refused(tmp_path: Path, places: Places) -> None:
    study = make_study(tmp_path)
    put(study, places, cell_content(study, KEY, accuracy=0.5, chosen={"rgb": {"a": {"optim.lr": 0.3}}}))
    assert read(study, places, {"rgb": {"a": {"optim.lr": 0.3}, "b": {"optim.lr": 0.4}}})
    with pytest.raises(DataError, match=r"optim.lr: 0.3 then, 0.4 now"):
        read(study, places, {"rgb": {"a": {"optim.lr": 0.4}, "b": {"optim.lr": 0.3}}})


@pytest.mark.parametrize(("key", "setting"), [(KEY, "data.eval_crops"), (CellKey("attention", -1, 0, "a"), "method.label_smoothing")])
def test_a_cell_older_than_a_setting_had_the_default_of_its_task(tmp_path: Path, places: Places, key: CellKey, setting: str) -> None:
    """And one that is gone since says nothing."""
    study = make_study(tmp_path)
    cell = cell_content(study, key, accuracy=0.5)
    default = cell["settings"].pop(setting)
    cell["settings"]["method.long_gone"] = 3
    put(study, places, cell)
    assert read(study, places, key=key)
    other = 2 if default else 0.25
    with pytest.raises(DataError, match=rf"{setting}: {default} then, {other} now"):
        read(study, places, {key.method: {"a": {setting: other}}}, key)
