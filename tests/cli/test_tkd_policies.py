"""vidkd tkd --compare-policies: all policies along the same video, and their quality in the report."""

import json
from pathlib import Path

import pytest
from tkd_runs import run

from vidkd.bench.streams.reading import read_stream_study
from vidkd.detection.policies import BARE


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


def test_every_policy_learns_along_the_same_video(
    video: Path, networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = ("--compare-policies", 0.1, 0.2)
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
    assert "F1 against the oracle, at shares of frames sent to it" in page
    assert "hindsight" in page
    calls = json.loads((tmp_path / "street" / "summary.json").read_text(encoding="utf-8"))["learning"]["calls"]
    assert calls == 4
    fixed = next((folder / "test" / "fixed").glob("fixed-calls20-*.json"))
    assert json.loads(fixed.read_text(encoding="utf-8"))["called"] == [0, 5, 10, 15], "the frames that the run itself called"
    before = fixed.stat().st_mtime_ns
    capsys.readouterr()
    assert run(video, networks, tmp_path, *shares) == 0
    assert fixed.stat().st_mtime_ns == before, "what is there is not run again"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--compare-policies", 0.1, 0.1], "different shares of frames, in (0, 1]: 0.1, 0.1"),
        (["--compare-policies", 0], "in (0, 1]: 0.0"),
        (["--compare-policies", 0.1, "--every", 2], "leave out --every"),
        (["--compare-policies", 0.1, "--asynchronous"], "leave out --asynchronous"),
    ],
)
def test_what_a_study_cannot_follow(
    more: list[object], told: str, video: Path, networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(video, networks, tmp_path / "out", *more) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_camera(networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Path("0"), networks, tmp_path / "out", "--compare-policies", 0.1) == 2
    assert "--compare-policies needs a video file" in capsys.readouterr().err
