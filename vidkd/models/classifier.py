"""A video classifier: normalisation, backbone, attention pooling, dropout and one linear layer."""

import logging
from typing import NamedTuple

from torch import Tensor, nn

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.models.attention import AttentionPooling
from vidkd.models.backbone import Backbone, Normalise, freeze_norm_statistics
from vidkd.models.backbones import build_backbone
from vidkd.models.config import ModelConfig, View
from vidkd.models.weights import load_backbone, load_head, read_weights

log = logging.getLogger(__name__)


class ClassifierOutput(NamedTuple):
    """What one forward pass gives.

    logits: (B, K). attention: name -> noise-free log-probabilities (B, T', H', W'), empty with mean pooling; they sum to one over
    H'*W' of each frame, or over T'*H'*W' with a spatio-temporal softmax. features: every stage -> (B, c, t, h, w). pooled: (B, D).
    """

    logits: Tensor
    attention: dict[str, Tensor]
    features: dict[str, Tensor]
    pooled: Tensor


class VideoClassifier(nn.Module):
    """Classifies the raw `view` of a batch into `num_classes`.

    `random_parameters` names what `config.weights` did not bring: empty for a whole classifier of the same kind, which a teacher
    should be; the head alone where the file holds another data set's classes; everything without weights.
    Raises ConfigError for an unknown backbone or stage and CheckpointError for weights that are missing or do not fit.
    """

    def __init__(self, config: ModelConfig, num_classes: int, view: View) -> None:
        super().__init__()
        if num_classes < 1:
            raise ConfigError(f"a classifier needs at least one class, not {num_classes}")
        self.config = config
        self.num_classes = num_classes
        self.view = view
        self.backbone = build_backbone(config.backbone, view=view)
        spec = self.backbone.input
        self.normalise = Normalise(spec if view == "rgb" else spec.for_flow(config.flow_bound_px))
        self.from_stage, self.to_stage = _attention_stages(self.backbone, config)
        stages = self.backbone.layout.stages
        self.pooling = AttentionPooling(config.attention, stages[self.from_stage], stages[self.to_stage])
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(self.pooling.output_channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)
        self.random_parameters = self._load(config)

    def _load(self, config: ModelConfig) -> tuple[str, ...]:
        if config.weights is None:
            return tuple(name for name, _ in self.named_parameters())
        state = read_weights(config.weights, config.backbone)
        load_backbone(self.backbone, state, f"{config.weights} into {config.backbone}")
        filled = load_head(self, state, self.backbone.layout)
        random = tuple(name for name, _ in self.named_parameters() if not name.startswith("backbone.") and name not in filled)
        if random:
            log.info("%s: no head that fits, random weights in %s", config.weights, ", ".join(random))
        return random

    def forward(self, clip: Tensor) -> ClassifierOutput:
        """Classify a raw clip: rgb uint8 (or float in 0..1) (B, 3, T, H, W), or flow in pixels (B, 2, T, H, W)."""
        features = self.backbone(self.normalise(clip))
        pooled, attention = self.pooling(features[self.from_stage], features[self.to_stage])
        return ClassifierOutput(self.fc(self.dropout(pooled)), attention, features, pooled)

    def train(self, mode: bool = True) -> "VideoClassifier":
        """As of any module, except that `freeze_norm` keeps the backbone's batch normalisation in eval mode."""
        super().train(mode)
        if self.config.freeze_norm:
            freeze_norm_statistics(self.backbone)
        return self

    @property
    def map_shift_cells(self) -> float:
        """How far, in cells, an attention map is displaced against an even division of the crop; see `Stage.shift_cells`."""
        return self.backbone.layout.stages[self.to_stage].shift_cells

    def head_parameters(self) -> list[nn.Parameter]:
        """Attention maps and the linear layer, what is new in fine-tuning. Often trained at ten times the learning rate."""
        return [*self.pooling.parameters(), *self.fc.parameters()]


def undecayed_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that weight decay usually spares: biases, and the scale and shift of normalisation (all that have one dimension)."""
    return [parameter for parameter in module.parameters() if parameter.ndim <= 1]


def _attention_stages(backbone: Backbone, config: ModelConfig) -> tuple[str, str]:
    chosen = config.attention.from_stage or backbone.stages[-2], config.attention.to_stage or backbone.stages[-1]
    for name in chosen:
        if name not in backbone.stages:
            raise unknown_name(f"stage of {config.backbone}", name, backbone.stages)
    if backbone.stages.index(chosen[0]) > backbone.stages.index(chosen[1]):
        raise ConfigError(f"attention.from_stage '{chosen[0]}' comes after to_stage '{chosen[1]}'")
    return chosen
