"""HMDB51: <class>/*.avi and testTrainMulti_7030_splits/<class>_test_split<k>.txt, or videos/ and splits/.

JHMDB: ReCompress_Videos/<class>/*.avi, splits/<class>_test_split<k>.txt and puppet_mask/<class>/<clip>/puppet_mask.mat.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError, require
from vidkd.data.layouts.common import ClipFiles, Key, Options, Reading, assemble, first_folder, not_found, place, read_list, stem
from vidkd.data.manifest import Clip

EXPECTED = "<class>/<clip>.avi and testTrainMulti_7030_splits/<class>_test_split<k>.txt, or the same in videos/ and splits/"
_LIST = re.compile(r"(?P<name>.+)_test_split(?P<split>\d+)\.txt")
_SUBSETS = {0: None, 1: "train", 2: "test"}


def read(root: Path, options: Options) -> Reading:
    """Splits "1" to "3": 70 clips of a class train, 30 test, the rest unused. A group is a source video.

    The official splits keep the sources of *one class* apart; a film that shows several classes may train one and test another.
    """
    return read_classwise_lists(
        "hmdb51", root, options, videos=("videos", "hmdb51_org", "."), lists=("testTrainMulti_7030_splits", "splits"), expected=EXPECTED
    )


def read_classwise_lists(name: str, root: Path, options: Options, *, videos: Sequence[str], lists: Sequence[str], expected: str) -> Reading:
    """A data set with one list for each class and split, lines `<clip>.avi <0 unused | 1 train | 2 test>`, as HMDB51 and JHMDB have."""
    folder = first_folder(name, root, lists, expected)
    paths = {(match["name"], match["split"]): path for path in folder.glob("*.txt") if (match := _LIST.fullmatch(path.name))}
    classes = sorted({label for label, _ in paths})
    splits = sorted({split for _, split in paths}, key=int)
    needed = [(label, split) for label in classes for split in splits] or [("<class>", "1")]
    listed: dict[Key, Clip] = {}
    for class_name, split in needed:
        if (class_name, split) not in paths:
            not_found(name, root, expected, f"{class_name}_test_split{split}.txt is missing in {folder.name}/")
        for where, file, number in read_list(paths[class_name, split]):
            if number not in _SUBSETS:
                raise DataError(f"{where}: '{file}' is neither train nor test", expected="<clip>.avi 0 (unused), 1 (train) or 2 (test)")
            source = stem(file).rpartition(f"_{class_name}_")[0] or stem(file)  # the last _<class>_ begins the tags
            subset = _SUBSETS[number]
            subsets = {split: subset} if subset else {}
            place(listed, (class_name, stem(file)), label=classes.index(class_name), group=source, subsets=subsets, where=where)
    files = ClipFiles(root, first_folder(name, root, videos, expected), classes)
    return assemble(name, root, classes, splits, listed, files, sorted(paths.values()), options, expected)


EXPECTED_JHMDB = "ReCompress_Videos/<class>/<clip>.avi (or videos/) and splits/<class>_test_split<k>.txt"
Boxes = tuple[tuple[float, float, float, float, float], ...]


def read_jhmdb(root: Path, options: Options) -> Reading:
    """Splits "1" to "3"; a group is a source video, as in HMDB51. Boxes of the actor come from the puppet masks, where they are there.

    Raises MissingExtraError without scipy, which reads the masks.
    """
    reading = read_classwise_lists(
        "jhmdb", root, options, videos=("ReCompress_Videos", "videos"), lists=("splits",), expected=EXPECTED_JHMDB
    )
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
