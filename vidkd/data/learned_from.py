"""Which clips a classifier has learned from, so that it is not judged by them. Nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidkd.data.groups import hold_out_groups
from vidkd.data.manifest import Clip, Manifest

SETTINGS = ("split", "validation_fraction", "split_seed")


@dataclass(frozen=True, kw_only=True)
class LearnedFrom:
    """The training clips of a classifier: hash of their manifest, and the settings of `data` that chose them from it."""

    manifest: str
    split: str
    validation_fraction: float
    split_seed: int

    @classmethod
    def of(cls, manifest: object, data: object) -> "LearnedFrom | None":
        """manifest, data: as a checkpoint or an exported file has them; None where they do not say as much."""
        if not isinstance(manifest, str) or not isinstance(data, Mapping):
            return None
        split, fraction, seed = (data.get(name) for name in SETTINGS)
        if not isinstance(split, str) or not isinstance(fraction, int | float) or not isinstance(seed, int) or not 0 <= fraction < 1:
            return None
        return cls(manifest=manifest, split=split, validation_fraction=fraction, split_seed=seed)

    def clips(self, manifest: Manifest) -> list[Clip]:
        """Its training clips, labelled or not, in the manifest of that hash; none where that has no such split."""
        if self.split not in manifest.splits:
            return []
        train = manifest.select(self.split, "train")
        return hold_out_groups(train, self.validation_fraction, self.split_seed)[0] if self.validation_fraction else train

    def settings(self) -> dict[str, Any]:
        """What chose these clips, by the names of the flags that choose them again."""
        return {f"data.{name}": getattr(self, name) for name in SETTINGS}
