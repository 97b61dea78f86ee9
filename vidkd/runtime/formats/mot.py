"""MOTChallenge text: `frame,id,x,y,width,height,score,-1,-1,-1`, frames from 1."""

from collections.abc import Iterable
from typing import IO

from vidkd.runtime.detections import Detections
from vidkd.runtime.formats.numbers import corner_and_size, decimals, require_finite

UNTRACKED = -1


def mot_lines(detections: Detections) -> list[str]:
    """The lines of one frame, without line ends. The id is -1 where nobody tracked; where somebody did, boxes without a track are left out,
    for ids that repeat within a frame are none to those who judge tracks.

    The format has no room for classes: select one before. Pixels are not shifted: the left edge of a frame stays 0.
    Raises DataError if a number is not finite.
    """
    require_finite(detections)
    if detections.track_ids is not None:
        detections = detections.select(detections.track_ids != UNTRACKED)
    numbers, scores = decimals(corner_and_size(detections.boxes)), decimals(detections.scores)
    ids = [UNTRACKED] * len(detections) if detections.track_ids is None else detections.track_ids.tolist()
    places = [",".join(map(str, numbers[4 * k : 4 * k + 4])) for k in range(len(detections))]
    frame = detections.frame_index + 1
    return [f"{frame},{id_},{place},{score},-1,-1,-1" for id_, place, score in zip(ids, places, scores, strict=True)]


def write_mot(file: IO[str], frames: Iterable[Detections]) -> None:
    """Write the lines of all frames. Raises as `mot_lines`."""
    for detections in frames:
        file.writelines(f"{line}\n" for line in mot_lines(detections))
