"""--threads as a user gives it: how many the model runs on, in torch and in an exported file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from speed_models import tiny_checkpoint, tiny_export

from vidkd.base import cores
from vidkd.cli.classifiers import open_classifier
from vidkd.cli.main import run_verb
from vidkd.runtime.clip_classifier import ExportedClassifier
from vidkd.video import write_video


@pytest.fixture(autouse=True)
def _threads_of_the_process() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clip(frames_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "v.mp4"
    write_video(path, np.concatenate([frames_of(label, 0) for label in range(3)]), fps=25)
    return path


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 4)


def test_torch_runs_on_as_many_as_are_given(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(clip), "--model", str(tiny_checkpoint(tmp_path / "net.pt")), "--device", "cpu"]
    assert run_verb("predict", command) == 0
    assert torch.get_num_threads() == 3, "without --threads nothing is changed"
    assert run_verb("predict", [*command, "--threads", "2"]) == 0
    assert torch.get_num_threads() == 2
    capsys.readouterr()
    assert run_verb("predict", [*command, "--threads", "5"]) == 2
    assert "5 threads on 4 cores\n  where : --threads\n  fix   : at most 4" in capsys.readouterr().err
    assert torch.get_num_threads() == 2, "nothing was opened"


def test_an_exported_file_runs_on_as_many_as_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ONNX Runtime was told, and the same probabilities with one thread and two."""
    runtime = pytest.importorskip("onnxruntime")
    text, opens = [], runtime.InferenceSession

    def session(path: str, options: Any, **further: Any) -> Any:
        text.append(options.intra_op_num_threads)
        return opens(path, options, **further)

    monkeypatch.setattr(runtime, "InferenceSession", session)
    exported = tiny_export(tmp_path / "net.onnx")
    text.clear()
    clip_BCTHW = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 32, 32)).astype(np.uint8)
    found = []
    for threads in (0, 1, 2):
        classifier = open_classifier(exported, device="cpu", threads=threads).classifier
        assert isinstance(classifier, ExportedClassifier)
        found.append(classifier(clip_BCTHW).probabilities)
    assert text == [0, 1, 2]
    np.testing.assert_allclose(found[1], found[2], atol=1e-5)
    assert torch.get_num_threads() == 3
