"""Weizmann "Actions as Space-Time Shapes": video/<class>/<actor>_<class>.avi, or videos/."""

import itertools
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import Options, Reading, first_folder, from_folders, relative, subfolders
from vidkd.data.manifest import Clip
from vidkd.video.files import video_files

EXPECTED = "video/<class>/<actor>_<class>.avi, or videos/"
FOLDS = 3


def read(root: Path, options: Options) -> Reading:
    """Splits "loo_<actor>" (that actor is the test) and "fold1" to "fold3" (three actors in sorted order are); a group is an actor."""
    videos = first_folder("weizmann", root, ("video", "videos"), EXPECTED)
    classes = subfolders(videos)
    files = [(label, path) for label, name in enumerate(classes) for path in video_files(videos / name)]
    actors = sorted({_actor(path) for _, path in files})
    tests = {f"loo_{actor}": {actor} for actor in actors} | {f"fold{k + 1}": set(fold) for k, fold in enumerate(_folds(actors))}
    clips = [
        Clip(
            path=relative(path, root),
            label=label,
            group=_actor(path),
            subsets={split: "test" if _actor(path) in test else "train" for split, test in tests.items()},
        )
        for label, path in files
    ]
    return from_folders(
        name="weizmann", root=root, classes=classes, splits=list(tests), clips=clips, options=options, looked_in=videos, expected=EXPECTED
    )


def _folds(actors: list[str]) -> list[list[str]]:
    """Runs of sorted actors, as equal as their number allows."""
    bounds = [round(len(actors) * k / FOLDS) for k in range(FOLDS + 1)]
    return [actors[low:high] for low, high in itertools.pairwise(bounds)]


def _actor(path: Path) -> str:
    actor, underscore, _ = path.stem.partition("_")
    if not actor or not underscore:
        raise DataError(f"no actor in the name of {path}", expected="<actor>_<class>.avi", hint="rename the file, or use layout folder")
    return actor
