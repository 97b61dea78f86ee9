"""Networks: backbones with named stages, attention pooling, and the video classifier made of them.

Importing this room imports torch, but neither torchvision, pytorchvideo nor timm: those are imported when one of their networks is built.
"""

from vidkd.models.backbone import Backbone, InputSpec, freeze_norm_statistics
from vidkd.models.backbones import BACKBONES, build_backbone
from vidkd.models.classifier import ClassifierOutput, VideoClassifier, undecayed_parameters
from vidkd.models.config import AttentionConfig, ModelConfig, View

__all__ = [
    "BACKBONES",
    "AttentionConfig",
    "Backbone",
    "ClassifierOutput",
    "InputSpec",
    "ModelConfig",
    "VideoClassifier",
    "View",
    "build_backbone",
    "freeze_norm_statistics",
    "undecayed_parameters",
]
