"""What is kept of a classifier whose backbone, or its first stages, are frozen: the least from which the rest is computed."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from vidkd.models.backbone import not_entered, stage_parameters
from vidkd.models.classifier import VideoClassifier


class KeptClassifier:
    """The features of a classifier that can be kept.

    matched: stages whose maps are read besides the pooled ones. whole: nothing of the network trains (a teacher), whatever its
    `model.freeze`.

    Where all of the backbone is frozen and only averages of its last stage are read, these are kept, (B, C, T, 1, 1): the averages of one
    position are the same. Where a part is frozen, the maps of its last stage are kept, and of earlier stages that are read.
    """

    def __init__(self, model: VideoClassifier, *, matched: Sequence[str] = (), whole: bool = False) -> None:
        self.model, self.view = model, model.view
        freeze, order = model.config.freeze, model.backbone.stages
        read = [stage for stage in order if stage in (*model.pooled_stages, *matched)]
        self.whole = whole or freeze == "all"
        self.averaged = self.whole and not model.pooling.maps and model.to_stage not in matched
        if not self.whole:
            last = order.index(str(freeze))
            read = [*(stage for stage in read if order.index(stage) < last), str(freeze)]
        self.stages = tuple(read)
        self._checked = self.whole

    def kept_identity(self) -> str:
        """What decides the features: architecture, normalisation, and all weights that come before the last stage that is kept."""
        model, backbone = self.model, self.model.backbone
        temporal = model.config.temporal
        layers = [type(layer).__name__ for layer in backbone.modules()]  # those in fake integers have the same weights
        what = (model.config.backbone, temporal.input, temporal.shift, model.view, model.normalise.spec, self.stages, self.averaged, layers)
        rule = hashlib.sha256(repr(what).encode())
        later: set[str] = set()
        if not self.whole:
            names = list(stage_parameters(backbone).values())
            later = {name for stage in names[backbone.stages.index(self.stages[-1]) + 1 :] for name in stage}
        parameters, modules = dict(backbone.named_parameters()), {name.rpartition(".")[0] for name in later}
        for name, tensor in backbone.state_dict().items():
            if name not in later and (name in parameters or name.rpartition(".")[0] not in modules):
                rule.update(f"{name} {tuple(tensor.shape)}".encode())
                rule.update(tensor.cpu().contiguous().numpy().tobytes())
        return rule.hexdigest()

    def kept_maps(self, clip: Tensor) -> dict[str, Tensor]:
        """The features (B, C, T, H, W) by stage of a raw clip, of the network in eval mode.

        Raises ConfigError where the later stages of a network cannot be computed from them.
        """
        was_training = self.model.training
        features = self.model.eval().backbone(self.model.normalise(clip.to(self.model.fc.weight.device)))
        self._check(features)
        self.model.train(was_training)
        return {stage: features[stage].mean(dim=(3, 4), keepdim=True) if self.averaged else features[stage] for stage in self.stages}

    def _check(self, features: dict[str, Tensor]) -> None:
        """Compare, once, the last stage with what comes of the kept ones: not every network uses its layers in the order they stand in."""
        if self._checked:
            return
        backbone, entered = self.model.backbone, self.stages[-1]
        expected = features[backbone.stages[-1]]
        try:
            found = backbone.resume({entered: features[entered]})[backbone.stages[-1]]
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:  # of layers that are given other shapes than theirs
            raise not_entered(backbone, entered) from error
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-2, atol=1e-3 * expected.abs().max().item()):
            raise not_entered(backbone, entered)
        self._checked = True
