"""Labelled scene folders: <scene>/<video>, one folder a scene, boxes next to the video where there are any.

Next to clip.mp4 there may be clip.txt, rows of MOT (frames from 1, persons), or a folder clip/ with one VOC file per frame, <index>.xml,
counted from 0. Frames without a row or file are not annotated; videos without either stay out of the manifest and are counted. A form of
our own: the scene data of Farhadi and Yang (arXiv 1903.01522) was not published.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import relative, shortened, subfolders
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts import mot
from vidkd.detection.layouts.common import BoxOptions, BoxReading, bare_frame, finish, not_found, with_boxes
from vidkd.detection.layouts.voc import VocPicture, boxes_of, read_voc_xml
from vidkd.video import open_video
from vidkd.video.files import video_files

EXPECTED = "<scene>/<video>, next to it <video's name>.txt (MOT) or <video's name>/<frame index>.xml (VOC)"


def read(root: Path, options: BoxOptions) -> BoxReading:
    """Classes are the names in the XML files, and "person" where there are text files, sorted. The group is the scene."""
    videos = [video for scene in (subfolders(root) if root.is_dir() else ()) for video in video_files(root / scene)]
    if not videos:
        raise not_found("scenes", root, EXPECTED, "no video in a folder below it")
    pictures = {video: _pictures(video) for video in videos}
    texts = {video: video.with_suffix(".txt") for video in videos if video.with_suffix(".txt").is_file()}
    if both := [video for video in texts if pictures[video]]:
        raise DataError(f"two kinds of boxes for one video: {both[0]}", hint="keep the text file or the folder of XML files")
    names = {item.name for found in pictures.values() for _, picture in found.values() for item in picture.objects}
    classes = sorted(names | (set(mot.CLASSES) if texts else set()))
    left_out: Counter[str] = Counter()
    frames: list[LabelledFrame] = []
    for video in videos:
        if video in texts:
            frames += mot.frames_beside(root, video, texts[video], left_out, group=video.parent.name, classes=classes)
        elif pictures[video]:
            frames += _from_xml(root, video, pictures[video], classes, left_out)
    bare = [relative(video, root) for video in videos if video not in texts and not pictures[video]]
    notes = [f"{len(bare)} videos have no boxes next to them: {shortened(bare)}"] if bare else []
    return finish("scenes", root, classes, frames, options, left_out, expected=EXPECTED, notes=notes)


def _pictures(video: Path) -> dict[int, tuple[Path, VocPicture]]:
    """Frame index -> XML file and what it says."""
    pictures: dict[int, tuple[Path, VocPicture]] = {}
    for file in sorted(video.with_suffix("").glob("*.xml")):
        match = re.fullmatch(r"(?:.*\D)?(\d+)", file.stem)
        if match is None:
            raise DataError(f"no frame index in the name: {file}", expected="<frame index>.xml, from 0")
        if (index := int(match[1])) in pictures:
            raise DataError(f"two files for frame {index}: {pictures[index][0]} and {file.name}", hint="keep one of them")
        pictures[index] = file, read_voc_xml(file)
    return dict(sorted(pictures.items()))


def _from_xml(
    root: Path, video: Path, pictures: dict[int, tuple[Path, VocPicture]], classes: Sequence[str], left_out: Counter[str]
) -> list[LabelledFrame]:
    with open_video(video) as reader:
        width, height, times_s = reader.info.width, reader.info.height, reader.timestamps_s.tolist()
    frames = []
    for index, (file, picture) in pictures.items():
        if index >= len(times_s):
            raise DataError(f"{file}: frame {index} is after the last one, {len(times_s) - 1}", video=video)
        if picture.size not in (None, (width, height)):
            raise DataError(f"{file}: <size> is {picture.size}, the video has {(width, height)}", video=video)
        bare = bare_frame(relative(video, root), width, height, video.parent.name, frame_index=index, time_s=times_s[index])
        frames.append(with_boxes(bare, boxes_of(picture, classes), left_out, classes, str(file)))
    return frames
