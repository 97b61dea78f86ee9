"""vidkd tkd --compare-policies: all policies along the same video, and their quality in the report."""

import json
from pathlib import Path

import pytest
from tkd_runs import run

from vidkd.base.errors import DataError
from vidkd.base.roots import roots_of
from vidkd.bench.streams.study import read_stream_study
from vidkd.bench.study import Places
from vidkd.detection.policies import BARE, save_selector
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig


@pytest.mark.slow
def test_every_policy_learns_along_the_same_video(
    video: Path, networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = ("--compare-policies", "0.1,0.2")
    assert run(video, networks, tmp_path, *shares) == 0
    folder = tmp_path / "street" / "policies"
    study = read_stream_study(folder / "study.yaml").spec
    assert study.calls == [0.1, 0.2]
    assert study.update["lr"] == 0.01
    assert set(study.methods) == {"student", "oracle", "hindsight", *BARE}
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert {
        name: method["metrics"]["oracle_calls@calls20"]["mean"] for name, method in summary["methods"].items() if name in BARE
    } == dict.fromkeys(BARE, 4.0)
    page = (tmp_path / "street" / "report.html").read_text(encoding="utf-8")
    assert "hindsight" in page
    calls = json.loads((tmp_path / "street" / "summary.json").read_text(encoding="utf-8"))["learning"]["calls"]
    assert calls == 4
    cells = folder / "cells.parquet"
    before = cells.stat().st_mtime_ns
    capsys.readouterr()
    assert run(video, networks, tmp_path, *shares) == 0
    assert cells.stat().st_mtime_ns == before, "what is there is not run again"


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--compare-policies", 1.1], "'--compare-policies' has a wrong value"),
        (["--compare-policies", 0.1, "--every", 2], "not possible with --every"),
        (["--compare-policies", 0.1, "--oracle-runtime", "onnxruntime"], "not possible with --oracle-runtime"),
        (["--compare-policies", 0.1, "--oracle", "torchvision:fasterrcnn_resnet50_fpn"], "not torchvision:fasterrcnn_resnet50_fpn"),
        (["--compare-policies", 0.1, "--oracle", "."], "asks a darknet .cfg or an exported file, not ."),
    ],
)
def test_what_a_study_cannot_follow(
    more: list[object], text: str, video: Path, networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(video, networks, tmp_path / "out", *more) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_selector_that_a_study_would_refuse_is_told_at_once(
    video: Path, networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selector = tmp_path / "selector.pt"
    save_selector(selector, KeyFrameLSTM(SelectorConfig(features=8, units=4)))
    assert run(video, networks, tmp_path / "out", "--policy", selector, "--compare-policies", 0.1) == 2
    error = capsys.readouterr().err
    assert "would judge the selector by what it knows already" in error
    assert f"the selector {selector} does not say which videos" in error
    assert not (tmp_path / "out").exists()


def test_a_study_that_fails_leaves_the_run_its_own_report(
    video: Path, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> int:
        raise DataError("no study today")

    monkeypatch.setattr("vidkd.cli.study.run", failing)
    assert run(video, networks, tmp_path, "--compare-policies", 0.1) == 2
    assert "no study today" in capsys.readouterr().err
    folder = tmp_path / "street"
    assert {"report.html", "key_frames.jsonl", "losses.csv"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["learning"]["calls"] == 4
    monkeypatch.setenv("VIDKD_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "student.cfg").write_text("of somebody else")
    study = read_stream_study(folder / "policies" / "study.yaml")
    places = Places(roots=roots_of(()), results=tmp_path, cache=tmp_path)
    assert study.find(study.spec.student.cfg, places) == (folder / "policies" / "student.cfg").resolve()


def test_a_camera(networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Path("0"), networks, tmp_path / "out", "--compare-policies", 0.1) == 2
    assert "--compare-policies needs a video file" in capsys.readouterr().err
