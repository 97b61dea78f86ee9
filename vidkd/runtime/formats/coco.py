"""COCO JSON: the list of results that evaluators load, and the whole data set of images, categories and annotations."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from vidkd.runtime.detections import Detections
from vidkd.runtime.formats.numbers import corner_and_size, decimals, names_of, require_finite


def coco_rows(
    detections: Detections, class_names: Sequence[str], *, first_image: int = 0, category_ids: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Results of one frame: image_id, category_id, bbox [x, y, width, height] in pixels, score; and track_id where there is one.

    image_id is first_image + frame index, so that several videos can share a file. category_ids: that of each class, by default
    label + 1. Raises DataError if a number is not finite, ValueError if a label has no name or a class no id.
    """
    require_finite(detections)
    names_of(detections, class_names)
    ids = _category_ids(class_names, category_ids)
    numbers = decimals(corner_and_size(detections.boxes))
    rows = [
        {"image_id": first_image + detections.frame_index, "category_id": ids[label], "bbox": numbers[4 * k : 4 * k + 4], "score": score}
        for k, (label, score) in enumerate(zip(detections.labels.tolist(), decimals(detections.scores), strict=True))
    ]
    tracks = [] if detections.track_ids is None else detections.track_ids.tolist()
    for row, track in zip(rows, tracks, strict=False):
        row["track_id"] = track
    return rows


def write_coco_results(
    file: IO[str],
    frames: Iterable[Detections],
    class_names: Sequence[str],
    *,
    first_image: int = 0,
    category_ids: Sequence[int] | None = None,
) -> None:
    """Write the list of results of all frames. Arguments and errors as in `coco_rows`."""
    rows = (row for detections in frames for row in coco_rows(detections, class_names, first_image=first_image, category_ids=category_ids))
    _write_list(file, rows)
    file.write("\n")


def write_coco(
    file: IO[str],
    frames: Iterable[Detections],
    class_names: Sequence[str],
    *,
    size: tuple[int, int],
    video: str,
    category_ids: Sequence[int] | None = None,
) -> None:
    """Write a COCO data set whose images are the frames and whose annotations are the boxes, with their scores beside the usual keys.

    size: (width, height) of the frames. video: its name; an image's file_name is `<video>#<frame index>`, its frame_index and time_s stand
    beside. Ids of images are frame indices, those of annotations count from 1. category_ids and errors as in `coco_rows`.
    """
    seen: list[tuple[int, float | None]] = []
    file.write('{"annotations": ')
    _write_list(file, _annotations(frames, seen, class_names, category_ids))
    images = (
        {"id": index, "file_name": f"{video}#{index}", "width": size[0], "height": size[1], "frame_index": index, "time_s": time_s}
        for index, time_s in seen
    )
    file.write(',\n"images": ')
    _write_list(file, images)
    file.write(',\n"categories": ')
    ids = _category_ids(class_names, category_ids)
    _write_list(file, ({"id": id_, "name": name} for id_, name in zip(ids, class_names, strict=True)))
    file.write("}\n")


def _annotations(
    frames: Iterable[Detections],
    seen: list[tuple[int, float | None]],
    class_names: Sequence[str],
    category_ids: Sequence[int] | None,
) -> Iterator[dict[str, Any]]:
    """The annotations of all frames; index and time of each frame are put into `seen` as it passes."""
    number = 0
    for detections in frames:
        seen.append((detections.frame_index, detections.time_s))
        areas = corner_and_size(detections.boxes)[:, 2:].prod(1).astype(np.float32)
        for row, area in zip(coco_rows(detections, class_names, category_ids=category_ids), decimals(areas), strict=True):
            number += 1
            yield {"id": number, **row, "area": area, "iscrowd": 0}


def _write_list(file: IO[str], rows: Iterable[dict[str, Any]]) -> None:
    before = "[\n"
    for row in rows:
        file.write(before + json.dumps(row, ensure_ascii=False, allow_nan=False))
        before = ",\n"
    file.write("[]" if before == "[\n" else "\n]")


def _category_ids(class_names: Sequence[str], category_ids: Sequence[int] | None) -> Sequence[int]:
    ids = range(1, len(class_names) + 1) if category_ids is None else category_ids
    if len(ids) != len(class_names):
        raise ValueError(f"{len(ids)} category ids do not fit {len(class_names)} classes")
    return ids
