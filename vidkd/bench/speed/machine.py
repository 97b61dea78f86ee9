"""The machine of a benchmark: processor and its flags, clock governor, load, libraries, and how a GPU multiplies."""

import contextlib
import os
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import metadata
from pathlib import Path
from typing import Any

from vidkd.base import processor
from vidkd.base.cores import available_cores
from vidkd.engine.environment import environment
from vidkd.runtime.onnx_network import TF32_OVERRIDE

RUNTIMES = ("onnxruntime", "openvino", "ai-edge-litert")
FLAGS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "amx_tile",
)
ARM_FLAGS = ("asimd", "asimddp", "sve", "i8mm", "bf16")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def machine() -> dict[str, str]:
    """The rows of `vidkd.engine.environment`, and what else decides speed."""
    rows = {name: value for name, value in environment().items() if name != "threads"}  # each figure has its own
    rows |= {name: _version(name) for name in RUNTIMES}
    return {
        **rows,
        "cores of this process": str(available_cores()),
        "processor flags": " ".join(processor_flags(processor.CPUINFO)) or "unknown",
        "governor": governor(GOVERNOR),
        "load before": load(),
    }


def processor_flags(cpuinfo: Path) -> list[str]:
    """Those of the processor's vector instructions that the libraries choose by; none where the system does not tell."""
    there = processor.processor_flags(cpuinfo)
    return [flag for flag in (*FLAGS, *ARM_FLAGS) if flag in there]


def governor(path: Path) -> str:
    """How the processor's clock is governed, as the system reports it."""
    try:
        return path.read_text(encoding="utf-8").strip() or "unknown"
    except OSError:
        return "unknown: the system does not tell"


def load() -> str:
    """Processes that wanted to run in the last minute, on average: other processes make timings noisy."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


@contextlib.contextmanager
def tf32_in_libraries(wanted: bool, environment: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """While the block lasts, TF32 is off, if it is not wanted, in what is opened here and in processes that are started, by the
    variable that NVIDIA's libraries read; sessions of ONNX Runtime follow it too (`vidkd.runtime.onnx_network`).
    """
    before = environment.get(TF32_OVERRIDE)
    if not wanted:
        environment[TF32_OVERRIDE] = "0"
    try:
        yield
    finally:
        if before is not None:
            environment[TF32_OVERRIDE] = before
        elif not wanted:
            del environment[TF32_OVERRIDE]


def tell_cuda(torch: Any, *, tf32: bool) -> dict[str, str]:
    """Set whether float32 is multiplied in TF32 on a GPU, and say so; nothing where CUDA is not in use.

    What other libraries than torch do is set by `tf32_in_libraries`.
    """
    if not torch.cuda.is_available():
        return {}
    elsewhere = _on(os.environ.get(TF32_OVERRIDE) != "0")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    return {
        "TF32": f"matrix products {_on(torch.backends.cuda.matmul.allow_tf32)}, convolutions {_on(torch.backends.cudnn.allow_tf32)}, "
        f"ONNX Runtime and fresh processes {elsewhere}",
        "cuDNN benchmark": _on(torch.backends.cudnn.benchmark),
        "CUDA": str(torch.version.cuda),
    }


def same_machine(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two environments are of one kind of machine, so that seconds of one can be compared with seconds of the other."""
    return all(first.get(name) == second.get(name) for name in ("processor", "processor flags", "cores", "cores of this process", "gpu"))


def _on(value: object) -> str:
    return "on" if value else "off"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
