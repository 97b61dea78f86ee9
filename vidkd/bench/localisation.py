"""Does attention lie on the actor? Pointing accuracy, and the share of attention inside the actor's box.

The box is the manifest's where it has boxes; else that of the moving foreground of a static camera (difference from the median frame).
Of an actor who stands and waves that is what moves: the median frame shows the rest.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.data.cache import CHUNK_FRAMES
from vidkd.data.dataset import ClipDataset
from vidkd.data.footage import footage_of, open_clip
from vidkd.data.manifest import Clip
from vidkd.data.observation import Window, choose_window, frames_inside
from vidkd.data.transforms import Geometry, evaluation_geometry, shrink
from vidkd.inference.predict import crop_view
from vidkd.inference.torch_classifier import TorchClassifier
from vidkd.models import VideoClassifier
from vidkd.video import VideoReader

FOREGROUND_LEVELS = 30
"""Grey levels from which a pixel differs from the background."""
SMALLEST_REGION = 0.25
"""Share of the largest moving region's area from which another one counts too: arms that wave, both of two people."""

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Pointing:
    """A row a clip: share of map frames with their maximum in the box, share of attention inside, the box's share of the area."""

    pointing: list[float]
    mass: list[float]
    chance: list[float]


def measure_pointing(model: VideoClassifier, dataset: ClipDataset, device: torch.device) -> Pointing:
    """Judge the motion map of the middle window and crop of every clip of an evaluation data set.

    Raises DataError for a clip without boxes whose footage has no moving foreground either, and ValueError for a model without attention.
    """
    rows = [_judge(model, dataset, clip, device) for clip in dataset.clips]
    return Pointing([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def _judge(model: VideoClassifier, dataset: ClipDataset, clip: Clip, device: torch.device) -> tuple[float, float, float]:
    path, config = dataset.root / clip.path, dataset.footage
    with open_clip(path, clip, config) as video:
        times = video.timestamps_s
        window = choose_window(times, config.window, position=0.5, start_s=clip.start_s, end_s=clip.end_s, name=str(path))
        footage = footage_of(video, window, config, want_flow=model.view == "flow", clip_path=clip.path)
        height, width = footage.frames.shape[1:3]
        if clip.boxes:
            boxes = boxes_at(clip.boxes, times[window.frames]) * _scale(video.info.height, video.info.width, height, width)
        else:
            boxes = _moving_in(video, clip, window, config.decode_short_side) * [width, height, width, height]
    geometry = evaluation_geometry(height, width, config.transform)
    attention = TorchClassifier(model, device)(crop_view(model.view, footage, geometry)[None]).attention
    if attention is None:
        raise ValueError("a network without attention points at nothing")
    return pointing_of(attention[0], in_crop(boxes, geometry), model.map_shift_cells)


def _scale(height: int, width: int, new_height: int, new_width: int) -> Boxes:
    return np.array([new_width / width, new_height / height] * 2)


def _moving_in(video: VideoReader, clip: Clip, window: Window, short_side: int | None) -> Boxes:
    """(T, 4) boxes of the moving foreground at the window's frames, in shares of the frame; the whole clip tells what the background is."""
    inside = frames_inside(video.timestamps_s, clip.start_s, clip.end_s)
    chunks = np.array_split(inside, -(-len(inside) // CHUNK_FRAMES))
    frames = np.concatenate([shrink(video.frames_at_indices(chunk.tolist()), short_side) for chunk in chunks])
    boxes = moving_boxes(frames) / (np.array(frames.shape[1:3])[[1, 0, 1, 0]])
    if np.isnan(boxes).all():
        raise DataError(f"no actor to point at in {clip.path}", hint="boxes in the manifest, or footage with a static camera")
    return held(boxes)[np.searchsorted(inside, window.frames)]


def boxes_at(boxes: tuple[tuple[float, float, float, float, float], ...], times_s: NDArray[np.float64]) -> Boxes:
    """Boxes (T, 4) xyxy of the rows (time_s, x1, y1, x2, y2) nearest in time."""
    rows = np.array(boxes)
    return np.asarray(rows[np.abs(rows[:, :1] - times_s[None]).argmin(0), 1:])


def moving_boxes(frames: NDArray[np.uint8]) -> Boxes:
    """The box of what differs from the median frame in each of (N, H, W, 3) frames: (N, 4) xyxy pixels, NaN where nothing does.

    Specks are removed by a 3x3 opening; the box holds the largest connected region and those of at least SMALLEST_REGION of its area.
    """
    background = np.median(frames, axis=0)
    boxes = np.full((len(frames), 4), np.nan)
    for number, frame in enumerate(frames):
        mask = (np.abs(frame - background).max(axis=-1) > FOREGROUND_LEVELS).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        count, _, statistics, _ = cv2.connectedComponentsWithStats(mask)
        if count > 1:
            x, y, width, height, area = statistics[1:].T
            large = area >= SMALLEST_REGION * area.max()
            boxes[number] = (x[large].min(), y[large].min(), (x + width)[large].max(), (y + height)[large].max())
    return boxes


def held(boxes: Boxes) -> Boxes:
    """Boxes (N, 4) with those that are NaN replaced by the nearest in time: an actor who rests for a moment, or has just left."""
    known = np.flatnonzero(~np.isnan(boxes[:, 0]))
    return np.asarray(boxes[known[np.abs(known[:, None] - np.arange(len(boxes))).argmin(0)]])


def in_crop(boxes: Boxes, geometry: Geometry) -> Boxes:
    """Boxes of the resized frame as shares of the crop's side, cut off at its edges."""
    shifted = boxes - np.array([geometry.left, geometry.top] * 2)
    return np.asarray(np.clip(shifted / geometry.side, 0, 1))


def pointing_of(attention: NDArray[np.float64], boxes: Boxes, shift: float = 0.0) -> tuple[float, float, float]:
    """Pointing, mass and chance of one clip.

    attention: (T', h, w), each frame summing to one. boxes: (T, 4) xyxy in shares of the crop; a map frame is judged on the mean box of
    the frames that it stands for. shift: displacement of the map's grid to the lower right in cells, see `Stage.shift_cells`.
    """
    parts = [part.mean(axis=0) for part in np.array_split(boxes, len(attention))]
    inside = np.stack([coverage(box, attention.shape[1], attention.shape[2], shift) for box in parts])
    best = attention.reshape(len(attention), -1).argmax(1)
    rows, columns = np.unravel_index(best, attention.shape[1:])
    x, y = (columns + 0.5 + shift) / attention.shape[2], (rows + 0.5 + shift) / attention.shape[1]
    boxes_of = np.stack(parts)
    hits = (x >= boxes_of[:, 0]) & (x <= boxes_of[:, 2]) & (y >= boxes_of[:, 1]) & (y <= boxes_of[:, 3])
    area = float(((boxes_of[:, 2] - boxes_of[:, 0]) * (boxes_of[:, 3] - boxes_of[:, 1])).mean())
    return float(hits.mean()), float((attention * inside).sum((1, 2)).mean()), area


def coverage(box: NDArray[np.float64], height: int, width: int, shift: float = 0.0) -> NDArray[np.float64]:
    """Share of every cell of an (height, width) grid, displaced by `shift` cells, that lies in a box given in shares of the whole."""

    def along(low: float, high: float, cells: int) -> NDArray[np.float64]:
        edges = (np.arange(cells + 1) + shift) / cells
        return np.asarray(np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0, None) * cells)

    return np.asarray(np.outer(along(box[1], box[3], height), along(box[0], box[2], width)))
