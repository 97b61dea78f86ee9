"""From a vector for each frame to one for the clip."""

import torch
from torch import Tensor, nn

from vidkd.models.config import TemporalConfig


class TemporalPooling(nn.Module):
    """(B, T, D) -> (B, `output_channels`), by the rule of the configuration.

    "mean" averages. "difference" appends the mean absolute difference of neighbouring frames, 2 D in all, which says how much moves.
    "gru" gives the last state of a gated recurrent unit, so that no frame sees a later one. "transformer" averages what encoder layers
    (pre-norm, 4 heads, sine positions) make of the frames.
    """

    def __init__(self, config: TemporalConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.declare_channels(channels)
        if config.pooling == "gru":
            self.net: nn.Module = nn.GRU(channels, config.width, batch_first=True)
        elif config.pooling == "transformer":
            layer = nn.TransformerEncoderLayer(config.width, 4, 2 * config.width, dropout=0.1, batch_first=True, norm_first=True)
            self.net = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
            self.narrow = nn.Linear(channels, config.width)
        self.config = config

    def declare_channels(self, channels: int) -> None:
        """State how many channels a frame's vector has."""
        self.output_channels = {"mean": channels, "difference": 2 * channels}.get(self.config.pooling, self.config.width)

    def forward(self, frames: Tensor) -> Tensor:
        """One vector for each clip."""
        if self.config.pooling == "mean":
            return frames.mean(1)
        if self.config.pooling == "difference":
            return torch.cat([frames.mean(1), (frames[:, 1:] - frames[:, :-1]).abs().mean(1)], dim=1)
        if self.config.pooling == "gru":
            state: Tensor = self.net(frames)[1]
            return state[-1]
        tokens = self.narrow(frames)
        encoded: Tensor = self.net(tokens + sine_positions(tokens))
        return encoded.mean(1)


def sine_positions(tokens: Tensor) -> Tensor:
    """Sines and cosines of the frame's number (Vaswani et al. 2017, arXiv 1706.03762, section 3.5), (T, D) for tokens (B, T, D), D even."""
    steps, width = tokens.shape[1:]
    rates = 10_000 ** (-torch.arange(0, width, 2, device=tokens.device, dtype=torch.float32) / width)
    angles = torch.arange(steps, device=tokens.device, dtype=torch.float32)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(tokens.dtype)
