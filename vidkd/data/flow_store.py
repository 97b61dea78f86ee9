"""Flow as ordinary video files: what `prepare_data flow` writes once and training reads like any video.

The flow of a clip is `<clip>.flow.mp4`, lossless RGB, with `<clip>.flow.json` next to it. A component is a 12-bit number,
round(v * 2047 / bound) + 2048: its high 8 bits are red (dx) and green (dy), the low 4 bits of both share blue.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import read_json, write_json
from vidkd.base.records import read_record
from vidkd.data.observation import Window
from vidkd.video import VideoWriter, open_video

LEVELS = 2047
_ZERO = LEVELS + 1
_FIX = "vidkd prepare_data flow --help"
_AGAIN = "extract the flow again"


@dataclass(frozen=True, kw_only=True)
class StoredFlow:
    """What is recorded with the stored flow of one video.

    method, settings: what computed it, with every setting that decides the vectors (flow_step, bound and short_side among them).
    flow_step: decoded frames from a frame to the one that its flow points at; near the end of the file it points at the last frame.
    bound: largest component in pixels that can be stored; longer ones were cut. clipped: share of the components that were.
    width, height: of the stored flow. frame_count: frames of the source, one flow each; the last is zero.
    source_sha256: of the video that the flow belongs to. versions: library -> version.
    """

    schema_version: Literal[1] = 1
    method: str
    settings: dict[str, Any]
    flow_step: int
    bound: float
    width: int
    height: int
    frame_count: int
    clipped: float
    source_sha256: str
    versions: dict[str, str]


def stored_flow_files(folder: Path | str, clip_path: str) -> tuple[Path, Path]:
    """The video and the side file of a clip's flow."""
    return Path(folder, f"{clip_path}.flow.mp4"), Path(folder, f"{clip_path}.flow.json")


def encode_flow(flow: NDArray[np.float32], bound: float) -> tuple[NDArray[np.uint8], int]:
    """One flow field (H, W, 2) in pixels as a picture (H, W, 3), and how many of its components lay beyond the bound and were cut.

    Raises DataError for a component that is not finite.
    """
    if not np.isfinite(flow).all():
        raise DataError("the flow holds components that are not finite")
    levels = np.rint(flow * np.float32(LEVELS / bound))
    clipped = int((np.abs(levels) > LEVELS).sum())
    code = np.clip(levels, -LEVELS, LEVELS).astype(np.int32) + _ZERO
    high, low = code >> 4, code & 15
    return np.dstack([high, low[..., :1] << 4 | low[..., 1:]]).astype(np.uint8), clipped


def decode_flow(pictures: NDArray[np.uint8], bound: float) -> NDArray[np.float32]:
    """Flow (T, H, W, 2) in pixels from pictures (T, H, W, 3)."""
    blue = pictures[..., 2]
    low = np.stack([blue >> 4, blue & 15], axis=-1)
    code = (pictures[..., :2].astype(np.int32) << 4) | low
    return (code - _ZERO).astype(np.float32) * np.float32(bound / LEVELS)


def write_stored_flow(
    folder: Path, clip_path: str, flows: Iterable[NDArray[np.float32]], *, bound: float, fps: float, record: dict[str, Any]
) -> StoredFlow:
    """Write the flow fields (H, W, 2), one a source frame, and the side file; the side file comes last, so it vouches for the video.

    record: the fields of StoredFlow that are not measured here. Raises what VideoWriter raises, also without a field.
    """
    video_file, side_file = stored_flow_files(folder, clip_path)
    side_file.unlink(missing_ok=True)
    count = clipped = height = width = 0
    with VideoWriter(video_file, fps=fps, lossless=True) as writer:
        for flow in flows:
            picture, cut = encode_flow(flow, bound)
            writer.write(picture)
            height, width = picture.shape[:2]
            count, clipped = count + 1, clipped + cut
    share = clipped / (2 * count * height * width)
    stored = StoredFlow(**record, bound=bound, width=width, height=height, frame_count=count, clipped=share)
    write_json(side_file, dataclasses.asdict(stored))
    return stored


def read_side_file(folder: Path, clip_path: str) -> StoredFlow:
    """What is recorded with a clip's stored flow. Raises DataError if there is none, or one that is not as it was written."""
    video_file, side_file = stored_flow_files(folder, clip_path)
    for file in (side_file, video_file):
        if not file.is_file():
            raise DataError(f"no stored flow of {clip_path}", missing=file, hint=_FIX)
    return read_record(StoredFlow, read_json(side_file), str(side_file), error=DataError, hint=_FIX)


def read_stored_flow(folder: Path, clip_path: str, window: Window, *, frame_count: int | None = None) -> NDArray[np.float32]:
    """Flow of `window` from `folder`: float32 (T, H, W, 2) in pixels per flow step, at the size at which it was stored.

    frame_count: frames of the video itself, to be compared with what the flow was computed from. A pair of a frame with itself has zero
    flow. Raises DataError if there is no flow of the clip, it was made with another flow step or from another video, or frames are missing.
    """
    stored = read_side_file(folder, clip_path)
    video_file, side_file = stored_flow_files(folder, clip_path)
    if frame_count is not None and frame_count != stored.frame_count:
        frames = f"{frame_count}, the flow was computed from {stored.frame_count} ({side_file})"
        raise DataError(f"the stored flow is not of this video: {clip_path}", frames=frames, hint=_AGAIN)
    _check_pairs_stored(window, stored, video_file)
    flow = np.zeros((len(window.frames), stored.height, stored.width, 2), np.float32)
    moving = np.flatnonzero(window.targets != window.frames)
    if len(moving):
        with open_video(video_file) as video:
            found, recorded = (len(video), *video.output_size), (stored.frame_count, stored.height, stored.width)
            if found != recorded or window.targets.max() >= stored.frame_count:
                lines = {name: f"{n} frames of {w}x{h}" for name, (n, h, w) in (("found", found), ("recorded", recorded))}
                raise DataError(f"frames are missing from the stored flow: {video_file}", **lines, hint=_AGAIN)
            flow[moving] = decode_flow(video.frames_at_indices(window.frames[moving].tolist()), stored.bound)
    return flow


def _check_pairs_stored(window: Window, stored: StoredFlow, file: Path) -> None:
    """Every pair must be one that was computed: `flow_step` apart, or to the file's last frame; or a frame with itself."""
    apart = window.targets - window.frames
    right = (apart == 0) | (window.targets == np.minimum(window.frames + stored.flow_step, stored.frame_count - 1))
    if right.all() or window.targets.max() >= stored.frame_count:  # frames that are missing are found when they are read
        return
    if apart.max() != stored.flow_step:
        raise DataError(
            f"the stored flow has another step: {file}",
            flow_step=f"{stored.flow_step} stored, {int(apart.max())} wanted",
            hint=f"data.window.flow_step={stored.flow_step}, or prepare_data flow --flow-step {int(apart.max())} into another folder",
        )
    raise DataError(
        f"stored flow points beyond the clip's end: {file}",
        frames=", ".join(str(frame) for frame in window.frames[~right][:4]),
        hint="window.short_clip=error, a shorter window, or data.flow.source=dis",
    )
