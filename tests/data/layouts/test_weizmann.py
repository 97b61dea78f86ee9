"""Weizmann: actors are groups, and never on both sides."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import Options
from vidkd.data.layouts.weizmann import read
from vidkd.data.manifest import Manifest

Tree = Callable[..., Path]
ACTORS = ["daria", "denis", "eli", "ido", "ira", "lena", "lyova", "moshe", "shahar"]


def assert_protocol(manifest: Manifest) -> None:
    assert manifest.splits == (*(f"loo_{actor}" for actor in ACTORS), "fold1", "fold2", "fold3")
    for split in manifest.splits:
        train, test = ({clip.group for clip in manifest.select(split, subset)} for subset in ("train", "test"))
        assert train | test == set(ACTORS)
        assert not train & test
        expected = {split.removeprefix("loo_")} if split.startswith("loo") else set(ACTORS[int(split[-1]) * 3 - 3 : int(split[-1]) * 3])
        assert test == expected


@pytest.mark.parametrize("folder", ["video", "videos"])
def test_leave_one_actor_out_and_three_folds(tree: Tree, folder: str) -> None:
    # lena runs twice in the original
    paths = [f"{folder}/{name}/{actor}_{name}.avi" for name in ("run", "wave1") for actor in ACTORS if (actor, name) != ("lena", "run")]
    manifest = read(tree([*paths, f"{folder}/run/lena_run1.avi", f"{folder}/run/lena_run2.avi"]), Options()).manifest
    assert (manifest.name, manifest.classes, len(manifest.clips)) == ("weizmann", ("run", "wave1"), 19)
    assert [clip.path for clip in manifest.select("loo_lena", "test")] == [
        f"{folder}/run/lena_run1.avi",
        f"{folder}/run/lena_run2.avi",
        f"{folder}/wave1/lena_wave1.avi",
    ]
    assert_protocol(manifest)


def test_a_name_without_an_actor(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"no actor in the name of .*run\.avi"):
        read(tree(["video/run/run.avi"]), Options())


@pytest.mark.parametrize("paths", [[], ["video/run/readme.txt"], ["other/run/a_run.avi"]])
def test_nothing_there(tree: Tree, paths: list[str]) -> None:
    with pytest.raises(DataError, match="data set 'weizmann' not found"):
        read(tree(paths), Options(allow_missing=True))


@pytest.mark.data
def test_the_real_one(real_data: Path) -> None:
    manifest = read(real_data / "weizmann", Options()).manifest
    assert (len(manifest.clips), len(manifest.classes)) == (90, 10)
    assert_protocol(manifest)
    assert all(len(manifest.select(f"loo_{actor}", "test")) == 10 for actor in ACTORS)
