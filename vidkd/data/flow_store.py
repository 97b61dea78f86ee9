"""Flow as ordinary video files: what `extract_flow` writes once and training reads like any video.

The flow of a clip is `<clip>.flow.mp4`, lossless RGB, with `<clip>.flow.json` beside it. A component is a 12-bit number,
round(v * 2047 / bound) + 2048: its high 8 bits are red (dx) and green (dy), the low 4 bits of both share blue.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.files import read_json, write_json
from vidkd.data.windows import Window
from vidkd.video import VideoWriter, open_video

SCHEMA_VERSION = 1
LEVELS = 2047
_ZERO = LEVELS + 1
_TO_MEND = "vidkd extract_flow --help"


@dataclass(frozen=True, kw_only=True)
class StoredFlow:
    """What is recorded beside the stored flow of one video.

    method, settings: what computed it, with every setting that decides the vectors (flow_step, bound and short_side among them).
    flow_step: decoded frames from a frame to the one that its flow points at; near the end of the file it points at the last frame.
    bound: largest component in pixels that can be stored; longer ones were cut. clipped: share of the components that were.
    width, height: of the stored flow. frame_count: frames of the source, one flow each; the last is zero.
    source_sha256: of the video that the flow belongs to. versions: library -> version.
    """

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


def largest_error(bound: float) -> float:
    """Largest error of a stored component within the bound, in pixels: half a step."""
    return bound / (2 * LEVELS)


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

    record: the fields of StoredFlow that are not measured here. Raises DataError without a field, and what VideoWriter raises.
    """
    video_file, side_file = stored_flow_files(folder, clip_path)
    side_file.unlink(missing_ok=True)
    writer: VideoWriter | None = None
    count = clipped = height = width = 0
    try:
        for flow in flows:
            picture, cut = encode_flow(flow, bound)
            if writer is None:
                height, width = picture.shape[:2]
                writer = VideoWriter(video_file, fps=fps, width=width, height=height, lossless=True)
            writer.write(picture)
            count, clipped = count + 1, clipped + cut
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    if writer is None:
        raise DataError(f"no frame to compute flow of: {clip_path}")
    writer.close()
    share = clipped / (2 * count * height * width)
    stored = StoredFlow(**record, bound=bound, width=width, height=height, frame_count=count, clipped=share)
    write_json(side_file, {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(stored)})
    return stored


def read_side_file(folder: Path, clip_path: str) -> StoredFlow:
    """What is recorded beside a clip's stored flow. Raises DataError if there is none, or one that is not as it was written."""
    video_file, side_file = stored_flow_files(folder, clip_path)
    if not side_file.is_file() or not video_file.is_file():
        missing = side_file if not side_file.is_file() else video_file
        raise DataError(f"no stored flow of {clip_path}", missing=missing, hint=_TO_MEND)
    content = read_json(side_file)
    if not isinstance(content, dict) or content.pop("schema_version", None) != SCHEMA_VERSION:
        raise DataError(f"not a record of stored flow: {side_file}", expected=f"schema_version {SCHEMA_VERSION}", hint=_TO_MEND)
    names = {field.name for field in dataclasses.fields(StoredFlow)}
    if set(content) != names:
        raise DataError(f"not a record of stored flow: {side_file}", keys=", ".join(sorted(set(content) ^ names)), hint=_TO_MEND)
    return StoredFlow(**content)


def read_stored_flow(folder: Path, clip_path: str, window: Window, *, frame_count: int | None = None) -> NDArray[np.float32]:
    """Flow of `window` from `folder`: float32 (T, H, W, 2) in pixels per flow step, at the size at which it was stored.

    frame_count: frames of the video itself, to be compared with what the flow was computed from. A pair of a frame with itself has zero
    flow. Raises DataError if there is no flow of the clip, it was made with another flow step or from another video, or frames are missing.
    """
    stored = read_side_file(folder, clip_path)
    video_file, side_file = stored_flow_files(folder, clip_path)
    if frame_count is not None and frame_count != stored.frame_count:
        raise DataError(
            f"the stored flow is not of this video: {clip_path}",
            frames=f"{frame_count}, the flow was computed from {stored.frame_count} ({side_file})",
            hint="extract the flow again",
        )
    _check_pairs_stored(window, stored, video_file)
    flow = np.zeros((len(window.frames), stored.height, stored.width, 2), np.float32)
    moving = np.flatnonzero(window.targets != window.frames)
    if len(moving):
        with open_video(video_file) as video:
            _check_whole(stored, len(video), video.output_size, video_file)
            flow[moving] = decode_flow(video.frames_at_indices(window.frames[moving].tolist()), stored.bound)
    return flow


def _check_whole(stored: StoredFlow, frames: int, size: tuple[int, int], file: Path) -> None:
    if frames != stored.frame_count or size != (stored.height, stored.width):
        raise DataError(
            f"frames are missing from the stored flow: {file}",
            found=f"{frames} frames of {size[1]}x{size[0]}",
            recorded=f"{stored.frame_count} of {stored.width}x{stored.height}",
            hint="extract the flow again",
        )


def _check_pairs_stored(window: Window, stored: StoredFlow, file: Path) -> None:
    """Every pair must be one that was computed: `flow_step` apart, or to the file's last frame; or a frame with itself."""
    last = stored.frame_count - 1
    if window.targets.max() > last:
        raise DataError(f"frames are missing from the stored flow: {file}", wanted=int(window.targets.max()), last_stored=last)
    apart = window.targets - window.frames
    right = (apart == 0) | (window.targets == np.minimum(window.frames + stored.flow_step, last))
    if right.all():
        return
    if apart.max() != stored.flow_step:
        raise DataError(
            f"the stored flow has another step: {file}",
            flow_step=f"{stored.flow_step} stored, {int(apart.max())} wanted",
            hint=f"data.window.flow_step={stored.flow_step}, or extract_flow --flow-step {int(apart.max())} into another folder",
        )
    raise DataError(
        f"stored flow points beyond the clip's end: {file}",
        frames=", ".join(str(frame) for frame in window.frames[~right][:4]),
        hint="window.short_clip=error, a shorter window, or data.flow.source=dis",
    )
