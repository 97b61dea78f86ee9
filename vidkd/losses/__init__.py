"""Losses of distillation: pure functions of tensors, a file for each family. Gradients reach the student only."""

from vidkd.losses.attention import attention_kl, attention_uniform_kl, resize_attention
from vidkd.losses.attention_transfer import activation_map, attention_transfer
from vidkd.losses.features import pooled_feature_mse
from vidkd.losses.logits import logit_mse, logits_kd, multilabel_kd, regression_kd, regression_matching
from vidkd.losses.privileged import generalized_distillation
from vidkd.losses.reduction import clip_mean
from vidkd.losses.shift_tolerant import SHIFT_TOLERANT

__all__ = [
    "SHIFT_TOLERANT",
    "activation_map",
    "attention_kl",
    "attention_transfer",
    "attention_uniform_kl",
    "clip_mean",
    "generalized_distillation",
    "logit_mse",
    "logits_kd",
    "multilabel_kd",
    "pooled_feature_mse",
    "regression_kd",
    "regression_matching",
    "resize_attention",
]
