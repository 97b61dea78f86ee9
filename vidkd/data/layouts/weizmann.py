"""Weizmann "Actions as Space-Time Shapes": video/<class>/<actor>_<class>.avi, or videos/."""

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
    files = [(label, _actor(path), path) for label, name in enumerate(classes) for path in video_files(videos / name)]
    actors = sorted({actor for _, actor, _ in files})
    bounds = [round(len(actors) * fold / FOLDS) for fold in range(FOLDS + 1)]  # runs of actors, as equal as their number allows
    tests = {f"loo_{actor}": [actor] for actor in actors}
    tests |= {f"fold{fold + 1}": actors[bounds[fold] : bounds[fold + 1]] for fold in range(FOLDS)}
    clips = [
        Clip(
            path=relative(path, root),
            label=label,
            group=actor,
            subsets={split: "test" if actor in test else "train" for split, test in tests.items()},
        )
        for label, actor, path in files
    ]
    return from_folders("weizmann", root, classes, tests, clips, options, videos, EXPECTED)


def _actor(path: Path) -> str:
    actor, underscore, _ = path.stem.partition("_")
    if not actor or not underscore:
        raise DataError(f"no actor in the name of {path}", expected="<actor>_<class>.avi", hint="rename the file, or use layout folder")
    return actor
