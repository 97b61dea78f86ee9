"""Which clips a classifier has learned from."""

import dataclasses

import pytest

from vidkd.data.groups import hold_out_groups
from vidkd.data.learned_from import LearnedFrom
from vidkd.data.manifest import Clip, Manifest

SETTINGS = {"split": "2", "validation_fraction": 0.25, "split_seed": 3, "root": "data"}


def manifest() -> Manifest:
    """Sixteen clips of eight groups; split 2 trains on all but the first group."""
    clips = tuple(
        Clip(
            path=f"{number}.mp4", label=number % 2, group=f"g{number // 2}", subsets={"1": "train", "2": "train" if number > 1 else "test"}
        )
        for number in range(16)
    )
    return Manifest(name="x", root="data", classes=("a", "b"), splits=("1", "2"), clips=clips)  # type: ignore[arg-type]


def test_its_clips_are_those_of_its_split_without_its_held_out_groups() -> None:
    learned = LearnedFrom.of("hash", SETTINGS)
    assert learned is not None
    data = manifest()
    assert learned.clips(data) == hold_out_groups(list(data.clips[2:]), 0.25, 3)[0]
    assert 0 < len(learned.clips(data)) < 14
    assert dataclasses.replace(learned, validation_fraction=0.0).clips(data) == list(data.clips[2:])
    assert dataclasses.replace(learned, split="3").clips(data) == []
    assert learned.settings() == {"data.split": "2", "data.validation_fraction": 0.25, "data.split_seed": 3}


@pytest.mark.parametrize(
    ("of", "data"),
    [
        (None, SETTINGS),
        ("x", None),
        ("x", {"split": "1"}),
        (3, SETTINGS),
        ("x", []),
        ("x", SETTINGS | {"validation_fraction": "much"}),
        ("x", SETTINGS | {"validation_fraction": 1.0}),
        ("x", SETTINGS | {"split_seed": 0.5}),
    ],
)
def test_nothing_is_known_of_a_file_that_does_not_say(of: object, data: object) -> None:
    assert LearnedFrom.of(of, data) is None
