"""What the files hold on which a cell of a study of streams depends."""

import hashlib

from vidkd.bench.streams.footage import stretches_of, truth_of
from vidkd.bench.streams.places import StreamPlaces, oracle_files, selector_name
from vidkd.bench.streams.settings import StreamCellKey
from vidkd.bench.streams.spec import StreamStudy
from vidkd.detection.annotations import BoxManifest
from vidkd.runtime.metadata_file import read_names
from vidkd.video.files import content_of

TRUTH = "truth"
"""What the hash of the annotated frames is filed under, beside those of files."""


def contents(study: StreamStudy, key: StreamCellKey, places: StreamPlaces, truth: str | None) -> dict[str, str]:
    """Hashes of every file that a cell depends on, by its name in the study, and `truth`, that of the annotated frames of its stream.

    Files of the oracle that the study does not name, and that its model brings along, stand under their bare names.
    """
    spec = study.spec
    names = [spec.student.cfg, spec.student.weights, spec.student.names]
    names += [value for name in ("model", "weights", "names", "metadata") if (value := getattr(spec.oracle, name))]
    names += [segment.video for segment in spec.streams[key.stream].segments]
    if (selector := selector_name(study, key)) is not None:
        names.append(selector)
    found = {name: content_of(places.find(name, study)) for name in dict.fromkeys(names)}
    found |= {path.name: content_of(path) for path in oracle_files(study, places).beside()}
    return found if truth is None else {**found, TRUTH: truth}


def truth_content(study: StreamStudy, stream: str, places: StreamPlaces) -> str | None:
    """Hash of the annotated frames of a stream, None without any. Raises as `stretches_of` and `truth_of`."""
    if study.spec.streams[stream].truth is None:
        return None
    classes = tuple(read_names(places.find(study.spec.student.names, study)))
    return hash_of_truth(truth_of(study, stream, stretches_of(study, stream, places), classes, places))


def hash_of_truth(truth: BoxManifest | None) -> str | None:
    """Short SHA-256 of classes, places and boxes, as they were read, whatever files they came from; None without any."""
    if truth is None:
        return None
    digest = hashlib.sha256(repr(truth.classes).encode())
    for frame in truth.frames:
        digest.update(f"\n{frame.frame_index} {frame.width} {frame.height} {frame.complete} {len(frame)} ".encode())
        for part in (frame.boxes, frame.labels, frame.ignore, frame.track_ids):
            digest.update(b"-" if part is None else part.tobytes())
    return digest.hexdigest()[:16]
