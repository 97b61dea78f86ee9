"""What a number was obtained with: versions, machine, threads."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import torch

from vidkd import __version__

PACKAGES = ("torch", "torchvision", "numpy", "opencv-contrib-python-headless", "decord", "av", "lightning-fabric", "pytorchvideo")


def environment() -> dict[str, str]:
    """Versions of vidkd, Python and the libraries that decide a result, the processor, its cores and the threads in use."""
    rows = {"vidkd": __version__, "python": sys.version.split()[0], "platform": platform.platform(), "processor": _processor()}
    rows |= {"cores": str(os.cpu_count()), "threads": str(torch.get_num_threads())}
    if torch.cuda.is_available():
        rows["gpu"] = torch.cuda.get_device_name()
    for package in PACKAGES:
        try:
            rows[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            rows[package] = "not installed"
    return rows


def _processor() -> str:
    """The processor's name where the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
