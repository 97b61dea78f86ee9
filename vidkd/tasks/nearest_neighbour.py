"""The nearest training clip in the features of a frozen network: a baseline that learns nothing at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from vidkd.base.fields import Positive
from vidkd.models.changes import apply_changes
from vidkd.tasks.task import Rows, SolvedTask


@dataclass(frozen=True, kw_only=True)
class NearestNeighbourConfig:
    """Settings of the nearest neighbour.

    Args:
        temperature: divides the similarities, which makes probabilities of them; the class named does not depend on it.
    """

    temperature: Positive = 0.05


class NearestNeighbour(SolvedTask):
    """1-nearest neighbour by cosine similarity of the pooled vectors; the heads become `NearestExample`."""

    Config = NearestNeighbourConfig

    def solve(self, rows: Rows) -> dict[str, Any]:
        """Keep the vectors of all labelled rows; returns how many there are."""
        layers: dict[str, Mapping[str, Any]] = {}
        examples = {}
        for kind, (head, classes) in self.heads.items():
            labels = rows.labels[kind]
            order = labels.argsort(stable=True)[int((labels < 0).sum()) :]
            counts = torch.bincount(labels[order], minlength=classes)
            layers[head] = {"counts": counts.tolist(), "temperature": self.config.temperature}
            examples[f"{head}.weight"] = F.normalize(rows.vectors[order], dim=1)
        apply_changes(self.student, [{"kind": "nearest", "layers": layers}])
        for name, vectors in examples.items():
            self.student.get_parameter(name).copy_(vectors)
        return {"examples": len(examples["fc.weight"])}
