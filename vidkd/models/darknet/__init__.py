"""Darknet detectors (YOLOv3, tiny-YOLOv3, YOLOv4-tiny, Yolo-Fastest and their kind) in torch: cfg, weights, network, decoding, detector.

Importing this package imports torch, but not torchvision: `vidkd.models.darknet.detector` does.
"""

from vidkd.models.darknet.added_head import with_added_head
from vidkd.models.darknet.blocks import DarknetConfig
from vidkd.models.darknet.cfg import parse_cfg, read_cfg, to_cfg
from vidkd.models.darknet.decode import DecodedHead, decode, decode_head
from vidkd.models.darknet.graph import Head, spare_anchors
from vidkd.models.darknet.net import Darknet
from vidkd.models.darknet.weights import WeightsHeader, count_numbers, load_weights, save_weights

__all__ = [
    "Darknet",
    "DarknetConfig",
    "DecodedHead",
    "Head",
    "WeightsHeader",
    "count_numbers",
    "decode",
    "decode_head",
    "load_weights",
    "parse_cfg",
    "read_cfg",
    "save_weights",
    "spare_anchors",
    "to_cfg",
    "with_added_head",
]
