"""The clips of a run: what is observed, what has no label, what must not be trained on."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidkd.base.errors import CheckpointError, ConfigError, DataError
from vidkd.data.manifest import Clip, Manifest
from vidkd.engine.clips import Clips, read_clips
from vidkd.engine.config import RunConfig
from vidkd.engine.fit import fit
from vidkd.engine.setup import build_run_task, training_sampler, training_set

Config = Callable[..., RunConfig]
NAMES = [f"{group}{number}" for group in "abcdefgh" for number in (1, 2)]


def manifest_of(root: Path, **changes: dict[str, Any]) -> Path:
    """Sixteen clips of eight groups and two classes: a to f train, g and h test; `changes` by clip name."""
    root.mkdir(exist_ok=True)
    clips = []
    for place, name in enumerate(NAMES):
        (root / f"{name}.mp4").write_bytes(name.encode() * (place + 1))
        row = {"path": f"{name}.mp4", "label": place % 2, "group": name[0], "subsets": {"1": "test" if name[0] in "gh" else "train"}}
        clips.append(Clip(**{**row, "start_s": 5.0, "end_s": 6.0, **changes.get(name, {})}))
    path = root / "manifest.jsonl"
    Manifest(name="made", root=root, classes=("x", "y"), splits=("1",), clips=tuple(clips)).write(path)
    return path


def names(clips: list[Clip]) -> list[str]:
    return [Path(clip.path).stem for clip in clips]


def unseen(clips: Clips) -> dict[str, list[str]]:
    return {name: names(list(found)) for name, found in clips.unobservable.items()}


def test_clips_without_a_label_are_left_out_or_used(tmp_path: Path, tiny_config: Config) -> None:
    root = manifest_of(tmp_path / "data", a1={"label": None}, g1={"label": None}).parent
    config = tiny_config(**{"data.root": str(root), "data.label_fraction": 0.34})
    left = read_clips(config.data)
    assert len(left.train) == 6 - ("a2" in names(left.train))  # three groups; the first clip has no label
    assert left.unlabelled == []
    used = read_clips(dataclasses.replace(config.data, unlabelled="use"))
    assert used.train == left.train
    assert sorted(names(used.unlabelled) + names(used.train)) == [name for name in NAMES if name[0] not in "gh"]
    assert "a1" in names(used.unlabelled)
    assert all(clip.label is None for clip in used.unlabelled)
    assert names(used.subset("test", "1")) == ["g1", "g2", "h1", "h2"]
    with pytest.raises(DataError, match="there is no unlabelled clip"):
        read_clips(dataclasses.replace(tiny_config(**{"data.root": str(manifest_of(tmp_path / "all").parent)}).data, unlabelled="use"))


def test_a_clip_with_labels_of_some_kinds_is_trained_on_and_one_without_labels_has_none(tmp_path: Path, tiny_config: Config) -> None:
    """Rows with a verb and an action, a1 with a verb alone, a2 with nothing; what `label_fraction` leaves out is read without its verb."""
    root = manifest_of(tmp_path / "data", a1={"label": None}, a2={"label": None}).parent
    manifest = Manifest.read(root / "manifest.jsonl", None)
    rows = tuple(clip if clip.path == "a2.mp4" else dataclasses.replace(clip, targets={"verb": 0}) for clip in manifest.clips)
    dataclasses.replace(manifest, targets={"verb": ("take",)}, clips=rows).write(root / "manifest.jsonl")
    config = tiny_config(**{"task": "logits_kd", "data.root": str(root), "data.unlabelled": "use"})
    clips = read_clips(config.data)
    assert names(clips.train) == ["a1", *NAMES[2:12]]
    assert clips.train[0].targets == {"verb": 0}
    assert names(clips.unlabelled) == ["a2"]
    assert clips.trained_classes == ["x", "y"]
    fewer = read_clips(dataclasses.replace(config.data, label_fraction=0.5))
    assert len(fewer.unlabelled) >= 6
    assert {(clip.label, *clip.targets) for clip in fewer.unlabelled} == {(None,)}


def test_a_batch_has_both_kinds_in_the_stated_ratio(tmp_path: Path, tiny_config: Config) -> None:
    root = manifest_of(tmp_path / "data").parent
    settings = {"task": "logits_kd", "data.root": str(root), "data.label_fraction": 0.3, "data.unlabelled": "use", "data.batch_size": 8}
    for ratio, labelled in [(1.0, 4), (3.0, 2), (0.34, 6)]:
        config = tiny_config(**settings, **{"data.unlabelled_ratio": ratio})
        clips = read_clips(config.data)
        dataset = training_set(clips, config, ["rgb"])
        sampler = training_sampler(clips, config, first_step=0, last_step=12)
        batches = list(sampler)
        assert [sum(dataset.clips[item[1]].label is not None for item in batch) for batch in batches] == [labelled] * 12
        seen = {item[1] for batch in batches for item in batch}
        assert seen == set(range(len(dataset.clips)))
        if labelled % 2:
            with pytest.raises(DataError, match="cannot be shared evenly by 2 processes"):
                training_sampler(clips, config, first_step=5, last_step=6, world_size=2)
            continue
        halves = [training_sampler(clips, config, first_step=5, last_step=6, rank=rank, world_size=2) for rank in (0, 1)]
        both = [next(iter(half)) for half in halves]
        assert sorted(both[0] + both[1]) == sorted(batches[5])
        assert [sum(dataset.clips[item[1]].label is not None for item in half) for half in both] == [labelled // 2] * 2
    config = tiny_config(**settings, **{"data.unlabelled_ratio": 20.0})
    clips = read_clips(config.data)
    with pytest.raises(DataError, match="cannot hold 20 unlabelled clips for each labelled one"):
        training_sampler(clips, config, first_step=0, last_step=1)


def test_unlabelled_video_that_is_judged_is_refused(tmp_path: Path, tiny_config: Config) -> None:
    root = manifest_of(tmp_path / "data").parent
    other = manifest_of(tmp_path / "other").parent
    for place, name in enumerate(NAMES):  # other files under the same names
        (other / f"{name}.mp4").write_bytes(b"other" * (place + 1))
    settings = {
        "task": "logits_kd",
        "data.root": str(root),
        "data.unlabelled": "use",
        "data.unlabelled_manifest": str(other / "manifest.jsonl"),
    }
    found = read_clips(tiny_config(**settings).data).unlabelled
    assert [Path(clip.path) for clip in found] == [(other / f"{name}.mp4").resolve() for name in NAMES]
    assert {clip.label for clip in found} == {None}
    shutil.copy(root / "h2.mp4", other / "a1.mp4")  # a copy under another name
    with pytest.raises(DataError, match="1 unlabelled clips lie in videos that are judged") as caught:
        read_clips(tiny_config(**settings).data)
    assert caught.value.lines["first"] == "a1.mp4"
    same = manifest_of(tmp_path / "same", a1={"path": "g1.mp4", "label": None, "start_s": 1.0, "end_s": 2.0}).parent
    with pytest.raises(DataError, match="1 unlabelled clips lie in videos that are judged"):
        read_clips(tiny_config(**{"task": "logits_kd", "data.root": str(same), "data.unlabelled": "use"}).data)
    copied = manifest_of(tmp_path / "copied", a1={"path": "renamed.mp4", "label": None}).parent
    settings = {"task": "logits_kd", "data.root": str(copied), "data.unlabelled": "use"}
    (copied / "renamed.mp4").write_bytes(b"a1" * 15)
    assert (copied / "renamed.mp4").stat().st_size == (copied / "h1.mp4").stat().st_size, "of the size of a test video, but another"
    assert len(read_clips(tiny_config(**settings).data).unlabelled) == 1
    shutil.copy(copied / "h1.mp4", copied / "renamed.mp4")
    with pytest.raises(DataError, match="1 unlabelled clips lie in videos that are judged") as caught:
        read_clips(tiny_config(**settings).data)
    assert caught.value.lines["first"] == "renamed.mp4"
    with pytest.raises(ConfigError, match=r"data\.unlabelled is none"):
        tiny_config(**{"data.unlabelled_manifest": "x.jsonl"})


def test_what_cannot_be_observed_is_counted_and_in_no_subset(tmp_path: Path, tiny_config: Config) -> None:
    early = {"start_s": 0.5, "end_s": 1.0}
    root = manifest_of(tmp_path / "data", a1=early, b2=early, g1=early).parent
    settings = {"data.root": str(root), "data.observe.protocol": "anticipation", "data.observe.gap_s": 1.0}
    clips = read_clips(tiny_config(**settings).data)
    assert unseen(clips) == {"train": ["a1", "b2"], "val": [], "test": ["g1"], "unlabelled": []}
    assert clips.training_remarks() == [
        "2 of 12 training clips are left out: the gap leaves nothing to observe",
    ]
    assert {"a1", "b2"}.isdisjoint(names(clips.train))
    assert names(clips.subset("test", "1")) == ["g2", "h1", "h2"]
    whole = read_clips(tiny_config(**{"data.root": str(root)}).data)
    assert (len(whole.train), unseen(whole)["train"], whole.training_remarks()) == (12, [], [])
    longer = read_clips(tiny_config(**settings, **{"data.observe.observe_s": 4.5}).data)
    assert longer.training_remarks() == [
        "2 of 12 training clips are left out: the gap leaves nothing to observe",
        "of 10 of 10 training clips less than data.observe.observe_s is observed: their files begin later",
    ]


def test_classes_with_fewer_labels_than_asked_for_are_named(tmp_path: Path, tiny_config: Config) -> None:
    root = manifest_of(tmp_path / "data", a1={"label": 1}, b1={"label": 1}).parent
    for count, remarks in ((4, []), (5, ["1 classes have fewer labels than data.labels_per_class (5): x 4"])):
        found = read_clips(tiny_config(**{"data.root": str(root), "data.labels_per_class": count}).data)
        assert found.training_remarks() == remarks


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ({}, "data.labels_per_class 2"),
        ({"data.labels_per_class": 1}, "data.labels_per_class 2"),
        ({"data.labels_per_class": 2, "data.split_seed": 3}, "data.split_seed 0"),
        ({"data.labels_per_class": 2}, None),
    ],
)
def test_a_teacher_of_other_labels_is_told(
    student: dict[str, int], said: str | None, tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = fit(tiny_config(**{"data.labels_per_class": 2, "train.steps": 1}, name="teacher"), quiet=True).folder
    config = tiny_config(**student, task="logits_kd", teacher=str(teacher))
    clips = read_clips(config.data)
    caplog.clear()
    build_run_task(config, clips.manifest.classes, clips=clips)
    told = [record.message for record in caplog.records if "other labels" in record.message]
    assert told == (
        []
        if said is None
        else [f"the teacher {teacher} learned from other labels than the student, by {said}; --teacher {teacher}-2 trains another"]
    )


def test_teacher_and_student_draw_the_same_groups_whatever_they_observe(tmp_path: Path, tiny_config: Config) -> None:
    early = {"start_s": 0.5, "end_s": 1.0}
    root = manifest_of(tmp_path / "data", a1=early, b2=early, c1=early, g1=early).parent
    for seed in range(5):
        settings = {"data.root": str(root), "data.split_seed": seed, "data.validation_fraction": 0.25, "data.label_fraction": 0.5}
        whole, past = (
            read_clips(tiny_config(**settings, **{"data.observe.protocol": protocol, "data.observe.gap_s": 1.0}).data)
            for protocol in ("whole", "anticipation")
        )
        for name, here, there in (("train", past.train, whole.train), ("val", past.val, whole.val)):
            assert names(here) == [clip for clip in names(there) if clip not in {"a1", "b2", "c1"}]
            assert unseen(past)[name] == [clip for clip in names(there) if clip in {"a1", "b2", "c1"}]


def test_a_teacher_that_never_saw_a_class_is_refused(tiny_root: Path, tiny_config: Config, tmp_path: Path) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    classes = sorted({clip.label for clip in manifest.clips if clip.label is not None})
    fewer = dataclasses.replace(manifest, clips=tuple(clip for clip in manifest.clips if clip.label != classes[-1]))
    fewer.write(tmp_path / "fewer.jsonl")
    settings = {"data.manifest": str(tmp_path / "fewer.jsonl"), "train.steps": 1}
    teacher = fit(tiny_config(**settings, name="blind"), quiet=True).folder
    taught = tiny_config(name="student", task="logits_kd", teacher=str(teacher))
    with pytest.raises(CheckpointError, match="never saw 1 of the classes that the student learns") as caught:
        fit(taught, quiet=True)
    assert caught.value.lines["classes"] == manifest.classes[classes[-1]]
    fewer_learned = dataclasses.replace(
        read_clips(taught.data), train=[clip for clip in read_clips(taught.data).train if clip.label != classes[-1]]
    )
    build_run_task(taught, manifest.classes, clips=fewer_learned)
