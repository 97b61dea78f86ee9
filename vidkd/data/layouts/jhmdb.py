"""JHMDB: ReCompress_Videos/<class>/*.avi, splits/<class>_test_split<k>.txt and puppet_mask/<class>/<clip>/puppet_mask.mat."""

import dataclasses
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError, MissingExtraError
from vidkd.base.extras import require
from vidkd.data.layouts.common import Options, Reading
from vidkd.data.layouts.hmdb51 import read_classwise_lists

EXPECTED = "ReCompress_Videos/<class>/<clip>.avi (or videos/) and splits/<class>_test_split<k>.txt"
Boxes = tuple[tuple[float, float, float, float, float], ...]


def read(root: Path, options: Options) -> Reading:
    """Splits "1" to "3"; a group is a source video, as in HMDB51. Boxes of the actor come from the puppet masks, where they are there."""
    reading = read_classwise_lists("jhmdb", root, options, videos=("ReCompress_Videos", "videos"), lists=("splits",), expected=EXPECTED)
    masks = root / "puppet_mask"
    if not options.boxes or not masks.is_dir():
        return reading
    try:
        require("scipy.io", "boxes", package="scipy")
    except MissingExtraError as error:
        return dataclasses.replace(reading, notes=(*reading.notes, f"no boxes: {error.what}; {error.lines['fix']}"))
    return _with_boxes(reading, masks)


def _with_boxes(reading: Reading, masks: Path) -> Reading:
    manifest, clips, without, longer = reading.manifest, [], 0, 0
    for clip in manifest.clips:
        path = PurePosixPath(clip.path)
        file = masks / path.parent.name / path.stem / "puppet_mask.mat"
        boxes, is_longer = _boxes(file, manifest.root / clip.path) if file.is_file() else ((), False)
        without += not boxes
        longer += is_longer
        clips.append(dataclasses.replace(clip, boxes=boxes))
    notes = [f"{without} clips have no puppet mask, so no boxes"] if without else []
    notes += [f"{longer} puppet masks go on after the last frame of their video; that part is left out"] if longer else []
    return dataclasses.replace(reading, manifest=dataclasses.replace(manifest, clips=tuple(clips)), notes=(*reading.notes, *notes))


def _boxes(file: Path, video: Path) -> tuple[Boxes, bool]:
    """One box a frame, at the frame's own time and in the pixels of the video as it is stored now; whether the mask is the longer one."""
    from vidkd.video import open_video

    mask = _mask(file)
    with open_video(video) as reader:
        times_s, width, height = reader.timestamps_s, reader.info.width, reader.info.height
    boxes = boxes_of_mask(mask[:, :, : len(times_s)], times_s, scale=(width / mask.shape[1], height / mask.shape[0]))
    return boxes, mask.shape[2] > len(times_s)


def _mask(file: Path) -> NDArray[np.bool_]:
    loadmat = require("scipy.io", "boxes", package="scipy").loadmat
    try:
        mask = loadmat(file)["part_mask"]
    except Exception as error:  # a damaged file raises whatever its parser or zlib happens to trip over
        raise DataError(
            f"not a puppet mask: {file}", reason=repr(error), hint="take it from the archive again, or use --no-boxes"
        ) from None
    return np.asarray(mask).reshape(*mask.shape[:2], -1) > 0


def boxes_of_mask(mask: NDArray[np.bool_], times_s: NDArray[np.float64], *, scale: tuple[float, float] = (1.0, 1.0)) -> Boxes:
    """Tight boxes (time_s, x1, y1, x2, y2) around a mask (H, W, T), right and lower edge exclusive, times `scale` (x, y).

    Frame t of the mask is shown at times_s[t]; frames without a masked pixel have no box.
    """
    boxes = []
    for frame in range(mask.shape[2]):
        rows, columns = np.flatnonzero(mask[:, :, frame].any(axis=1)), np.flatnonzero(mask[:, :, frame].any(axis=0))
        if rows.size:
            x1, x2 = columns[0] * scale[0], (columns[-1] + 1) * scale[0]
            y1, y2 = rows[0] * scale[1], (rows[-1] + 1) * scale[1]
            boxes.append((float(times_s[frame]), float(x1), float(y1), float(x2), float(y2)))
    return tuple(boxes)
