"""RAFT optical flow (Teed and Deng 2020), torchvision's networks: for offline extraction."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import pad

from vidkd.base.errors import CheckpointError, unknown_name
from vidkd.data.flow import check_pairs
from vidkd.models.weights import read_weights

MODELS = ("raft_small", "raft_large")
LEAST_SIDE = 128  # RAFT looks up correlations down to 1/64 of the frame
MULTIPLE = 8


def build_raft(name: str) -> nn.Module:
    """The network `name`, not yet trained."""
    from torchvision.models import optical_flow

    model: nn.Module = getattr(optical_flow, name)(weights=None)
    return model


def load_raft(name: str, weights: str | None, device: str = "cpu") -> nn.Module:
    """A trained RAFT in eval mode. weights: a local file, or "torchvision" to download.

    Raises CheckpointError without weights, if the file is missing or belongs to another network; ConfigError for an unknown name.
    """
    if name not in MODELS:
        raise unknown_name("RAFT model", name, MODELS)
    if not weights:
        raise CheckpointError(f"{name} needs trained weights", hint="--weights FILE, or --weights torchvision to download them")
    model = build_raft(name)
    try:
        model.load_state_dict(read_weights(weights, name))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        raise CheckpointError(f"weights do not fit {name}: {weights}", reason=reason, hint="--raft-model, or another file") from error
    return model.eval().to(device)


@torch.inference_mode()
def raft_flow(model: nn.Module, first: NDArray[np.uint8], second: NDArray[np.uint8], *, device: str = "cpu") -> NDArray[np.float32]:
    """RAFT flow from each frame of `first` to its partner in `second`, after the network's last iteration.

    model: maps two float batches (T, 3, H, W) in [-1, 1] to a list of flows (T, 2, H, W), best last. first, second: uint8 RGB (T, H, W, 3);
    their edges are repeated to the right and below up to a multiple of 8 pixels, at least 128, and cut off again.
    Returns float32 (T, H, W, 2): dx to the right, dy downwards, in pixels. Raises DataError for frames under 16 pixels.
    """
    check_pairs(first, second)
    height, width = first.shape[1:3]
    flow = model(_network_input(first, device), _network_input(second, device))[-1]
    return np.ascontiguousarray(flow[:, :, :height, :width].permute(0, 2, 3, 1).float().cpu().numpy())


def _network_input(frames: NDArray[np.uint8], device: str) -> torch.Tensor:
    images = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).to(device).float() / 127.5 - 1
    below, right = (max(LEAST_SIDE, -(-side // MULTIPLE) * MULTIPLE) - side for side in images.shape[2:])
    return pad(images, (0, right, 0, below), mode="replicate")
