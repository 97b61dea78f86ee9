"""vidkd benchmark --repeat: beside which first runs a second one may stand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_runs import benchmark, write

from vidkd.bench.speed import run as speed_run


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two networks that nobody trained, in `noise.yaml`, and what their benchmark left, in `out`."""
    folder = tmp_path_factory.mktemp("noise")
    config = write(folder / "noise.yaml", {"one": {"backbone": "tiny3d"}, "peer": {"backbone": "tiny3d"}}, shape={"frames": 4, "size": 32})
    assert benchmark(config, "--out", folder / "out", "--device", "cpu") == 0
    return folder


@pytest.fixture
def config(measured: Path, tmp_path: Path) -> Path:
    """The benchmark; its run lies in `out` beside it."""
    return shutil.copytree(measured, tmp_path / "copy") / "noise.yaml"


def changed(config: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Another summary of the first run."""
    path = config.parent / "out" / "summary.json"
    summary = json.loads(path.read_text())
    change(summary)
    path.write_text(json.dumps(summary))


def repeat(config: Path, *words: str) -> int:
    return benchmark(config, "--out", config.parent / "out", "--device", "cpu", "--repeat", *words)


def test_a_first_run_that_tells_less_of_itself(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What it does not say is not compared: labels of models are always there."""
    monkeypatch.setattr(speed_run, "run_benchmark", lambda *_, **__: pytest.fail("something was measured"))

    def without_facts(summary: dict[str, Any]) -> None:
        del summary["data"]["shape"], summary["data"]["models"]["one"]["content"], summary["data"]["models"]["one"]["way"]

    for change in (without_facts, lambda summary: summary["data"].pop("models")):
        changed(config, change)
        with pytest.raises(pytest.fail.Exception, match="something was measured"):
            repeat(config)
        if change is without_facts:
            assert repeat(config, "--models.peer.amp", "bfloat16") == 2
            assert "models  : peer\n" in capsys.readouterr().err
    changed(config, lambda summary: summary["methods"].pop("peer"))
    assert repeat(config) == 2
    assert "models  : peer\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data", [{"subset": "test"}, {"recipe": "small", "draws": {}}, "name of a data set"], ids=["study", "recipe", "name"]
)
def test_no_second_run_of_something_else(
    data: object, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed_run, "run_benchmark", lambda *_, **__: pytest.fail("something was measured"))
    changed(config, lambda summary: summary.update(study="small", data=data))
    assert repeat(config) == 2
    told = capsys.readouterr().err
    for line in ("the summary of a study, not of a benchmark: small", f"first run : {config.parent / 'out'}", "to mend   : another --out"):
        assert line in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"runs_on": "torch, cuda", "clock": "CUDA events"}, "peer ran on unlike libraries or devices: torch, cuda; torch"),
        ({"clock": "CUDA events"}, "peer was timed by unlike clocks: CUDA events; host clock"),
    ],
)
def test_no_second_run_on_another_device(
    change: dict[str, str], told: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed_run, "interleave", lambda *_, **__: pytest.fail("something was timed"))
    first, second = (config.parent / "out" / name for name in ("summary.json", "second.json"))
    shutil.copyfile(first, second)
    changed(config, lambda summary: summary["data"]["models"]["peer"].update(change))
    assert repeat(config) == 2
    said = capsys.readouterr().err
    assert "the first run was on another device, or multiplied otherwise on it" in said
    assert f"found   : {told}\n" in said
    assert "to mend : --device and tf32 as in the first run" in said
    assert benchmark("compare", first, second) == 0
    assert f"note: {told}\n" in capsys.readouterr().out


def test_no_second_run_with_other_tf32(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As a machine with CUDA tells it; without CUDA nothing is told, and the setting changes nothing."""
    monkeypatch.setattr(speed_run, "interleave", lambda *_, **__: pytest.fail("something was timed"))
    monkeypatch.setattr(speed_run, "tell_cuda", lambda _, *, tf32: {"TF32": "all on" if tf32 else "all off"})
    changed(config, lambda summary: summary["environment"].update(TF32="all off"))
    with pytest.raises(pytest.fail.Exception, match="something was timed"):
        repeat(config)
    assert repeat(config, "--tf32", "true") == 2
    assert "found   : TF32 was set in unlike ways: all off; all on\n" in capsys.readouterr().err
