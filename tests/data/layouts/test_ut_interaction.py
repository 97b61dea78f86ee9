"""UT-Interaction: sequences are groups, and never on both sides."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import Options
from vidkd.data.layouts.ut_interaction import CLASSES, read
from vidkd.data.manifest import Manifest

Tree = Callable[..., Path]


def assert_protocol(manifest: Manifest) -> None:
    assert manifest.splits == (*(f"seq{k}" for k in range(1, 11)), *(f"fold{k}" for k in range(1, 6)))
    everything = {f"seq{k}" for k in range(1, 11)}
    for split in manifest.splits:
        train, test = ({clip.group for clip in manifest.select(split, subset)} for subset in ("train", "test"))
        number = int(split.lstrip("seqfold"))
        assert test == ({split} if split.startswith("seq") else {f"seq{2 * number - 1}", f"seq{2 * number}"})
        assert train == everything - test


@pytest.mark.parametrize("folder", ["set1", "segmented_set1", "videos"])
def test_every_sequence_and_pair_of_sequences(tree: Tree, folder: str) -> None:
    names = [f"{6 * sequence + label}_{sequence + 1}_{label}" for sequence in range(10) for label in range(6)]
    manifest = read(tree(f"{folder}/{name}.avi" for name in names), Options()).manifest
    assert manifest.classes == CLASSES == ("hand-shaking", "hugging", "kicking", "pointing", "punching", "pushing")
    assert [clip.path for clip in manifest.clips] == [f"{folder}/{name}.avi" for name in names], "in the order of their numbers"
    assert manifest.clips[13].label == 1
    assert manifest.clips[13].group == "seq3"
    assert_protocol(manifest)


@pytest.mark.parametrize("name", ["0_1_6", "clip", "1_2", "0_1_1_copy"])
def test_another_name_is_an_error(tree: Tree, name: str) -> None:
    with pytest.raises(DataError, match=rf"not a UT-Interaction name: .*{name}\.avi"):
        read(tree([f"set1/{name}.avi", "set1/0_1_1.avi"]), Options())


def test_a_class_without_a_clip(tree: Tree) -> None:
    root = tree(f"set1/{label}_1_{label}.avi" for label in range(5))
    with pytest.raises(DataError, match=r"1 of its 6 classes have no video(.|\n)*pushing"):
        read(root, Options())
    assert len(read(root, Options(allow_missing=True)).manifest.clips) == 5
