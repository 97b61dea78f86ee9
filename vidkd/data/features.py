"""Activations of frozen networks on disk: what does not train is computed once for each clip and fixed view, not once an epoch."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write
from vidkd.data.cache import DiskQuota
from vidkd.data.config import FeatureConfig

FORMAT = 1

Maps = dict[str, Tensor]
"""Feature maps (C, T, H, W) of one sample by the stage that gave them, in half precision."""


class FeatureStore:
    """One .npz file for each sample: the maps of every network in `networks`, by the entry of the batch that they stand for.

    networks: entry -> what decides its maps (weights, architecture, stages). A file's name is a hash of that and of what decides the
    sample, so that other weights, sizes or windows never meet each other's files. Entries are safe to delete at any time.
    """

    def __init__(self, config: FeatureConfig, networks: Mapping[str, str]) -> None:
        self.config, self.networks = config, dict(networks)
        self.filled = False
        self.quota = DiskQuota(Path(config.folder), int(config.max_gb * 2**30))

    def file(self, *decides: Any) -> Path:
        """Where the maps of a sample lie; `decides`: plain values that decide its frames."""
        rule = json.dumps([FORMAT, self.networks, decides], sort_keys=True, default=str)
        key = hashlib.sha256(rule.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return Path(self.config.folder) / key[:2] / f"{key}.npz"

    def read(self, file: Path) -> dict[str, Maps] | None:
        """The maps by entry and stage; None if the file is missing or torn, or while the store is being filled."""
        if not self.filled:
            return None
        try:
            with np.load(file, allow_pickle=False) as arrays:
                names = [name.split("/") for name in arrays.files]
                found: dict[str, Maps] = {entry: {} for entry, _ in names}
                for entry, stage in names:
                    found[entry][stage] = torch.from_numpy(arrays[f"{entry}/{stage}"])
                return found
        except (OSError, ValueError, EOFError):
            return None

    def write(self, file: Path, maps: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Keep the maps of a sample. Raises DataError where they would pass the bound, WriteError where they cannot be written."""
        arrays = {f"{entry}/{stage}": tensor.half().numpy() for entry, of in maps.items() for stage, tensor in of.items()}
        if not self.quota.take(sum(array.nbytes for array in arrays.values())):
            raise DataError(
                f"the activations of frozen stages do not fit into data.features.max_gb = {self.config.max_gb:g}",
                folder=self.config.folder,
                hint="a larger data.features.max_gb, fewer data.features.views, or remove the folder, whose files can be made again",
            )
        with atomic_write(file, "wb") as opened:
            np.savez(opened, **arrays)  # type: ignore[arg-type]
