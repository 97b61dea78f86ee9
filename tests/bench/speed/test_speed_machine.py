"""What is recorded of the machine."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vidkd.bench.speed.machine import governor, machine, processor_flags, same_machine, tell_cuda, tf32_in_libraries


def test_the_environment_names_what_decides_speed() -> None:
    found = machine()
    assert {"vidkd", "processor", "cores", "torch", "onnxruntime", "openvino", "processor flags", "governor", "load before"} <= set(found)
    assert "threads" not in found, "each figure has its own"
    assert all(isinstance(value, str) and value for value in found.values())


def test_flags_are_those_that_libraries_choose_by(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: X\nflags\t\t: fpu avx2 avx sse4_2 ht avx512_vnni\n\nprocessor\t: 1\nflags\t\t: fma\n")
    assert processor_flags(cpuinfo) == ["sse4_2", "avx", "avx2", "avx512_vnni"]
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert processor_flags(cpuinfo) == ["asimd", "asimddp"]
    assert processor_flags(tmp_path / "none") == []


def test_the_governor_where_it_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "governor").write_text("performance\n")
    assert governor(tmp_path / "governor") == "performance"
    assert governor(tmp_path / "none").startswith("unknown")


def test_tf32_is_set_and_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    for wanted in (True, False):
        backends = SimpleNamespace(
            cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=None)), cudnn=SimpleNamespace(allow_tf32=None, benchmark=False)
        )
        torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True), backends=backends, version=SimpleNamespace(cuda="12.9"))
        with tf32_in_libraries(wanted):
            found = tell_cuda(torch, tf32=wanted)
        assert (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32) == (wanted, wanted)
        word = "on" if wanted else "off"
        said = f"matrix products {word}, convolutions {word}, ONNX Runtime and fresh processes {word}"
        assert found == {"TF32": said, "cuDNN benchmark": "off", "CUDA": "12.9"}
    assert tell_cuda(SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)), tf32=True) == {}


@pytest.mark.parametrize(
    ("before", "wanted", "within"),
    [({}, False, "0"), ({}, True, None), ({"NVIDIA_TF32_OVERRIDE": "1"}, False, "0"), ({"NVIDIA_TF32_OVERRIDE": "0"}, True, "0")],
)
def test_the_libraries_variable_is_set_for_as_long_as_is_measured(before: dict[str, str], wanted: bool, within: str | None) -> None:
    environment = dict(before)
    with tf32_in_libraries(wanted, environment):
        assert environment.get("NVIDIA_TF32_OVERRIDE") == within
    assert environment == before


def test_machines_are_the_same_by_processor_and_cores() -> None:
    one = {"processor": "X", "cores": "2", "cores of this process": "2", "torch": "2.13"}
    assert same_machine(one, {**one, "torch": "2.14"})
    assert not same_machine(one, {**one, "cores of this process": "1"})
    assert not same_machine(one, {**one, "gpu": "Y"})
    assert not same_machine({**one, "processor flags": "avx2"}, {**one, "processor flags": "avx2 avx512_vnni"}), "integers are faster there"
