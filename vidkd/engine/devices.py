"""Where a run computes: devices, precision, threads, and the processes that a launcher started."""

import os

import cv2
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from vidkd.base.errors import ConfigError
from vidkd.engine.config import RunConfig


def start_fabric(config: RunConfig) -> Fabric:
    """Devices, precision and threads. Raises ConfigError for a device that is not there or a batch that processes cannot share evenly."""
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
        cv2.setNumThreads(config.train.threads)
    devices, nodes = processes(config)
    try:
        fabric = Fabric(
            accelerator=config.train.device,
            devices=devices,
            num_nodes=nodes,
            precision=config.train.precision,
            strategy=_strategy(config, devices * nodes),
        )
        fabric.launch()
    except Exception as error:
        raise ConfigError(f"cannot use train.device={config.train.device}", reason=str(error).splitlines()[0]) from error
    if config.data.batch_size % fabric.world_size:
        raise ConfigError(f"data.batch_size={config.data.batch_size} cannot be shared evenly by {fabric.world_size} processes")
    return fabric


def processes(config: RunConfig) -> tuple[int, int]:
    """Processes a node, and nodes: as torchrun started them, else `train.devices` on every node of a SLURM job, else on this one."""
    if torch.distributed.is_torchelastic_launched():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    nodes = int(os.environ.get("SLURM_NNODES", "1")) if SLURMEnvironment.detect() else 1
    return config.train.devices, nodes


def _strategy(config: RunConfig, count: int) -> str:
    """DDP wants every parameter in the loss; stages behind the one that the attention weights are not."""
    return "ddp_find_unused_parameters_true" if count > 1 and config.model.attention.to_stage else "auto"


def pick_device(name: str) -> torch.device:
    """The device of this name; `auto` is what Fabric would choose. Raises ConfigError if it is not there."""
    try:
        return Fabric(accelerator=name, devices=1).device
    except Exception as error:
        raise ConfigError(f"cannot use device '{name}'", reason=str(error).splitlines()[0], to_mend="--device auto or cpu") from error
