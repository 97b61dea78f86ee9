"""Labelled scene folders: <scene>/<video>, one folder a scene, boxes next to the video where there are any.

Next to clip.mp4 there may be clip.txt, rows of MOT (frames from 1, persons), or a folder clip/ with one VOC file per frame, <index>.xml,
counted from 0. Frames without a row or file are not annotated; videos without either are left out. A form of our own: the scene data of
Farhadi and Yang (arXiv 1903.01522) was not published.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import relative
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts import mot
from vidkd.detection.layouts.common import Reading, labelled_frame, not_found
from vidkd.detection.layouts.voc import VocPicture, boxes_of, names_in, read_voc_xml
from vidkd.video import open_video
from vidkd.video.files import video_files

EXPECTED = "<scene>/<video>, next to it <video's name>.txt (MOT) or <video's name>/<frame index>.xml (VOC)"


def read(root: Path, _: Sequence[Path]) -> Reading:
    """Classes are the names in the XML files, and "person" where there are text files, sorted. The group is the scene."""
    videos = [video for scene in sorted(root.glob("*/")) for video in video_files(scene)]
    if not videos:
        raise not_found(root, EXPECTED, "no video in a folder below it")
    pictures = {video: [read_voc_xml(file) for file in sorted(video.with_suffix("").glob("*.xml"))] for video in videos}
    texts = {video: video.with_suffix(".txt") for video in videos if video.with_suffix(".txt").is_file()}
    classes = sorted(names_in(each for found in pictures.values() for each in found) | (set(mot.CLASSES) if texts else set()))
    frames: list[LabelledFrame] = []
    for video in videos:
        if video in texts:
            frames += mot.frames_beside(root, video, texts[video], group=video.parent.name, person=classes.index("person"))
        elif pictures[video]:
            frames += _from_xml(root, video, pictures[video], classes)
    return classes, frames


def _from_xml(root: Path, video: Path, pictures: Sequence[VocPicture], classes: Sequence[str]) -> list[LabelledFrame]:
    with open_video(video) as reader:
        size, times_s = (reader.info.width, reader.info.height), reader.timestamps_s.tolist()
    frames = {}
    for picture in pictures:
        match = re.search(r"(\d+)$", picture.file.stem)
        if match is None or int(match[1]) >= len(times_s):
            raise DataError(f"no frame of the video: {picture.file}", expected=f"<frame index>.xml, from 0 to {len(times_s) - 1}")
        index, boxes = int(match[1]), boxes_of(picture, classes)
        more = {"group": video.parent.name, "frame_index": index, "time_s": times_s[index]}
        frames[index] = labelled_frame(str(picture.file), relative(video, root), size, boxes, **more)
    return [frames[index] for index in sorted(frames)]
