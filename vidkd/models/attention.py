"""Attention pooling: a map computed from an earlier stage weights the features of a later one.

Re-implementation from the abstract and figure of Liu et al. 2019 (arXiv 1904.03249) and from sibling code of its authors: per-frame
softmax over positions, Gumbel noise per channel while training, the noise-free map in evaluation and for distillation. The residual
and the spatio-temporal form are reconstructions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidkd.models.backbone import Stage
from vidkd.models.config import AttentionConfig


class AttentionPooling(nn.Module):
    """Weights the features of `to_stage` by one or two maps computed from `from_stage`.

    Without maps (pooling "mean") it averages all positions. Maps are returned as noise-free log-probabilities.
    """

    def __init__(self, config: AttentionConfig, from_stage: Stage, to_stage: Stage) -> None:
        super().__init__()
        self.config = config
        self.declare_channels(to_stage.channels)
        self.maps = nn.ModuleDict({name: MapLogits(from_stage, to_stage) for name in config.map_names})

    def declare_channels(self, channels: int) -> None:
        """State how many channels the pooled features have."""
        self.output_channels = channels * max(1, len(self.config.map_names))

    def forward(self, source: Tensor, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Source (B, C_from, T, H, W) and features (B, C, T', H', W') -> pooled (B, T', D) for each frame, and
        {name: log-probabilities (B, T', H', W')}. The mean over T' is the pooled vector of the clip.

        D is C times the number of maps. With softmax "spatial" every frame of a map sums to one over H'*W'; with "spatiotemporal" a
        map sums to one over T'*H'*W'.
        """
        if not self.maps:
            return features.mean(dim=(3, 4)).transpose(1, 2), {}
        pooled, maps, config = [], {}, self.config
        for name, module in self.maps.items():
            logits = module(source, features.shape[2:])
            maps[name] = log_attention(logits, config.softmax)
            weights = maps[name].exp().unsqueeze(1)
            if config.pooling == "probabilistic" and self.training:
                weights = sampled_attention(logits, features.shape[1], config.noise_temperature, config.softmax)
            pooled.append(attended(features, weights, softmax=config.softmax, residual=config.residual))
        return torch.cat(pooled, dim=2), maps


class MapLogits(nn.Module):
    """Conv3d (C -> 1, kernel 1x3x3, no bias) from one stage onto the grid of another.

    The spatial stride is the ratio of the stages' strides. Where the grids still differ (the later stage has fewer frames, or sizes
    were rounded) the logits are averaged adaptively. Small initial weights, so that training starts near mean pooling.
    """

    def __init__(self, from_stage: Stage, to_stage: Stage) -> None:
        super().__init__()
        stride = max(1, to_stage.space_stride // from_stage.space_stride)
        self.conv = nn.Conv3d(from_stage.channels, 1, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False)
        nn.init.normal_(self.conv.weight, std=0.01)

    def forward(self, source: Tensor, grid: torch.Size) -> Tensor:
        """(B, C, T, H, W) -> logits (B, *grid) in float32, whatever the precision of the features."""
        logits: Tensor = self.conv(source)
        if logits.shape[2:] != grid:
            logits = functional.adaptive_avg_pool3d(logits, (grid[0], grid[1], grid[2]))
        return logits.squeeze(1).float()


def log_attention(logits: Tensor, softmax: str = "spatial") -> Tensor:
    """Logits (B, T, H, W) -> log-probabilities over H*W of each frame ("spatial") or over T*H*W ("spatiotemporal")."""
    return functional.log_softmax(logits.flatten(_first_dimension(softmax)), dim=-1).view_as(logits)


def sampled_attention(logits: Tensor, channels: int, temperature: float, softmax: str = "spatial") -> Tensor:
    """Softmax of (logits + Gumbel noise) / temperature, drawn independently for every channel: (B, T, H, W) -> (B, channels, T, H, W).

    Noise comes from torch's global generator. It takes as much memory as the weighted features in float32, and so does the result.
    """
    batch, *grid = logits.shape
    noise = -torch.empty(batch, channels, *grid, device=logits.device, dtype=logits.dtype).exponential_().log()
    noisy = (logits.unsqueeze(1) + noise) / temperature
    return functional.softmax(noisy.flatten(1 + _first_dimension(softmax)), dim=-1).view_as(noisy)


def attended(features: Tensor, weights: Tensor, *, softmax: str = "spatial", residual: bool = False) -> Tensor:
    """Pool features (B, C, T, H, W) by weights (B, 1 or C, T, H, W) that sum to one per frame or per clip: (B, T, C) in their type.

    Each frame's weighted sum, times T with "spatiotemporal", so that the mean over frames is the weighted sum over the clip. With
    `residual` the mean over a frame's positions is added, that is weights 1 + A with A scaled to mean one.
    """
    pooled = (features.float() * weights).sum(dim=(3, 4))
    if softmax == "spatiotemporal":
        pooled = pooled * features.shape[2]
    if residual:
        pooled = pooled + features.float().mean(dim=(3, 4))
    return pooled.transpose(1, 2).to(features.dtype)


def _first_dimension(softmax: str) -> int:
    """First dimension of (B, T, H, W) that a softmax of this kind runs over."""
    return 2 if softmax == "spatial" else 1
