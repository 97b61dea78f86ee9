"""Readers of data sets with boxes, one per layout; docs/guides/detection.md lists them."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import shortened
from vidkd.detection.annotations import ANY_CLASS, BoxManifest
from vidkd.detection.layouts import coco, davis, mot, shapes, voc, yolo
from vidkd.detection.layouts.common import Reading, grouped_by_path

Reader: TypeAlias = Callable[[Path, Sequence[Path]], Reading]
"""From the root and the annotation files, where they are named, to classes and frames; paths are relative to the root."""

BOX_LAYOUTS: dict[str, Reader] = {
    "coco": coco.read,
    "coco_video": coco.read_videos,
    "davis": davis.read,
    "mot": mot.read,
    "motion_shapes": shapes.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "youtube_objects": voc.read_youtube_objects,
}
WITH_ANNOTATIONS = ("coco", "coco_video", "davis", "mot")
"""Layouts whose annotation files may be named."""
_NAMED_BY_LAYOUT = ("davis", "mot", "voc", "youtube_objects")
COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""Classes that VOC and YouTube-Objects name otherwise than COCO."""


def read_boxes(
    layout: str, root: Path, *, annotations: Sequence[Path] = (), classes: Sequence[str] = (), allow_missing: bool = False
) -> BoxManifest:
    """The annotated frames of a data set; images of one video are one group.

    annotations: files to read instead of those that the layout looks for. classes: those that labels shall index (of a detector, say);
    boxes of other classes are left out. allow_missing: leave out frames whose file is missing.
    Raises DataError for a data set that is not there or not as its layout says, missing files, and a frame that is listed twice.
    """
    names, frames = BOX_LAYOUTS[layout](root, annotations)
    name = layout if layout in _NAMED_BY_LAYOUT else root.name or layout
    missing = {path for path in {frame.path for frame in frames} if not (root / path).exists()}
    if missing and not allow_missing:
        raise DataError(
            f"data set '{name}': {len(missing)} of the files that its annotations name are missing",
            looked_in=root,
            missing=shortened(sorted(missing)),
            hint="unpack the archive again",
        )
    frames = grouped_by_path([frame for frame in frames if frame.path not in missing])
    if not frames:
        raise DataError(f"data set '{name}' has no annotated frame", looked_in=root)
    (path, _), times = Counter(frame.key for frame in frames).most_common(1)[0]
    if times > 1:
        raise DataError(f"data set '{name}': a frame is listed twice: {path}", looked_in=root, hint="list it on one side only")
    manifest = BoxManifest(name=name, root=root, classes=tuple(names), frames=tuple(frames))
    return in_classes(manifest, classes) if classes else manifest


def in_classes(manifest: BoxManifest, classes: Sequence[str]) -> BoxManifest:
    """The manifest with labels of these classes, by name (VOC's as COCO's too); boxes of others are left out, frames stay."""
    names = [name if name in classes else COCO_NAMES.get(name, name) for name in manifest.classes]
    new = np.array([*(classes.index(name) if name in classes else None for name in names), ANY_CLASS], np.float64)  # NaN for none
    frames = []
    for frame in manifest.frames:
        kept = ~np.isnan(new[frame.labels])  # ANY_CLASS is the last entry
        frames.append(
            dataclasses.replace(
                frame,
                boxes=frame.boxes[kept],
                labels=new[frame.labels[kept]].astype(np.int64),
                ignore=frame.ignore[kept],
                track_ids=None if frame.track_ids is None else frame.track_ids[kept],
            )
        )
    return dataclasses.replace(manifest, classes=tuple(classes), frames=tuple(frames))
