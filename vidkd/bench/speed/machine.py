"""The machine of a benchmark: processor and its flags, clock governor, load, libraries, and how a GPU multiplies."""

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vidkd.base.cores import available_cores, processor_flags
from vidkd.engine.devices import environment
from vidkd.runtime.networks import TF32_OVERRIDE

RUNTIMES = ("onnxruntime", "openvino", "ai-edge-litert")
FLAGS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
ARM_FLAGS = ("asimd", "asimddp", "sve", "i8mm", "bf16")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def machine() -> dict[str, str]:
    """The rows of `vidkd.engine.devices.environment`, and what else decides speed."""
    rows = {name: value for name, value in environment().items() if name != "threads"}  # each figure has its own
    for name in RUNTIMES:
        try:
            rows[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            rows[name] = "not installed"
    flags = processor_flags()
    return {
        **rows,
        "cores of this process": str(available_cores()),
        "processor flags": " ".join(flag for flag in (*FLAGS, *ARM_FLAGS) if flag in flags) or "unknown",
        "governor": GOVERNOR.read_text(encoding="utf-8").strip() if GOVERNOR.exists() else "unknown",
        "load before": load(),
    }


def load() -> str:
    """Processes that wanted to run in the last minute, on average: other processes make timings noisy."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def without_tf32() -> dict[str, str]:
    """Let a GPU multiply float32 in full precision, in torch, in other libraries and in processes that are started from now on.

    Nothing where CUDA is not in use. Other libraries follow the variable of NVIDIA's, and so do sessions of ONNX Runtime
    (`vidkd.runtime.networks`). Returns what to record of the machine.
    """
    if not torch.cuda.is_available():
        return {}
    os.environ[TF32_OVERRIDE] = "0"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return {"TF32": "off", "CUDA": str(torch.version.cuda)}


def same_machine(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two environments are of one kind of machine, so that seconds of one can be compared with seconds of the other."""
    return all(first.get(name) == second.get(name) for name in ("processor", "processor flags", "cores", "cores of this process", "gpu"))
