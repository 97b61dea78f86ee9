"""MOT challenge: <sequence>/{img1/,seqinfo.ini,gt/gt.txt}, also below train/ and test/; rows `frame, id, x, y, w, h, flag, ...`.

Frames count from 1. With seqinfo.ini every frame of the sequence is annotated, and one without a row is empty. Without it (a text file
next to a video, say) only frames with a row are: the others are unknown. Flag 0 is a region to ignore. In the nine columns of MOT16 and
later, column 8 is a class: 1 is a person; 2, 7, 8, 12 and 13 (on a vehicle, static, distractor, reflection, crowd) are ignored, as in the
official evaluation; the others (vehicles, occluders) are no objects of this data set. x and y are taken unchanged, though some tools
count pixels from 1, so boxes may be off by one pixel. Format: Milan et al. 2016 (arXiv 1603.00831); classes from memory.
"""

import configparser
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import read_lines, relative
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts.common import Box, Reading, labelled_frame, not_found, subset_in
from vidkd.video import open_video
from vidkd.video.files import video_files
from vidkd.video.image_sequence import list_images

EXPECTED = "[train/]<sequence>/ with img1/, seqinfo.ini and gt/gt.txt, or one video and the text file that `annotations` names"
CLASSES = ("person",)
_PERSON, _NEUTRAL = 1, (2, 7, 8, 12, 13)


def read(root: Path, files: Sequence[Path]) -> Reading:
    """One class, "person". The group is the sequence; the subset is the folder above the sequences, where it is train, val or test."""
    if files:
        return CLASSES, [frame for file in files for frame in _frames_of(root, _only_video(root), file)]
    return CLASSES, [frame for file in sorted(root.glob("**/gt/gt.txt")) for frame in _sequence(root, file.parent.parent)]


def _sequence(root: Path, folder: Path) -> list[LabelledFrame]:
    info_file = folder / "seqinfo.ini"
    if not info_file.is_file():
        return _frames_of(root, _only_video(folder), folder / "gt" / "gt.txt")
    parser = configparser.ConfigParser()
    try:
        parser.read_string(info_file.read_text(encoding="utf-8"))
        info = parser["Sequence"]
        length, width, height = (int(info[key]) for key in ("seqLength", "imWidth", "imHeight"))
        path, fps = relative(folder / info.get("imDir", "img1"), root), float(info["frameRate"])
    except (configparser.Error, KeyError, ValueError) as error:
        raise DataError(f"not a seqinfo.ini: {info_file}", reason=error, expected="[Sequence] with seqLength, ...") from None
    images = len(list_images(str(root / path))) if (root / path).is_dir() else length
    if images != length:
        raise DataError(f"{info_file}: seqLength is {length}, {path} has {images} images", hint="unpack the sequence again")
    boxes = _boxes(folder / "gt" / "gt.txt", length)
    subset = subset_in(folder.parent.name) if folder != root else ""
    where, more = str(folder), {"group": folder.name, "subset": subset}
    return [labelled_frame(where, path, (width, height), boxes.get(k, ()), frame_index=k, time_s=k / fps, **more) for k in range(length)]


def _frames_of(root: Path, video: Path, annotations: Path) -> list[LabelledFrame]:
    """The frames of a video (or folder of images) that have a row in a text file, with the video's own timestamps."""
    path = relative(video, root)
    with open_video(video) as reader:
        size, times_s = (reader.info.width, reader.info.height), reader.timestamps_s.tolist()
    return [
        labelled_frame(str(annotations), path, size, boxes, frame_index=index, time_s=times_s[index], group=path)
        for index, boxes in sorted(_boxes(annotations, len(times_s)).items())
    ]


def _boxes(path: Path, frames: int) -> dict[int, list[Box]]:
    """The boxes of every frame with a row, by frame index from 0. Raises DataError for what are no rows, or one beyond the last frame."""
    table = _table(path)
    if len(table) and not 1 <= table[:, 0].min() <= table[:, 0].max() <= frames:
        first, last = table[:, 0].min(), table[:, 0].max()
        raise DataError(f"{path}: frames {first:g} to {last:g}", expected=f"1 to {frames}")
    found: dict[int, list[Box]] = {int(frame) - 1: [] for frame in table[:, 0]}
    kinds = table[:, 7] if table.shape[1] == 9 else np.full(len(table), _PERSON)
    for (frame, track, x, y, width, height, *flag), kind in zip(table.tolist(), kinds.tolist(), strict=True):
        if kind in (-1, _PERSON, *_NEUTRAL):
            ignore = flag[:1] == [0] or kind in _NEUTRAL
            found[int(frame) - 1].append(Box((x, y, x + width, y + height), 0, ignore, int(track)))
    return found


def _table(path: Path) -> NDArray[np.float64]:
    lines = [line for _, line in read_lines(path)]
    try:
        table = np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.zeros((0, 6))
    except ValueError as error:
        raise DataError(f"not rows of MOT: {path}", reason=error, expected="frame, id, x, y, w, h, flag, ... (6 to 10 numbers)") from None
    if not 6 <= table.shape[1] <= 10:
        raise DataError(f"not rows of MOT: {path}", expected="frame, id, x, y, w, h, flag, ... (6 to 10 numbers)")
    return table


def _only_video(folder: Path) -> Path:
    images = folder / "img1"
    found = video_files(folder) or ([images] if images.is_dir() else [])
    if len(found) != 1:
        raise not_found(folder, EXPECTED, f"{len(found)} videos")
    return found[0]
