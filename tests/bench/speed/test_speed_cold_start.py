"""A fresh process that opens a model and answers: timed from outside, without torch for an exported file."""

import json
import sys
import time
from pathlib import Path

import pytest

from vidkd.base.errors import CheckpointError
from vidkd.bench.speed.cold_start import MARK, ColdStart, cold_start, peak_bytes, peak_gpu_bytes, start
from vidkd.bench.speed.config import ModelSpec, ShapeSpec

REPORTED = {"answer_s": 0.1, "peak_bytes": 2048, "peak_gpu_bytes": None}
ANSWER = f"{MARK}{json.dumps(REPORTED)}"
FRESH = "from vidkd.bench.speed.cold_start import main; main()"


def started(code: str, spec: ModelSpec | None = None, limit_s: float = 60) -> ColdStart:
    """The cold start of a process that runs this code."""
    command = [sys.executable, "-c", code]
    asked = spec or ModelSpec(backbone="tiny3d")
    return cold_start(asked, threads=2, device="cpu", shape=ShapeSpec(frames=4), limit_s=limit_s, command=command)


def test_an_exported_file_starts_without_torch(exported: Path, tmp_path: Path) -> None:
    """Half a second that the interpreter takes longer to start is part of the whole."""
    (tmp_path / "torch.py").write_text("raise SystemExit('imported')")
    code = f"import sys, time; sys.path.insert(0, {str(tmp_path)!r}); time.sleep(0.5); {FRESH}"
    found = started(code, ModelSpec(checkpoint=str(exported)))
    assert 0.5 < 0.5 + found.answer_s < found.total_s
    assert 20 * 2**20 < found.peak_bytes < 2**30
    assert found.peak_gpu_bytes is None


def test_a_runtime_that_is_chosen_is_that_of_the_process(exported: Path, tmp_path: Path) -> None:
    """The chosen library runs it, and the other one need not be there."""
    pytest.importorskip("openvino")
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('imported')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {FRESH}"
    assert started(code, ModelSpec(checkpoint=str(exported), runtime="openvino")).answer_s > 0
    with pytest.raises(CheckpointError, match=r"cannot answer(.|\n)*imported"):
        started(code, ModelSpec(checkpoint=str(exported)))


def test_what_the_process_is_asked_and_what_it_answers_among_other_lines(tmp_path: Path) -> None:
    asked = tmp_path / "asked.json"
    code = (
        f"import pathlib, sys; pathlib.Path({str(asked)!r}).write_text(sys.stdin.read()); print('loading'); print({ANSWER!r}, flush=True)"
    )
    begun = time.monotonic()
    found = started(f"{code}; import time; time.sleep(60)")
    assert found == ColdStart(total_s=found.total_s, **REPORTED)
    assert time.monotonic() - begun < 20, "it is not waited for once it has answered"
    request = json.loads(asked.read_text())
    assert (ModelSpec(**request["spec"]), ShapeSpec(**request["shape"])) == (ModelSpec(backbone="tiny3d"), ShapeSpec(frames=4))
    assert (request["threads"], request["device"]) == (2, "cpu")


def test_a_process_without_an_answer_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot answer with .*gone.onnx(.|\n)*model file not found"):
        started(FRESH, ModelSpec(checkpoint=str(tmp_path / "gone.onnx")))
    with pytest.raises(CheckpointError, match="exited without output"):
        started("print('loading plugins')")


def test_a_process_that_does_not_answer_is_ended_with_what_it_started() -> None:
    child = "Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code = f"import sys, time; from subprocess import Popen; print({MARK!r}[:5], end='', flush=True); {child}; time.sleep(60)"
    begun = time.monotonic()
    with pytest.raises(CheckpointError, match=r"cannot answer with tiny3d(.|\n)*no answer within 0.7 s"):
        started(code, limit_s=0.7)
    assert time.monotonic() - begun < 20, "the grandchild holds the pipe open for a minute"


def test_the_request_is_answered_in_the_process(checkpoint: Path) -> None:
    found = start({"spec": {"checkpoint": str(checkpoint)}, "shape": {}, "threads": 1, "device": "cpu"})
    assert found["answer_s"] > 0
    assert json.loads(json.dumps(found)) == found


def test_memory_of_a_process_and_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    held = bytearray(2**27)
    assert peak_bytes() > len(held)
    assert peak_gpu_bytes() is None
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5 * 2**20)
    assert peak_gpu_bytes() == 5 * 2**20
