"""A fresh process that opens a model and answers: timed from outside, without torch for an exported file."""

import json
import mmap
import sys
import time
from pathlib import Path

import pytest

from vidkd.base.errors import CheckpointError
from vidkd.bench.speed.cold_start import ColdStart, cold_start
from vidkd.bench.speed.config import ModelSpec, ShapeSpec
from vidkd.bench.speed.fresh_process import MARK, peak_bytes, peak_gpu_bytes, start
from vidkd.bench.speed.machine import tf32_in_libraries

TOLD = {"ready_s": 0.5, "answer_s": 0.1, "peak_bytes": 2048, "peak_gpu_bytes": None, "torch": False}
ANSWER = f"{MARK}{json.dumps(TOLD)}"


def test_an_exported_file_starts_without_torch(exported: Path) -> None:
    found = cold_start(ModelSpec(checkpoint=str(exported)), threads=1, device="cpu", shape=ShapeSpec(), limit_s=60)
    assert not found.torch
    assert found.total_s > found.ready_s > 0
    assert found.total_s > found.answer_s > 0
    assert 20 * 2**20 < found.peak_bytes < 2**30
    assert found.peak_gpu_bytes is None


def test_a_runtime_that_is_chosen_is_that_of_the_process(exported: Path, tmp_path: Path) -> None:
    """The chosen library runs it, and the other one need not be there."""
    pytest.importorskip("openvino")
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('imported')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from vidkd.bench.speed.fresh_process import main; main()"
    common = {"threads": 1, "device": "cpu", "shape": ShapeSpec(), "limit_s": 60, "command": [sys.executable, "-c", code]}
    found = cold_start(ModelSpec(checkpoint=str(exported), runtime="openvino"), **common)  # type: ignore[arg-type]
    assert not found.torch
    assert found.total_s > found.ready_s > 0
    with pytest.raises(CheckpointError, match="cannot answer") as error:
        cold_start(ModelSpec(checkpoint=str(exported)), **common)  # type: ignore[arg-type]
    assert "imported" in str(error.value)


def test_the_time_is_that_from_start_to_answer(exported: Path) -> None:
    """The process is a stand-in that answers at once and then lingers; the clock says what lies between its two looks."""
    code = f"import json, sys, time; json.load(sys.stdin); print({ANSWER!r}, flush=True); time.sleep(0.3)"
    looks = iter([10.0, 12.5])
    found = cold_start(
        ModelSpec(checkpoint=str(exported)),
        threads=1,
        device="cpu",
        shape=ShapeSpec(),
        limit_s=60,
        command=[sys.executable, "-c", code],
        clock=lambda: next(looks),
    )
    assert found.total_s == 2.5
    assert (found.ready_s, found.answer_s, found.peak_bytes) == (0.5, 0.1, 2048)


def test_until_the_model_is_open_counts_from_the_start_of_the_process(exported: Path) -> None:
    """An interpreter that takes longer to start is part of it, as it is of the whole."""
    code = "import time; time.sleep(1.5); from vidkd.bench.speed.fresh_process import main; main()"
    spec, command = ModelSpec(checkpoint=str(exported)), [sys.executable, "-c", code]
    found = cold_start(spec, threads=1, device="cpu", shape=ShapeSpec(), limit_s=60, command=command)
    assert 1.5 < found.ready_s < found.ready_s + found.answer_s < found.total_s


def test_what_the_process_is_asked(tmp_path: Path) -> None:
    asked = tmp_path / "asked.json"
    code = f"import pathlib, sys; pathlib.Path({str(asked)!r}).write_text(sys.stdin.read()); print({ANSWER!r})"
    spec, shape = ModelSpec(backbone="tiny3d", amp="bfloat16"), ShapeSpec(frames=4)
    cold_start(spec, threads=2, device="cpu", shape=shape, limit_s=60, command=[sys.executable, "-c", code])
    request = json.loads(asked.read_text())
    assert (ModelSpec(**request["spec"]), ShapeSpec(**request["shape"])) == (spec, shape)
    assert (request["threads"], request["device"]) == (2, "cpu")


@pytest.mark.parametrize(("wanted", "found"), [(False, "'0'"), (True, "None")])
def test_a_process_multiplies_as_the_benchmark_says(wanted: bool, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    code = f"import os; open({str(tmp_path / 'seen')!r}, 'w').write(repr(os.environ.get('NVIDIA_TF32_OVERRIDE'))); print({ANSWER!r})"
    with tf32_in_libraries(wanted):
        cold_start(
            ModelSpec(backbone="tiny3d"), threads=1, device="cpu", shape=ShapeSpec(), limit_s=60, command=[sys.executable, "-c", code]
        )
    assert (tmp_path / "seen").read_text() == found


def test_a_process_without_an_answer_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot answer with .*gone.onnx") as error:
        cold_start(ModelSpec(checkpoint=str(tmp_path / "gone.onnx")), threads=1, device="cpu", shape=ShapeSpec(), limit_s=60)
    assert "model file not found" in str(error.value)
    with pytest.raises(CheckpointError, match="ended without a word"):
        cold_start(
            ModelSpec(backbone="tiny3d"), threads=1, device="cpu", shape=ShapeSpec(), limit_s=60, command=[sys.executable, "-c", "pass"]
        )


def stand_in(code: str, limit_s: float = 60) -> ColdStart:
    """The cold start of a process that runs this code."""
    command = [sys.executable, "-c", code]
    return cold_start(ModelSpec(backbone="tiny3d"), threads=1, device="cpu", shape=ShapeSpec(), limit_s=limit_s, command=command)


def test_what_libraries_write_to_standard_output_is_passed_over() -> None:
    found = stand_in(f"print('{{}}'); print('loading plugins'); print({ANSWER!r}); print('done')")
    assert found == ColdStart(total_s=found.total_s, **TOLD)
    with pytest.raises(CheckpointError, match="cannot answer with tiny3d"):
        stand_in("print('loading plugins')")
    with pytest.raises(CheckpointError, match="no whole answer with tiny3d"):
        stand_in(f"print({MARK + '{'!r})")
    with pytest.raises(CheckpointError, match="no whole answer with tiny3d"):
        stand_in(f"print({MARK + json.dumps({'ready_s': 1.0})!r})")


@pytest.mark.slow
def test_a_line_that_was_begun_before_the_answer(checkpoint: Path) -> None:
    code = "import sys; sys.stdout.write('loading ...'); from vidkd.bench.speed.fresh_process import main; main()"
    spec, command = ModelSpec(checkpoint=str(checkpoint)), [sys.executable, "-c", code]
    assert cold_start(spec, threads=1, device="cpu", shape=ShapeSpec(), limit_s=60, command=command).torch


@pytest.mark.parametrize("begun", ["", f"print({MARK!r}[:5], end='', flush=True);"], ids=["silent", "within a line"])
def test_a_process_that_does_not_answer_is_ended_with_what_it_started(begun: str) -> None:
    child = "Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code = f"import sys, time; from subprocess import Popen; {begun} {child}; time.sleep(60)"
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=r"does not answer within 0.7 s with tiny3d") as error:
        stand_in(code, limit_s=0.7)
    assert time.monotonic() - started < 20, "the grandchild holds the pipe open for a minute"
    assert "cold_start_limit_s" in str(error.value)


def test_an_answer_counts_though_the_process_does_not_end() -> None:
    assert stand_in(f"import time; print({ANSWER!r}, flush=True); time.sleep(60)", limit_s=1.5).peak_bytes == 2048


def test_a_process_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be started for tiny3d"):
        cold_start(
            ModelSpec(backbone="tiny3d"), threads=1, device="cpu", shape=ShapeSpec(), limit_s=60, command=[str(tmp_path / "no-python")]
        )


def test_the_request_is_answered_in_the_process(checkpoint: Path) -> None:
    asked_s = time.monotonic()
    told = start({"spec": {"checkpoint": str(checkpoint)}, "shape": {}, "threads": 1, "device": "cpu", "begun_s": asked_s - 100})
    assert 100 < told["ready_s"] < 100 + time.monotonic() - asked_s
    assert told["torch"]
    assert told["answer_s"] > 0
    assert json.loads(json.dumps(told)) == told


def test_memory_is_the_high_water_mark() -> None:
    before = peak_bytes()
    now = next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    with mmap.mmap(-1, before - now + 2**26) as held:  # the system's: the C library would reuse what it has kept
        for place in range(0, len(held), mmap.PAGESIZE):
            held[place] = 1
    assert before + 2**25 < peak_bytes() < before + 2**27


def test_memory_of_a_gpu_is_torch_s_own_account(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert peak_gpu_bytes() is None
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5 * 2**20)
    assert peak_gpu_bytes() == 5 * 2**20
    monkeypatch.delitem(sys.modules, "torch")
    assert peak_gpu_bytes() is None
