"""Readers of data sets with boxes: `read(root, options) -> BoxReading` per layout; docs/guides/detection.md lists them."""

from vidkd.detection.layouts import coco, davis, mot, scenes, shapes, voc, yolo
from vidkd.detection.layouts.common import BoxLayout, BoxOptions, BoxReading

BOX_LAYOUTS: dict[str, BoxLayout] = {
    "coco": coco.read,
    "coco_video": coco.read_videos,
    "davis": davis.read,
    "mot": mot.read,
    "motion_shapes": shapes.read,
    "scenes": scenes.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "youtube_objects": voc.read_youtube_objects,
}

WITH_ANNOTATIONS = ("coco", "coco_video", "davis", "mot")
"""Layouts whose files of boxes may be named instead of looked for."""

__all__ = ["BOX_LAYOUTS", "WITH_ANNOTATIONS", "BoxLayout", "BoxOptions", "BoxReading"]
