"""What may be set of a benchmark, and how that is listed."""

import dataclasses
import re
from pathlib import Path

import pytest
from benchmark_runs import benchmark

from vidkd.bench.speed.config import BenchmarkConfig, DataSpec, ModelSpec, ShapeSpec


def test_a_label_that_is_there_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "twice.yaml").write_text("models:\n  a: {backbone: tiny3d}\n  a: {backbone: r3d_18}\n")
    assert benchmark(tmp_path / "twice.yaml") == 2
    told = capsys.readouterr().err
    assert "'models.a' is set twice" in told
    assert "twice.yaml:2" in told


def test_every_setting_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark("--settings") == 0
    listed = capsys.readouterr().out
    wanted = {f"--{entry.name}" for entry in dataclasses.fields(BenchmarkConfig) if entry.name not in ("models", "data", "shape")}
    wanted |= {f"--data.{entry.name}" for entry in dataclasses.fields(DataSpec)}
    wanted |= {f"--shape.{entry.name}" for entry in dataclasses.fields(ShapeSpec)}
    wanted |= {f"--models.NAME.{entry.name}" for entry in dataclasses.fields(ModelSpec)}
    assert set(re.findall(r"^  (--[\w.]+)", listed, re.MULTILINE)) == wanted
    assert "fresh processes of each model" in " ".join(listed.split()), "with what it means"
    assert benchmark() == 2
    assert "no benchmark given" in capsys.readouterr().err
