"""Activations of frozen networks on disk: what does not train is computed once for each clip and fixed view, not once an epoch."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from vidkd.base.errors import DataError
from vidkd.base.files import atomic_write
from vidkd.data.cache import DiskQuota
from vidkd.data.config import FeatureConfig

FORMAT = 2
SAMPLE = "sample "


class FeatureStore:
    """One .npz file for each sample and network: its maps by stage.

    networks: entry of the batch -> what decides the maps that stand there (weights, architecture, stages). A file's name is a hash of that
    and of what decides the sample, so that other weights, sizes or windows never meet each other's files, and runs that share a network
    share its files. Files can be deleted when nothing trains from them.
    """

    def __init__(self, config: FeatureConfig, networks: Mapping[str, str]) -> None:
        self.config, self.networks = config, dict(networks)
        self.filled = False
        self.unreadable: dict[str, str] = {}
        """Clips that could not be read while the store was filled, and why."""
        self.quota = DiskQuota(Path(config.folder), int(config.max_gb * 2**30))

    def file(self, entry: str, *decides: Any) -> Path:
        """Where the maps of a sample lie; `decides`: plain values that decide its frames."""
        rule = json.dumps([FORMAT, self.networks[entry], decides], sort_keys=True, default=str)
        key = hashlib.sha256(rule.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return Path(self.config.folder) / key[:2] / f"{key}.npz"

    def read(self, files: Mapping[str, Path]) -> dict[str, Any] | None:
        """Entry -> maps by stage, and what else is known of the sample; None if a file is missing or torn, or while the store is filled."""
        if not self.filled:
            return None
        found: dict[str, Any] = {}
        try:
            for entry, file in files.items():
                with np.load(file, allow_pickle=False) as arrays:
                    maps = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
                found |= {name.removeprefix(SAMPLE): bool(maps.pop(name)) for name in list(maps) if name.startswith(SAMPLE)}
                found[entry] = maps
        except (OSError, ValueError, EOFError, BadZipFile):
            return None
        return found

    def write(self, file: Path, maps: Mapping[str, Tensor], sample: Mapping[str, Tensor]) -> None:
        """Keep maps, and what else is known of the sample. Raises DataError past the bound, WriteError if it cannot."""
        arrays = {stage: tensor.half().numpy() for stage, tensor in maps.items()}
        arrays |= {SAMPLE + name: value.numpy() for name, value in sample.items()}
        if not self.quota.take(sum(array.nbytes for array in arrays.values())):
            raise DataError(
                f"the activations of frozen stages do not fit into data.features.max_gb = {self.config.max_gb:g}",
                folder=self.config.folder,
                hint="a larger data.features.max_gb, fewer data.features.views, or remove the folder, whose files can be made again",
            )
        with atomic_write(file, "wb") as opened:
            np.savez(opened, **arrays)  # type: ignore[arg-type]
