"""Where a run's figures go: metrics.jsonl, and TensorBoard's event files beside it where they are asked for."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from vidkd.base.extras import require
from vidkd.engine.run_folder import RunFolder


class MetricsLog:
    """Rows of figures, written by the first process alone."""

    def __init__(self, fabric: Fabric, folder: RunFolder) -> None:
        self.fabric, self.folder = fabric, folder
        self._writer: Any = None

    def add(self, row: Mapping[str, Any], scalars: Mapping[str, float]) -> None:
        """Append a row (with "step" and "split") to metrics.jsonl, its scalars to the event files. CheckpointError if the disk is full."""
        if self.fabric.is_global_zero:
            self.folder.add_metrics(row)
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def mean_over_processes(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Each value averaged over the processes of the run; all of them must call it."""
        if self.fabric.world_size == 1:
            return losses
        values = torch.tensor(list(losses.values()), device=self.fabric.device)
        means = cast(Tensor, self.fabric.all_reduce(values, reduce_op="mean"))
        return dict(zip(losses, means.tolist(), strict=True))

    @contextlib.contextmanager
    def tensorboard(self, wanted: bool, first_step: int) -> Iterator[None]:
        """Write event files while the block lasts, if `wanted`; what they hold from `first_step` on is written again."""
        if not wanted or not self.fabric.is_global_zero:
            yield
            return
        require("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.folder.path / "tensorboard"), purge_step=first_step) as self._writer:
            yield
        self._writer = None
