"""Where a run computes: devices, precision, threads, the processes that a launcher started; and the versions and machine of a result."""

import atexit
import contextlib
import ctypes
import logging
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from vidkd import __version__
from vidkd.base.cores import check_threads
from vidkd.base.errors import ConfigError, first_line
from vidkd.engine.loop_config import TrainConfig

log = logging.getLogger(__name__)
DEVICES = ("auto", "cpu", "cuda", "mps")


def start_fabric(config: TrainConfig, *, batch_size: int, leaves_parameters_unused: bool = False, flag: str = "--train.device") -> Fabric:
    """Devices, precision, threads, and memory that is kept from step to step.

    batch_size: samples that all processes share. leaves_parameters_unused: some trained parameters are in no loss, which DDP has to know.
    flag: by which the device is chosen, for messages.
    Raises ConfigError for more threads than cores, a device that is not there or a batch that processes cannot share evenly.
    """
    check_threads(config.threads, where="train.threads")
    keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)
        cv2.setNumThreads(config.threads)
    devices, nodes = processes(config)
    try:
        fabric = Fabric(
            accelerator=config.device,
            devices=devices,
            num_nodes=nodes,
            precision=config.precision,
            strategy="ddp_find_unused_parameters_true" if leaves_parameters_unused and devices * nodes > 1 else "auto",
        )
    except Exception as error:
        raise _not_there(config.device, error, devices=config.devices, flag=flag) from error
    alone = not _among_processes()
    fabric.launch()
    if alone and _among_processes():
        atexit.register(_part_from_other_processes)
    if batch_size % fabric.world_size:
        raise ConfigError(f"data.batch_size={batch_size} cannot be shared evenly by {fabric.world_size} processes")
    return fabric


def processes(config: TrainConfig) -> tuple[int, int]:
    """Processes a node, and nodes: as torchrun started them, else `train.devices` on every node of a SLURM job, else on this one."""
    if torch.distributed.is_torchelastic_launched():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    nodes = int(os.environ.get("SLURM_NNODES", "1")) if SLURMEnvironment.detect() else 1
    return config.devices, nodes


def _among_processes() -> bool:
    """Whether this process is of a group that computes together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _part_from_other_processes() -> None:
    """End the process group, if it is still there, without waiting for the others.

    While Python is taken down it would be too late: the threads of gloo let go of a last tensor then, and the process aborts now and then
    after all that it had to do.
    """
    if _among_processes():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def sound_gradients(fabric: Fabric, config: TrainConfig) -> Iterator[None]:
    """While the block lasts, lower precision on a CPU computes without oneDNN.

    Its bfloat16 weight gradients of small 3-D convolutions hold uninitialised memory on processors with AVX512-BF16 (torch 2.13, oneDNN
    3.12; a test repeats it there): not finite now and then, wrong without a sign otherwise.
    """
    if fabric.device.type != "cpu" or config.precision == "32-true":
        yield
        return
    log.warning("train.precision=%s on a CPU computes without oneDNN, whose gradients are not to be trusted: slow", config.precision)
    library: Any = torch.backends.mkldnn
    before = library.enabled
    library.enabled = False
    try:
        yield
    finally:
        library.enabled = before


def pick_device(name: str, *, flag: str = "--device") -> torch.device:
    """The device of this name; `auto` is what Fabric would choose. Raises ConfigError if it is not there.

    flag: by which it is chosen, for messages.
    """
    try:
        return Fabric(accelerator=name, devices=1).device
    except Exception as error:
        raise _not_there(name, error, devices=1, flag=flag) from error


def _not_there(name: str, error: Exception, *, devices: int, flag: str) -> ConfigError:
    """The error of a device that cannot be used, with our own reason where there is one: Lightning's speaks of its accelerators."""
    reason, hint = first_line(error), f"{flag} auto or cpu"
    if name not in DEVICES:
        reason = f"no device has this name; known: {', '.join(DEVICES)}"
    elif name == "cuda":
        found = f"torch finds {torch.cuda.device_count()} GPUs here, and {devices} are asked for"
        reason = found if torch.backends.cuda.is_built() else "this torch is built without CUDA"  # type: ignore[no-untyped-call]
        hint = f"install a torch that is built with CUDA and a driver, fewer train.devices, or {hint}"
    return ConfigError(f"cannot use device '{name}'", reason=reason, hint=hint)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEEP_BYTES = 1 << 30
OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Have glibc keep what is freed for the next allocation, up to `KEEP_BYTES` at the top of the heap; whether that was set.

    By default it maps large tensors again for every step and returns them after it, and the system clears every page again: on two cores
    that took a fifth of a step of a small 3-D network. The process stays as large as its largest step, which it is anyway at that step.
    Nothing is done where the C library is another one, and where the user has chosen by one of the variables of `OWN_SETTINGS`.
    """
    if platform.libc_ver()[0] != "glibc" or any(environment.get(name) for name in OWN_SETTINGS):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, KEEP_BYTES) == 1 for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))


PACKAGES = ("torch", "torchvision", "numpy", "opencv-contrib-python-headless", "decord", "av", "lightning-fabric", "pytorchvideo", "timm")


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
