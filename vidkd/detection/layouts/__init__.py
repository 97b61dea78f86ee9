"""How data sets with boxes lie on disk: one file a layout, `read(root, options) -> BoxReading`; docs/detection_data.md lists them."""

from vidkd.detection.layouts import coco, coco_video, davis, mot, scenes, shapes, voc, yolo, youtube_objects
from vidkd.detection.layouts.layout import BoxLayout, BoxOptions, BoxReading

BOX_LAYOUTS: dict[str, BoxLayout] = {
    "coco": coco.read,
    "coco_video": coco_video.read,
    "davis": davis.read,
    "mot": mot.read,
    "motion_shapes": shapes.read,
    "scenes": scenes.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "youtube_objects": youtube_objects.read,
}

WITH_ANNOTATIONS = ("coco", "coco_video", "davis", "mot")
"""Layouts whose files of boxes may be named instead of looked for."""

__all__ = ["BOX_LAYOUTS", "WITH_ANNOTATIONS", "BoxLayout", "BoxOptions", "BoxReading"]
