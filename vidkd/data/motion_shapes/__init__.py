"""The embedded data set: generated videos in which the motion of one shape among others is the class, and one frame says nothing."""

from vidkd.data.motion_shapes.config import MotionShapesConfig
from vidkd.data.motion_shapes.generate import MotionShapesWritten, write_motion_shapes
from vidkd.data.motion_shapes.motion import CLASSES
from vidkd.data.motion_shapes.scene import ClipPlace, Scene, draw_scene, render
from vidkd.data.motion_shapes.truth import clip_places, subset_of, truth_row, video_path

__all__ = [
    "CLASSES",
    "ClipPlace",
    "MotionShapesConfig",
    "MotionShapesWritten",
    "Scene",
    "clip_places",
    "draw_scene",
    "render",
    "subset_of",
    "truth_row",
    "video_path",
    "write_motion_shapes",
]
