"""Losses of distillation: pure functions of tensors, a file for each family. Gradients reach the student only."""

from vidkd.losses.attention import attention_kl, attention_uniform_kl, resize_attention
from vidkd.losses.features import activation_map, attention_transfer, pooled_feature_mse
from vidkd.losses.logits import generalized_distillation, logit_mse, logits_kd
from vidkd.losses.reduction import clip_mean
from vidkd.losses.selection import above_threshold_bce, disagreement_huber, order_in_window
from vidkd.losses.shift_tolerant import SHIFT_TOLERANT
from vidkd.losses.teacher_bounded import bounded_box_regression, confidence_bounded_mix, matched_heads, oracle_assigned, regression_kd
from vidkd.losses.yolo import YoloLossOptions, YoloTerms, yolo_loss
from vidkd.losses.yolo_heads import HeadSpec, box_iou
from vidkd.losses.yolo_targets import Truths

__all__ = [
    "SHIFT_TOLERANT",
    "HeadSpec",
    "Truths",
    "YoloLossOptions",
    "YoloTerms",
    "above_threshold_bce",
    "activation_map",
    "attention_kl",
    "attention_transfer",
    "attention_uniform_kl",
    "bounded_box_regression",
    "box_iou",
    "clip_mean",
    "confidence_bounded_mix",
    "disagreement_huber",
    "generalized_distillation",
    "logit_mse",
    "logits_kd",
    "matched_heads",
    "oracle_assigned",
    "order_in_window",
    "pooled_feature_mse",
    "regression_kd",
    "resize_attention",
    "yolo_loss",
]
