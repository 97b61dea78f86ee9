"""Data that `vidkd benchmark` does not find, of classifiers and of detectors."""

from pathlib import Path

import pytest
from benchmark_runs import benchmark, write
from picture_model import picture_model

from vidkd.bench.speed import run as speed_run


@pytest.mark.parametrize(
    ("models", "data", "text"),
    [
        ({"a": {"backbone": "tiny3d"}}, {"root": "nowhere"}, "data set 'nowhere' not found"),
        ({"a": {"backbone": "tiny3d"}}, {"manifest": "none.jsonl"}, "manifest not found: none.jsonl"),
        ({"a": {"backbone": "tiny3d"}}, {}, "data.root is not set"),
        ({"a": {"detector": "picture.onnx"}}, {"root": "nowhere", "layout": "mot"}, "data set not found: nowhere"),
        ({"a": {"detector": "picture.onnx"}}, {"root": "nowhere"}, "data.layout is not set"),
    ],
)
def test_data_that_is_not_there_is_told_before_models_are_opened(
    models: dict, data: dict, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed_run, "open_model", lambda *_, **__: pytest.fail("a model was opened"))
    picture_model(Path("picture.onnx"))
    assert benchmark(write(Path("b.yaml"), models, data=data), "--out", "out") == 2
    assert text in capsys.readouterr().err
    assert not Path("out").exists()
