"""Ctrl-C in vidkd benchmark: whole rounds are kept, and what is written says that there are fewer."""

import signal
from pathlib import Path
from typing import Any

import pytest
from benchmark_runs import benchmark, write

from vidkd.base.errors import CheckpointError
from vidkd.bench.speed import run as speed_run
from vidkd.bench.speed.cold_start import ColdStart
from vidkd.bench.speed.config import ModelSpec
from vidkd.bench.summary import read_summary

STARTED = ColdStart(total_s=2.0, answer_s=0.1, peak_bytes=2**20, peak_gpu_bytes=None)


def configuration(folder: Path, **settings: object) -> Path:
    models = {"a": {"backbone": "tiny3d"}, "b": {"backbone": "tiny3d"}}
    return write(folder / "b.yaml", models, batches=[1], shape={"frames": 4, "size": 32}, **{"rounds": 4, **settings})


def press_after_round(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C in a round, of which the first does not count."""
    turns, block = [], speed_run.block

    def turn(*arguments: Any, **named: Any) -> list[float]:
        turns.append(1)
        if len(turns) == 2 * number + 1:  # the first of both models are tries
            signal.raise_signal(signal.SIGINT)
        return block(*arguments, **named)

    monkeypatch.setattr(speed_run, "block", turn)


def test_whole_rounds_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    press_after_round(monkeypatch, 3)
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(speed_run, "_cold_start", lambda *_: STARTED)
    out = tmp_path / "out"
    assert benchmark(configuration(tmp_path, cold_starts=3), "--out", out, "--device", "cpu") == 130
    assert signal.getsignal(signal.SIGINT) is before
    text = capsys.readouterr()
    assert "interrupted; all figures are of the complete rounds: 2" in text.err
    assert "written: " in text.out
    summary = read_summary(out / "summary.json")
    assert (summary["data"]["rounds"], summary["data"]["cold_starts"], summary["data"]["interrupted"]) == (2, 0, True)
    assert "2: interrupted, so fewer than asked for" in (out / "report.html").read_text(encoding="utf-8")


def test_cold_starts_are_kept_turn_by_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def start(_: object, label: str, *__: object) -> ColdStart:
        asked.append(label)
        if len(asked) == 2 + 2 + 1:  # a try of each, a turn that does not count, the first of the first that does
            signal.raise_signal(signal.SIGINT)
        return STARTED

    monkeypatch.setattr(speed_run, "_cold_start", start)
    assert benchmark(configuration(tmp_path, cold_starts=3, rounds=1), "--out", tmp_path / "out", "--device", "cpu") == 130
    data = read_summary(tmp_path / "out" / "summary.json")["data"]
    assert (data["rounds"], data["cold_starts"], data["interrupted"]) == (1, 1, True)


def test_without_a_whole_round_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    press_after_round(monkeypatch, 1)
    assert benchmark(configuration(tmp_path), "--out", tmp_path / "out", "--device", "cpu") == 130
    assert "no round was complete, so nothing is written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def failing(monkeypatch: pytest.MonkeyPatch, label: str, after: int) -> list[str]:
    """Cold starts of which those of one backbone fail from the `after`-th on; noted is which were asked for."""
    asked: list[str] = []

    def start(spec: ModelSpec, **_: object) -> ColdStart:
        asked.append(spec.what)
        if spec.what == label and asked.count(label) > after:
            raise CheckpointError(f"a fresh process cannot answer with {label}", reason="killed")
        return ColdStart(total_s=2.0, answer_s=0.1, peak_bytes=2**20, peak_gpu_bytes=None)

    monkeypatch.setattr(speed_run, "cold_start", start)
    return asked


def test_a_cold_start_that_fails_is_told_and_all_else_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = failing(monkeypatch, "tiny3d", after=2)
    models = {"a": {"backbone": "tiny3d"}, "b": {"backbone": "mobilenet_v3_small"}}
    path = write(tmp_path / "two.yaml", models, cold_starts=2, batches=[1], shape={"frames": 4, "size": 32})
    assert benchmark(path, "--out", tmp_path / "out", "--device", "cpu") == 1
    assert (asked.count("tiny3d"), asked.count("mobilenet_v3_small")) == (3, 4), "no more of one that failed"
    assert "no cold start of a: a fresh process cannot answer with tiny3d: killed" in capsys.readouterr().err
    summary = read_summary(tmp_path / "out" / "summary.json")
    first, second = (method["metrics"] for method in summary["methods"].values())
    assert {"latency_ms@b1t1", "parameters"} <= set(first)
    assert not {"cold_start_s", "memory_mib"} & set(first)
    assert second["cold_start_s"]["mean"] == 2.0
    assert "cold_start_ratio" not in second
    assert "cold start failed: a fresh process cannot answer with tiny3d: killed" in (tmp_path / "out" / "report.html").read_text()


def test_a_model_that_no_fresh_process_can_open_is_told_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, "tiny3d", after=0)
    monkeypatch.setattr(speed_run, "interleave", lambda *_, **__: pytest.fail("something was timed"))
    path = write(tmp_path / "one.yaml", {"a": {"backbone": "tiny3d"}}, cold_starts=1)
    assert benchmark(path, "--out", tmp_path / "out", "--device", "cpu") == 2
    text = capsys.readouterr().err
    assert "cannot answer with tiny3d" in text
    assert "model of the benchmark : a" in text
    assert not (tmp_path / "out").exists()
