"""UT-Interaction, segmented: set1/<number>_<sequence>_<class>.avi, or videos/."""

import re
from collections.abc import Sequence
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.data.layouts.layout import Options, Reading, first_folder, from_folders
from vidkd.data.layouts.tree import relative
from vidkd.data.manifest import Clip
from vidkd.video.files import video_files

EXPECTED = "set1/<number>_<sequence>_<class>.avi (or segmented_set1/, videos/), class 0 to 5"
CLASSES = ("hand-shaking", "hugging", "kicking", "pointing", "punching", "pushing")
SEQUENCES_IN_FOLD = 2
_NAME = re.compile(r"\d+_(?P<sequence>\d+)_(?P<label>[0-5])")


def read(root: Path, options: Options) -> Reading:
    """Splits "seq<k>" (that sequence is the test) and "fold<k>" (the k-th pair of sequences is); a group is a sequence."""
    videos = first_folder("ut_interaction", root, ("set1", "segmented_set1", "videos"), EXPECTED)
    files = [(*_parts(path), path) for path in video_files(videos)]
    tests = sequence_splits(sorted({sequence for sequence, _, _ in files}))
    clips = [
        Clip(
            path=relative(path, root),
            label=label,
            group=f"seq{sequence}",
            subsets={split: "test" if sequence in test else "train" for split, test in tests.items()},
        )
        for sequence, label, path in sorted(files, key=lambda item: int(item[2].stem.partition("_")[0]))
    ]
    return from_folders(
        name="ut_interaction",
        root=root,
        classes=CLASSES,
        splits=list(tests),
        clips=clips,
        options=options,
        looked_in=videos,
        expected=EXPECTED,
    )


def sequence_splits(sequences: Sequence[int], first_fold: int = 0) -> dict[str, set[int]]:
    """Split -> the sequences that it tests: "seq<k>" that one, "fold<first_fold + k>" the k-th pair in the order given."""
    tests = {f"seq{sequence}": {sequence} for sequence in sequences}
    for first in range(0, len(sequences), SEQUENCES_IN_FOLD):
        tests[f"fold{first_fold + first // SEQUENCES_IN_FOLD + 1}"] = set(sequences[first : first + SEQUENCES_IN_FOLD])
    return tests


def _parts(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise DataError(f"not a UT-Interaction name: {path}", expected=EXPECTED, hint="move the file away, or use layout folder")
    return int(match["sequence"]), int(match["label"])
