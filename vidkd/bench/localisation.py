"""Does attention lie on the actor? Pointing accuracy and the share of attention inside boxes or moving foreground."""

from typing import Any

import torch

from vidkd.engine.config import RunConfig
from vidkd.engine.setup import Clips
from vidkd.models import VideoClassifier


def pointing_measures(model: VideoClassifier, clips: Clips, subset: str, config: RunConfig, device: torch.device) -> dict[str, Any]:
    """To be written."""
    raise NotImplementedError
