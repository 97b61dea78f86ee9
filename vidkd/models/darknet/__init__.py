"""Darknet detectors (YOLOv3, tiny-YOLOv3, YOLOv4-tiny, Yolo-Fastest and their kind) in torch: cfg, weights, network, decoding, detector.

Importing this package imports torch, but not torchvision: `vidkd.models.darknet.detector` does.
"""

from vidkd.models.darknet.cfg import DarknetConfig, parse_cfg, read_cfg, to_cfg
from vidkd.models.darknet.graph import Head
from vidkd.models.darknet.net import Darknet, with_added_head
from vidkd.models.darknet.weights import load_weights, save_weights

__all__ = [
    "Darknet",
    "DarknetConfig",
    "Head",
    "load_weights",
    "parse_cfg",
    "read_cfg",
    "save_weights",
    "to_cfg",
    "with_added_head",
]
