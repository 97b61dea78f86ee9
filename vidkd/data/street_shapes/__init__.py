"""The embedded data set for detection along a stream: shapes that pass a fixed camera, in scenes that change and return."""

from vidkd.data.street_shapes.config import StreetShapesConfig
from vidkd.data.street_shapes.files import VideoPlace, video_places
from vidkd.data.street_shapes.generate import StreetShapesWritten, write_street_shapes
from vidkd.data.street_shapes.scene import StreetVideo, Visit, draw_street, render_street
from vidkd.data.street_shapes.truth import SceneStart, read_scenes, street_truth_row

__all__ = [
    "SceneStart",
    "StreetShapesConfig",
    "StreetShapesWritten",
    "StreetVideo",
    "VideoPlace",
    "Visit",
    "draw_street",
    "read_scenes",
    "render_street",
    "street_truth_row",
    "video_places",
    "write_street_shapes",
]
