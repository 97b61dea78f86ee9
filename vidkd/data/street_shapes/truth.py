"""Ground truth of the data set, computed from the config without drawing a frame."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkd.base.errors import DataError
from vidkd.base.files import read_jsonl
from vidkd.data.motion_shapes.truth import json_line, write_text_lines
from vidkd.data.street_shapes.config import StreetShapesConfig
from vidkd.data.street_shapes.files import video_places
from vidkd.data.street_shapes.scene import StreetVideo, draw_street


@dataclass(frozen=True)
class SceneStart:
    """From this frame of its video on, this scene is shown; the name of an earlier one says that it returns."""

    first_frame: int
    scene: str


def write_truth(out: Path, config: StreetShapesConfig) -> None:
    """Write truth.jsonl under `out`, whole or not at all."""
    write_text_lines(out / "truth.jsonl", (json_line(street_truth_row(draw_street(config, place))) for place in video_places(config)))


def street_truth_row(video: StreetVideo) -> dict[str, Any]:
    """One line of truth.jsonl, a video.

    path, group, subset, frames; scenes: [{"scene", "first_frame"}] of every visit; shapes: [{"name", "first_frame", "boxes": [[x1, y1,
    x2, y2] of every frame from first_frame on]}] in painting order, boxes in pixels, of the whole shape, also where it reaches out of the
    picture.
    """
    return {
        "path": video.place.path,
        "group": Path(video.place.path).with_suffix("").as_posix(),
        "subset": video.place.subset,
        "frames": video.frames,
        "scenes": [{"scene": visit.scene, "first_frame": visit.first_frame} for visit in video.visits],
        "shapes": [
            {"name": passage.shape.kind, "first_frame": passage.first_frame, "boxes": passage.boxes.round(2).tolist()}
            for visit in video.visits
            for passage in visit.passages
        ],
    }


def read_scenes(root: Path) -> dict[str, tuple[SceneStart, ...]]:
    """The visits of every video of a written data set, by the video's path. Raises DataError if `root` has no such truth.jsonl."""
    rows = read_jsonl(root / "truth.jsonl")
    try:
        return {row["path"]: tuple(SceneStart(start["first_frame"], start["scene"]) for start in row["scenes"]) for row in rows}
    except (KeyError, TypeError) as error:
        raise DataError(f"no scenes in {root / 'truth.jsonl'}", hint="vidkd make_motion_shapes --variant street --out DIR") from error
