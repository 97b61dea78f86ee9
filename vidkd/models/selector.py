"""The key-frame selector: an LSTM that watches the student and says how much the oracle would disagree now.

Reconstructed from the abstract of Farhadi and Yang 2020 (TKD, arXiv 1903.01522), which says that an LSTM selects key frames; its inputs,
size and loss (`vidkd.losses.selection`) could not be read.
"""

import dataclasses
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vidkd.base.errors import CheckpointError

State = tuple[Tensor, Tensor]

SIGNALS = ("frames_since", "last_loss", "motion", "doubt", "boxes")
# A scene unlike all of training may be any number of deviations off; the LSTM has seen nothing beyond this and would saturate.
LARGEST_DEVIATION = 10.0


@dataclass(frozen=True, kw_only=True)
class SelectorConfig:
    """Size of a key-frame selector.

    Attributes:
        features: length of the student's pooled feature vector.
        units: of each LSTM layer.
        layers: of the LSTM.
        sees_features: whether the features reach the LSTM, or only the signals.
    """

    features: int
    units: int = 128
    layers: int = 1
    sees_features: bool = True


class KeyFrameLSTM(nn.Module):
    """Inputs of each frame, D features of the student and the signals of SIGNALS, to one number a frame: how far student and
    oracle are expected to disagree now.

    What the number means is what it was trained for: log(1 + wrong boxes) or 1 - F1 (`disagreement_huber`), or the log odds
    that it is above a threshold (`above_threshold_bce`). A frame's number depends on that frame and those before it, on none after.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: SelectorConfig) -> None:
        super().__init__()
        self.config = config
        self.inputs = config.features + len(SIGNALS)
        self.register_buffer("mean", torch.zeros(self.inputs))
        self.register_buffer("deviation", torch.ones(self.inputs))
        self.first = 0 if config.sees_features else config.features
        self.lstm = nn.LSTM(self.inputs - self.first, config.units, config.layers, batch_first=True)
        self.head = nn.Linear(config.units, 1)

    def forward(self, sequence: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(B, T, D + 5) of `selector_input`, and the state after the frames before -> (B, T), and the state after the last.

        state: hidden and cell (layers, B, units) each; None at the start of a stream.
        """
        normalised = ((sequence - self.mean) / self.deviation).clamp(-LARGEST_DEVIATION, LARGEST_DEVIATION)
        hidden, after = self.lstm(normalised[..., self.first :], state)
        return self.head(hidden).squeeze(-1), after

    def step(self, frame: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One frame of a stream: (B, D + 5) and the state before -> (B,) and the state after; what `forward` gives frame by frame."""
        disagreement, after = self(frame[:, None], state)
        return disagreement[:, 0], after

    @torch.no_grad()
    def fit_normalisation(self, inputs: Tensor) -> None:
        """Take mean and standard deviation of each entry from the frames of training, (N, D + 5); they are saved with the weights.

        An entry that never varies is shifted only.
        """
        wide = inputs.double()
        deviation, mean = torch.std_mean(wide, dim=0, correction=0)
        varies = deviation > 1e-6 * wide.abs().amax(0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(varies, deviation, 1.0))


def selector_input(features: Tensor, *, frames_since: Tensor, last_loss: Tensor, motion: Tensor, doubt: Tensor, boxes: Tensor) -> Tensor:
    """What the selector sees of frames: (..., D) and five times (...) -> (..., D + 5).

    features: the student's pooled deep features. frames_since: frames since the last key frame, >= 0 (the caller counts, and resets).
    last_loss: the distillation loss at the last key frame, 0 before the first. motion: any measure of change since then. doubt: the
    disagreement that the student's own scores promise. boxes: their number. Of the two counts log(1 + n) is used.
    """
    signals = [torch.log1p(frames_since.to(features.dtype)), last_loss, motion, doubt, torch.log1p(boxes.to(features.dtype))]
    return torch.cat([features, torch.stack([signal.to(features.dtype) for signal in signals], dim=-1)], dim=-1)


def selector_payload(selector: KeyFrameLSTM) -> dict[str, Any]:
    """A selector as plain values and tensors, readable with weights_only=True."""
    return {"config": dataclasses.asdict(selector.config), "state": selector.state_dict()}


def selector_from(payload: Mapping[str, Any]) -> KeyFrameLSTM:
    """The selector of a payload, in eval mode, on the CPU. Raises CheckpointError if the payload is not one, or its weights do not fit."""
    try:
        selector = KeyFrameLSTM(SelectorConfig(**payload["config"]))
        selector.load_state_dict(payload["state"])
    except (RuntimeError, TypeError, KeyError) as error:
        raise CheckpointError(
            "not a key-frame selector, or weights of another",
            reason=textwrap.shorten(f"{type(error).__name__}: {error}", 300),
            hint="train it again, or name another file",
        ) from error
    return selector.eval()
