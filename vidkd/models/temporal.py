"""From a vector for each frame to one for the clip, or to one for all up to each frame."""

import torch
from torch import Tensor, nn

from vidkd.models.config import TemporalConfig


class TemporalPooling(nn.Module):
    """(B, T, D) -> (B, `output_channels`), by the rule of the configuration; (B, T, `output_channels`) where it answers for frames.

    "mean" averages. "difference" appends the mean absolute difference of neighbouring frames, 2 D in all, which says how much moves.
    "gru" gives the last state of a gated recurrent unit, so that no frame sees a later one. "transformer" averages what encoder layers
    (pre-norm, 4 heads, sine positions) make of the frames. With `answers: frames`, answer t depends on frames 0 to t only.
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

    def declare_channels(self, channels: int) -> None:
        """State how many channels a frame's vector has."""
        self.frame_channels = channels if self.config.pooling in ("mean", "difference") else self.config.width
        self.output_channels = 2 * channels if self.config.pooling == "difference" else self.frame_channels

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """What the network makes of every frame, (B, T, `frame_channels`), and one vector for each clip, or for each frame."""
        causal = self.config.answers == "frames"
        if self.config.pooling == "gru":
            states: Tensor = self.net(frames)[0]
            return states, states if causal else states[:, -1]
        if self.config.pooling == "transformer":
            tokens = self.narrow(frames)
            mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device, dtype=tokens.dtype)
            frames = self.net(tokens + sine_positions(tokens), mask=mask if causal else None)
        mean = running_mean(frames) if causal else frames.mean(1)
        if self.config.pooling != "difference":
            return frames, mean
        changes = (frames[:, 1:] - frames[:, :-1]).abs()
        if causal:
            return frames, torch.cat([mean, torch.cat([torch.zeros_like(frames[:, :1]), running_mean(changes)], dim=1)], dim=2)
        return frames, torch.cat([mean, changes.mean(1)], dim=1)


def running_mean(frames: Tensor) -> Tensor:
    """The mean of each frame and those before it, (B, T, D) -> (B, T, D)."""
    counts = torch.arange(1, frames.shape[1] + 1, device=frames.device)
    return (frames.float().cumsum(1) / counts[:, None]).to(frames.dtype)


def sine_positions(tokens: Tensor) -> Tensor:
    """Sines and cosines of the frame's number (Vaswani et al. 2017, arXiv 1706.03762, section 3.5), (T, D) for tokens (B, T, D), D even."""
    steps, width = tokens.shape[1:]
    rates = 10_000 ** (-torch.arange(0, width, 2, device=tokens.device, dtype=torch.float32) / width)
    angles = torch.arange(steps, device=tokens.device, dtype=torch.float32)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(tokens.dtype)
