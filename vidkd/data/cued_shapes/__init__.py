"""The embedded data set for anticipation: untrimmed generated videos in which a cue decides the action that follows elsewhere."""

from vidkd.data.cued_shapes.config import CuedShapesConfig
from vidkd.data.cued_shapes.files import cued_video_path, is_labelled, labels_of, subset_of_file
from vidkd.data.cued_shapes.generate import write_cued_shapes
from vidkd.data.cued_shapes.path import Episode
from vidkd.data.cued_shapes.scene import CuedScene, draw_cued_scene, render_cued
from vidkd.data.cued_shapes.truth import cued_truth_row

__all__ = [
    "CuedScene",
    "CuedShapesConfig",
    "Episode",
    "cued_truth_row",
    "cued_video_path",
    "draw_cued_scene",
    "is_labelled",
    "labels_of",
    "render_cued",
    "subset_of_file",
    "write_cued_shapes",
]
