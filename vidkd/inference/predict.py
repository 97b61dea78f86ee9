"""A classifier along a video of any length: sliding windows, probabilities over time, and where it looked.

Nothing here imports torch: the classifier is handed in, whatever runs it.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, DataError
from vidkd.data.config import DataConfig
from vidkd.data.footage import Footage, FootageConfig, footage_of
from vidkd.data.observation import SAME_S, Window, choose_window
from vidkd.data.transforms import Geometry, crop_flow, crop_frames, evaluation_geometry, stack_channels
from vidkd.runtime.clip_classifier import ClipClassifier
from vidkd.runtime.metadata import View
from vidkd.video import VideoReader, open_video


@dataclass(frozen=True)
class WindowPrediction:
    """What a classifier says of one window.

    start_s, end_s: the window's first and last frame. frames: (T,) indices. probabilities: (K,).
    attention: (T', h, w) probabilities of the motion map, each frame summing to one (None without attention).
    shift_cells: displacement of the map's grid against an even division of the crop, see `vidkd.models.backbone.Stage`.
    geometry: the square of the resized frame that the network saw; size: (height, width) of that resized frame.
    """

    start_s: float
    end_s: float
    frames: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    attention: NDArray[np.float64] | None
    geometry: Geometry
    size: tuple[int, int]
    shift_cells: float = 0.0


def predict_video(
    path: Path, classifier: ClipClassifier, data: DataConfig, *, step_s: float | None = None, fps: float | None = None
) -> Iterator[WindowPrediction]:
    """Windows one after another along a video; memory does not grow with its length.

    data: the settings of the classifier's training. step_s: seconds from window to window, by default half a window.
    fps: frames a second of a sequence of images.
    A classifier of early recognition is given each window as a clip that it sees whole.
    Raises VideoError if the file cannot be read, DataError if it holds no frames, ConfigError as `check_recognises`.
    """
    check_recognises(data)
    with open_video(path, backend=data.decoder, sequence_fps=fps) as video:
        for window in sliding_windows(video.timestamps_s, data, step_s=step_s, name=str(path)):
            yield _classify(classifier, video, window, data.footage)


def check_recognises(data: DataConfig) -> None:
    """Raise ConfigError for a classifier whose training has it name what comes after what it sees."""
    if data.observe.protocol == "anticipation":
        raise ConfigError(
            f"this network names what begins {data.observe.gap_s:g} s after what it sees, not what happens in it",
            found="data.observe.protocol=anticipation in its training",
            hint="vidkd predict, which shows it the part before the gap",
        )


def sliding_windows(timestamps_s: NDArray[np.float64], data: DataConfig, *, step_s: float | None, name: str) -> Iterator[Window]:
    """Dense windows from the first frame to the last; the last one ends with the video.

    Window k begins with the first frame shown at or after k * step_s (where a frame lasts longer than that, with the next one). Within a
    window frames are chosen by index, `stride` apart. Raises DataError for a video without frames or a step that is not positive.
    """
    # the flow that the network knows, whose step a uniform window takes by another rule than a dense one
    rule = dataclasses.replace(data.window, rule="dense", short_clip="hold", flow_step=data.window.pair_step)
    if len(timestamps_s) == 0:
        raise DataError(f"no frame in {name}")
    if step_s is not None and step_s <= 0:
        raise DataError(f"the step from window to window must be positive, not {step_s} s")
    for start in _starts(timestamps_s, rule.span, step_s):
        yield choose_window(timestamps_s, rule, position=0.0, start_s=float(timestamps_s[start]), name=name)


def _starts(timestamps_s: NDArray[np.float64], span: int, step_s: float | None) -> list[int]:
    """Indices of the windows' first frames, rising; a video shorter than a window has one."""
    last = max(len(timestamps_s) - span, 0)
    if step_s is None:
        starts = np.arange(0, last, max(1, span // 2))
    else:
        length_s = timestamps_s[last] - timestamps_s[0]
        starts = np.searchsorted(timestamps_s, timestamps_s[0] + np.arange(0, length_s, step_s) - SAME_S)
    return [int(start) for start in np.unique(np.append(starts[starts < last], last))]


def _classify(classifier: ClipClassifier, video: VideoReader, window: Window, config: FootageConfig) -> WindowPrediction:
    footage = footage_of(video, window, config, want_flow=classifier.view == "flow")
    height, width = footage.frames.shape[1:3]
    geometry = evaluation_geometry(height, width, config.transform)
    found = classifier(crop_view(classifier.view, footage, geometry)[None])
    times = video.timestamps_s
    return WindowPrediction(
        float(times[window.frames[0]]),
        float(times[window.frames[-1]]),
        window.frames,
        found.probabilities[0],
        None if found.attention is None else found.attention[0],
        geometry,
        (height, width),
        classifier.map_shift_cells,
    )


def crop_view(view: View, footage: Footage, geometry: Geometry) -> NDArray[Any]:
    """RGB uint8, or flow float32 in pixels of the crop, (C, T, size, size), C twice the stack."""
    if view == "flow" and footage.flow is not None:
        array: NDArray[Any] = crop_flow(footage.flow, geometry)
    else:
        array = crop_frames(footage.frames, geometry)
    return np.ascontiguousarray(stack_channels(array.transpose(3, 0, 1, 2), len(footage.frames)))
