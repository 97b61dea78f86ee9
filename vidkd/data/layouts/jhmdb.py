"""JHMDB: ReCompress_Videos/<class>/*.avi, splits/<class>_test_split<k>.txt and puppet_mask/<class>/<clip>/puppet_mask.mat."""

import dataclasses
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError, require
from vidkd.data.layouts.common import Options, Reading
from vidkd.data.layouts.hmdb51 import read_classwise_lists

EXPECTED = "ReCompress_Videos/<class>/<clip>.avi (or videos/) and splits/<class>_test_split<k>.txt"
Boxes = tuple[tuple[float, float, float, float, float], ...]


def read(root: Path, options: Options) -> Reading:
    """Splits "1" to "3"; a group is a source video, as in HMDB51. Boxes of the actor come from the puppet masks, where they are there.

    Raises MissingExtraError without scipy, which reads the masks.
    """
    reading = read_classwise_lists("jhmdb", root, options, videos=("ReCompress_Videos", "videos"), lists=("splits",), expected=EXPECTED)
    masks = root / "puppet_mask"
    if not options.boxes or not masks.is_dir():
        return reading
    clips = []
    for clip in reading.manifest.clips:
        path = PurePosixPath(clip.path)
        file = masks / path.parent.name / path.stem / "puppet_mask.mat"
        clips.append(dataclasses.replace(clip, boxes=_boxes(file, root / clip.path) if file.is_file() else ()))
    without = sum(not clip.boxes for clip in clips)
    notes = (f"{without} clips have no puppet mask, so no boxes",) if without else ()
    return dataclasses.replace(reading, manifest=dataclasses.replace(reading.manifest, clips=tuple(clips)), notes=(*reading.notes, *notes))


def _boxes(file: Path, video: Path) -> Boxes:
    """One box a frame, at the frame's own time and in the pixels of the video as it is stored now."""
    from vidkd.video import open_video

    loadmat = require("scipy.io", "boxes", package="scipy").loadmat
    try:
        mask = np.atleast_3d(loadmat(file)["part_mask"]) > 0
    except Exception as error:  # a damaged file raises whatever its parser or zlib happens to trip over
        hint = "take it from the archive again, or use --no-boxes"
        raise DataError(f"not a puppet mask: {file}", reason=repr(error), hint=hint) from None
    with open_video(video) as reader:
        times_s, width, height = reader.timestamps_s, reader.info.width, reader.info.height
    return boxes_of_mask(mask[:, :, : len(times_s)], times_s, scale=(width / mask.shape[1], height / mask.shape[0]))


def boxes_of_mask(mask: NDArray[np.bool_], times_s: NDArray[np.float64], *, scale: tuple[float, float] = (1.0, 1.0)) -> Boxes:
    """Tight boxes (time_s, x1, y1, x2, y2) around a mask (H, W, T), right and lower edge exclusive, times `scale` (x, y).

    Frame t of the mask is shown at times_s[t]; frames without a masked pixel have no box.
    """
    boxes = []
    for time_s, frame in zip(times_s.tolist(), np.moveaxis(mask, 2, 0), strict=False):
        rows, columns = np.nonzero(frame)
        if rows.size:
            x1, x2, y1, y2 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
            boxes.append((time_s, float(x1 * scale[0]), float(y1 * scale[1]), float(x2 * scale[0]), float(y2 * scale[1])))
    return tuple(boxes)
