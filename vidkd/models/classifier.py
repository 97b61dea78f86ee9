"""A video classifier: normalisation, backbone, attention pooling, dropout and one linear layer for each kind of label."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.models.attention import AttentionPooling
from vidkd.models.backbone import Backbone, Normalise, freeze_norm_statistics, freeze_stages, freeze_untrained_norms
from vidkd.models.backbones import build_backbone
from vidkd.models.config import ModelConfig, View
from vidkd.models.temporal import TemporalPooling
from vidkd.models.weights import load_backbone, load_head, provenance, read_weights

log = logging.getLogger(__name__)


class ClassifierOutput(NamedTuple):
    """What one forward pass gives.

    logits: (B, K). attention: name -> noise-free log-probabilities (B, T', H', W'), empty with mean pooling; they sum to one over
    H'*W' of each frame, or over T'*H'*W' with a spatio-temporal softmax. features: every stage -> (B, c, t, h, w). pooled: (B, D).
    targets: further labels -> (B, K_name), see `VideoClassifier.targets`.
    frames: of a classifier that answers after every frame: kind of label ("" for `logits`) -> (B, T, K), the last of which are the above.
    sequence: (B, T, c), what the temporal pooling makes of every frame before it pools; None of an exported network.
    """

    logits: Tensor
    attention: dict[str, Tensor]
    features: dict[str, Tensor]
    pooled: Tensor
    targets: Mapping[str, Tensor] = {}
    frames: Mapping[str, Tensor] = {}
    sequence: Tensor | None = None


class ObservedShare(nn.Module):
    """Added to the pooled vector: an embedding of the share of the clip that is observed; zero at the start of training."""

    WAVES = 4

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * self.WAVES, 32), nn.ReLU(), nn.Linear(32, channels))
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, observed: Tensor) -> Tensor:
        """(B,) shares in (0, 1] -> (B, channels)."""
        angles = observed[:, None].float() * torch.pi * 2.0 ** torch.arange(self.WAVES, device=observed.device) / 2
        added: Tensor = self.net(torch.cat([angles.sin(), angles.cos()], dim=1))
        return added


class VideoClassifier(nn.Module):
    """Classifies the raw `view` of a batch into `num_classes`.

    targets: further labels that the same vector is classified by, name -> classes (EPIC-KITCHENS: verb and noun next to the action).
    class_names: of the label (under "") and of each target, to tell whether the head of `config.weights` is for these classes.
    flow_stack: flow fields that the view flow has for each frame (`data.flow.stack`).

    `random_parameters` names what `config.weights` did not bring: empty for a whole classifier of the same kind, which a teacher
    should be; only the head where the file holds another data set's classes; everything without weights.
    `changes`: the plans of compression (see `vidkd.models.changes`) by which it departs from what its config builds, in order.
    Raises ConfigError for an unknown backbone or stage and CheckpointError for weights that are missing or do not fit.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_classes: int,
        view: View,
        targets: Mapping[str, int] | None = None,
        class_names: Mapping[str, Sequence[str]] | None = None,
        flow_stack: int = 1,
    ) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.view = view
        self.targets = dict(targets or {})
        self.changes: tuple[dict[str, Any], ...] = ()
        self.flow_stack = flow_stack
        self.backbone = build_backbone(config.backbone, view=view, flow_stack=flow_stack)
        if config.temporal.answers == "frames" and not self.backbone.frame_by_frame:
            raise ConfigError(
                f"{config.backbone} sees later frames, so it has no answer after every frame",
                hint="model.backbone: timm:NAME, or model.temporal.answers: clip",
            )
        if config.temporal.input == "differences":
            self.backbone.show_differences()
        spec = self.backbone.input
        self.normalise = Normalise(spec if view == "rgb" else dataclasses.replace(spec, bound_px=config.flow_bound_px))
        self.from_stage, self.to_stage = _attention_stages(self.backbone, config)
        stages = self.backbone.layout.stages
        self.pooling = AttentionPooling(config.attention, stages[self.from_stage], stages[self.to_stage])
        self.temporal = TemporalPooling(config.temporal, self.pooling.output_channels)
        channels = self.temporal.output_channels
        self.dropout = nn.Dropout(config.dropout)
        self.fc = _linear(channels, num_classes)
        self.target_fc = nn.ModuleDict({name: _linear(channels, count) for name, count in self.targets.items()})
        self.observed = ObservedShare(channels) if config.condition_on_observed else None
        self.random_parameters = self._load(config, class_names or {})
        if config.freeze is not None:
            freeze_stages(self.backbone, config.freeze)
        if config.temporal.shift != "none":
            self.backbone.shift(config.temporal.shift)

    def _load(self, config: ModelConfig, class_names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        if config.weights is None:
            return tuple(name for name, _ in self.named_parameters())
        state = read_weights(config.weights, config.backbone)
        load_backbone(self.backbone, state, f"{config.weights} into {config.backbone}")
        origin = provenance(config.weights)
        other = _other_classes(origin, class_names)
        filled = load_head(self, state, self.backbone.layout, other)
        random = tuple(name for name, _ in self.named_parameters() if not name.startswith("backbone.") and name not in filled)
        if random:
            why = "it was trained on other classes: " if other else ""
            log.info("%s: %srandom weights in %s", config.weights, why, ", ".join(random))
        elif class_names and "fc.weight" in filled and origin is None:
            log.info("%s: the file names no classes; its head is taken to be for those of the data set, in the same order", config.weights)
        return random

    @property
    def pooled_stages(self) -> tuple[str, ...]:
        """The stages whose maps the output is computed from."""
        return (self.from_stage, self.to_stage) if self.pooling.maps else (self.to_stage,)

    def forward(self, clip: Tensor | Mapping[str, Tensor], observed: Tensor | None = None) -> ClassifierOutput:
        """Classify a raw clip: rgb uint8 (or float in 0..1) (B, 3, T, H, W), or flow in pixels (B, 2 flow_stack, T, H, W).

        In place of the clip the features of some stages may be given, from which the rest is computed. Without attention maps those of
        the pooled stage may be averaged over each frame, (B, C, T, 1, 1).
        observed: (B,) shares of the clips that are seen, in (0, 1]; all where it is not given. Read only with `condition_on_observed`.
        """
        if isinstance(clip, Mapping):
            features = {name: tensor.to(self.fc.weight.dtype) for name, tensor in clip.items()}
            if not set(self.pooled_stages) <= features.keys():
                features = self.backbone.resume(features)
        else:
            features = self.backbone(self.normalise(clip))
        source = features[self.from_stage if self.pooling.maps else self.to_stage]
        frames, attention = self.pooling(source, features[self.to_stage])
        sequence, pooled = self.temporal(frames)
        if self.observed is not None:
            pooled = pooled + self.observed(pooled.new_ones(len(pooled)) if observed is None else observed)
        kept = self.dropout(pooled)
        logits, targets = self.fc(kept), {name: layer(kept) for name, layer in self.target_fc.items()}
        if self.config.temporal.answers == "clip":
            return ClassifierOutput(logits, attention, features, pooled, targets, sequence=sequence)
        last = {name: each[:, -1] for name, each in targets.items()}
        return ClassifierOutput(logits[:, -1], attention, features, pooled[:, -1], last, {"": logits, **targets}, sequence)

    def train(self, mode: bool = True) -> "VideoClassifier":
        """As of any module, but batch normalisation stays in eval mode: all of the backbone with `freeze_norm`, or what `freeze` names."""
        super().train(mode)
        if self.config.freeze == "all":
            self.backbone.eval()
        elif self.config.freeze is not None:
            freeze_untrained_norms(self.backbone)
        if self.config.freeze_norm:
            freeze_norm_statistics(self.backbone)
        return self

    def declare_channels(self, channels: Mapping[str, int]) -> None:
        """As of `Backbone`, and for what is pooled."""
        self.backbone.declare_channels(channels)
        self.pooling.declare_channels(self.backbone.layout.stages[self.to_stage].channels)
        self.temporal.declare_channels(self.pooling.output_channels)

    @property
    def map_shift_cells(self) -> float:
        """How far, in cells, an attention map is displaced against an even division of the crop; see `Stage.shift_cells`."""
        return self.backbone.layout.stages[self.to_stage].shift_cells

    def head_parameters(self) -> list[nn.Parameter]:
        """Attention maps and the linear layers, what is new in fine-tuning. Often trained at ten times the learning rate."""
        observed = () if self.observed is None else self.observed.parameters()
        return [*self.pooling.parameters(), *self.temporal.parameters(), *self.fc.parameters(), *self.target_fc.parameters(), *observed]


def _other_classes(origin: Mapping[str, Any] | None, class_names: Mapping[str, Sequence[str]]) -> list[str]:
    """Prefixes of the layers whose classes are named otherwise in the checkpoint that the weights come from."""
    if origin is None:
        return []
    known = {"": origin["student"].get("classes"), **(origin["student"].get("targets") or {})}
    differing = [kind for kind, names in class_names.items() if known.get(kind) is not None and list(known[kind]) != list(names)]
    return [f"target_fc.{kind}." if kind else "fc." for kind in differing]


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


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
