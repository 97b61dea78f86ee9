"""Accuracy in a benchmark is what `evaluate` says, with an interval; what cannot be compared is refused."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from picture_model import picture_model
from scipy import stats
from speed_models import tiny_classifier, tiny_run

from vidkd.base.errors import CheckpointError, ConfigError, DataError
from vidkd.base.files import read_json
from vidkd.bench import draws
from vidkd.bench.intervals import Cell, bootstrap_ci
from vidkd.bench.speed.accuracy import difference, judge_clips, judge_frames, shown_clips, shown_frames
from vidkd.bench.speed.config import DataSpec, ModelSpec
from vidkd.bench.speed.end_to_end import ClipReader
from vidkd.bench.speed.opening import OpenModel, open_model
from vidkd.bench.speed.rounds import Figure
from vidkd.cli.main import run_verb
from vidkd.data.learned_from import LearnedFrom, record_of
from vidkd.data.manifest import Clip, Manifest
from vidkd.detection import frames
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.engine.evaluate import Judgement, Predictions
from vidkd.models.saved import save_classifier
from vidkd.runtime.detections import Detections
from vidkd.video import write_video

FRAMES_OF_A_VIDEO = 6


def three_windows(path: Path) -> Path:
    """A checkpoint that its training judged on three windows and two crops of every clip."""
    saved = tiny_classifier()
    run = tiny_run()
    run["data"] |= {"eval_clips": 3, "eval_crops": 2}
    saved.run.update(run)
    save_classifier(path, saved)
    return path


def test_one_window_and_crop_is_judged_whatever_a_training_looked_at(tiny_root: Path, checkpoint: Path, tmp_path: Path) -> None:
    """It is what the measured latency buys, and what the reader of a benchmark gives to the model."""
    spec = DataSpec(root=str(tiny_root), subset="train")
    opened = open_model(ModelSpec(checkpoint=str(three_windows(tmp_path / "three.pt"))), threads=1)
    assert opened.data is not None
    assert (opened.data.eval_clips, opened.data.eval_crops) == (3, 2)
    data, clips = shown_clips(opened, spec)
    assert (data.eval_clips, data.eval_crops) == (1, 1)
    found = judge_clips(opened, spec, data, clips)
    single = open_model(ModelSpec(checkpoint=str(checkpoint)), threads=1)
    wanted = judge_clips(single, spec, *shown_clips(single, spec))
    assert {name: figure.value for name, figure in found.metrics.items()} == {name: figure.value for name, figure in wanted.metrics.items()}
    reader, labels = ClipReader(opened, spec, data, clips), [clip.label for clip in clips.train]
    right = [int(opened.answer(reader.read()).probabilities.argmax()) == label for label in labels]  # type: ignore[attr-defined]
    assert found.cell is not None
    np.testing.assert_array_equal(found.cell.correct, right)
    assert found.on == "12 clips of 'train', one window and crop of each, 4 groups"
    whole = dataclasses.replace(data, eval_clips=3, eval_crops=2)
    assert judge_clips(opened, spec, whole, clips).metrics["nll"].value != pytest.approx(found.metrics["nll"].value), "three tell more"


def test_draws_are_worked_out_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups, one all right and one all wrong: a draw has both, or one of them twice, and lies as far out as two groups ask for."""
    monkeypatch.setattr(draws, "DRAWS", 60)
    clips = [Clip(path=f"{number}.mp4", label=0, group="ab"[number % 2], subsets={}) for number in range(4)]
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]] * 2)
    judgement = Judgement({None: Predictions(probabilities, clips, ("x", "y"))})
    found = draws.clip_draws(judgement)
    assert {0.5} < set(found["top1"].tolist())
    assert len(set(found["top1"].tolist())) == 3
    np.testing.assert_array_equal(found["class_mean"], found["top1"])
    right, wrong = -np.log(0.9), -np.log(0.2)
    factor = stats.t.ppf(0.975, 1) * np.sqrt(2) / stats.norm.ppf(0.975)
    assert found["top1"].max() == pytest.approx(0.5 + factor / 2), "both drawn from the group that is right, and not cut at 1"
    np.testing.assert_allclose(found["nll"], (right + wrong) / 2 - (found["top1"] - 0.5) * (wrong - right), rtol=1e-5)
    alone = Judgement({None: Predictions(probabilities[::2], clips[::2], ("x", "y"))})
    assert draws.clip_draws(alone) == {}, "one group alone"
    unlabelled = [*clips[:1], *(dataclasses.replace(clip, label=None) for clip in clips[1:])]
    assert 0 < len(draws.clip_draws(Judgement({None: Predictions(probabilities, unlabelled, ("x", "y"))}))["top1"]) < 60


def test_it_is_what_evaluate_says(tiny_root: Path, checkpoint: Path, exported: Path, tmp_path: Path) -> None:
    spec = DataSpec(root=str(tiny_root), subset="train")
    judged = {}
    for path in (checkpoint, exported):
        opened = open_model(ModelSpec(checkpoint=str(path)), threads=1)
        judged[path] = judge_clips(opened, spec, *shown_clips(opened, spec))
    arguments = ["--model", str(checkpoint), "--subset", "train", "--device", "cpu", "--out", str(tmp_path)]
    assert run_verb("evaluate", [*arguments, "--data.root", str(tiny_root), "--train.threads", "1"]) == 0
    written = read_json(tmp_path / "evaluation.json")
    wanted, found = written["metrics"], judged[checkpoint]
    bounds = {name: pytest.approx(figure.ci95) for name, figure in found.metrics.items()}
    assert ({name: tuple(each) for name, each in written["ci95"].items()}, written["ci95_over"]) == (bounds, "4 test groups")
    assert {name: figure.value for name, figure in found.metrics.items()} == pytest.approx(wanted)
    assert 0 < wanted["top1"] < 1
    assert found.cell is not None
    assert found.metrics["top1"].ci95 == bootstrap_ci([found.cell], over=("groups",)).ci95
    assert found.metrics["top1"].n == 12
    assert found.on == "12 clips of 'train', one window and crop of each, 4 groups"
    other = judged[exported].cell
    assert other is not None
    np.testing.assert_array_equal(found.cell.correct, other.correct)


@pytest.mark.parametrize(
    ("setting", "spec"),
    [
        ("layout", DataSpec(layout="mot")),
        ("annotations", DataSpec(annotations=["gt.txt"])),
        ("classes", DataSpec(classes=["person"])),
        ("paths", DataSpec(paths=["v0*"])),
    ],
)
def test_settings_of_annotated_frames_mean_nothing_to_classifiers(setting: str, spec: DataSpec, tiny_root: Path, checkpoint: Path) -> None:
    opened = open_model(ModelSpec(checkpoint=str(checkpoint)), threads=1)
    with pytest.raises(ConfigError, match=f"data.{setting} belongs to detectors") as error:
        shown_clips(opened, dataclasses.replace(spec, root=str(tiny_root)))
    assert error.value.lines["fix"] == f"leave out data.{setting}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> BoxManifest:
    """Six videos whose frames say where a cat is; the truth agrees in four of them."""
    root = tmp_path_factory.mktemp("pictures")
    found = []
    for number in range(6):
        values = np.zeros(48)
        values[:6] = (0, 0, 0.5, 0.5, 0.9, 0)
        picture = np.kron((values * 255).round().astype(np.uint8).reshape(4, 4, 3), np.ones((16, 16, 1), np.uint8))
        write_video(root / f"v{number}.mp4", [picture] * FRAMES_OF_A_VIDEO, fps=10, lossless=True)
        box = [0, 0, 32, 32] if number < 4 else [32, 32, 64, 64]
        found += [
            LabelledFrame(
                path=f"v{number}.mp4",
                frame_index=index,
                time_s=index / 10,
                boxes=np.array([box], np.float32),
                labels=np.array([0]),
                ignore=np.array([False]),
                width=64,
                height=64,
                group=f"v{number}",
                complete=True,
            )
            for index in range(FRAMES_OF_A_VIDEO)
        ]
    return BoxManifest(name="pictures", root=root, classes=("cat", "dog"), frames=tuple(found))


def test_annotations_and_classes_are_those_of_a_training(pictures: BoxManifest, tmp_path: Path) -> None:
    shutil.copyfile(pictures.root / "v0.mp4", tmp_path / "walk.mp4")
    (tmp_path / "keyframes.txt").write_text("1,1,0,0,32,32,1\n4,1,0,0,16,32,1\n")
    spec = DataSpec(root=str(tmp_path), layout="mot", annotations=["keyframes.txt"], classes=["person"])
    truth = shown_frames(spec, runs=False)
    assert [(frame.key, frame.boxes.tolist()) for frame in truth.frames] == [
        (("walk.mp4", 0), [[0, 0, 32, 32]]),
        (("walk.mp4", 3), [[0, 0, 16, 32]]),
    ]
    assert truth.classes == ("person",)
    cars = shown_frames(dataclasses.replace(spec, classes=["car", "person"]), runs=False)
    assert (cars.classes, [frame.labels.tolist() for frame in cars.frames]) == (("car", "person"), [[1], [1]])
    with pytest.raises(ConfigError, match="layout 'yolo' has in places of its own"):
        shown_frames(dataclasses.replace(spec, layout="yolo"), runs=False)


@pytest.fixture
def of_pictures(pictures: BoxManifest, monkeypatch: pytest.MonkeyPatch) -> DataSpec:
    """A data set whose frames are these pictures."""
    monkeypatch.setattr(frames, "read_boxes", lambda *_, **__: pictures)
    return DataSpec(root=str(pictures.root), layout="coco")


def test_only_frames_of_named_files_are_judged(pictures: BoxManifest, of_pictures: DataSpec) -> None:
    spec = dataclasses.replace(of_pictures, paths=["v0*"])
    first = [frame.key for frame in pictures.frames if frame.path.startswith("v0")]
    assert 0 < len(first) < len(pictures.frames)
    assert [frame.key for frame in shown_frames(spec, runs=False).frames] == first
    with pytest.raises(DataError, match=r"no frame of .* is in data\.paths"):
        shown_frames(dataclasses.replace(spec, paths=["w*"]), runs=False)


def test_average_precision_has_an_interval_over_groups(pictures: BoxManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "DRAWS", 40)
    opened = open_model(ModelSpec(detector=str(picture_model(tmp_path / "picture.onnx"))), threads=1)
    found = judge_frames(opened, pictures)
    ap50 = found.metrics["ap50"]
    # all detections score alike and stay in the order of their videos: precision is 1 up to a recall of 2/3, the first 67 of 101 levels
    assert ap50.value == pytest.approx(67 / 101)
    assert ap50.ci95 is not None
    assert 0 <= ap50.ci95[0] < ap50.value < ap50.ci95[1] <= 1
    assert ap50.n == 36
    one = dataclasses.replace(pictures, frames=pictures.frames[:FRAMES_OF_A_VIDEO])
    assert judge_frames(opened, one).metrics["ap50"].ci95 is None, "one stretch alone"


def test_frames_of_one_group_are_drawn_by_stretches_of_their_video(pictures: BoxManifest) -> None:
    first = pictures.frames[0]
    video = [dataclasses.replace(first, frame_index=index) for index in (0, 49, 50, 99, 240)]
    assert [[frame.frame_index for frame in group] for group in draws.frame_groups(video)] == [[0, 49], [50, 99], [240]]
    images = [dataclasses.replace(first, path=f"{number}.png", frame_index=None, time_s=None) for number in range(60)]
    assert [len(group) for group in draws.frame_groups(images)] == [50, 10]
    assert [len(group) for group in draws.frame_groups(pictures.frames)] == [FRAMES_OF_A_VIDEO] * 6


def test_frames_that_a_run_may_have_learned_from_do_not_judge_it(pictures: BoxManifest, of_pictures: DataSpec) -> None:
    with pytest.raises(DataError):
        shown_frames(of_pictures, runs=True)
    assert len(shown_frames(of_pictures, runs=False).frames) == len(pictures.frames)


def test_recall_alone_where_objects_may_lack_their_box(pictures: BoxManifest, tmp_path: Path) -> None:
    opened = open_model(ModelSpec(detector=str(picture_model(tmp_path / "picture.onnx"))), threads=1)
    truth = dataclasses.replace(pictures, frames=tuple(dataclasses.replace(frame, complete=False) for frame in pictures.frames))
    found = judge_frames(opened, truth).metrics
    assert list(found) == ["recall50"]
    assert found["recall50"].value == pytest.approx(2 / 3)
    videos = [Cell(seed=0, place="x", correct=[n < 4 for n in range(6)], group=[str(n) for n in range(6)])]
    wanted = bootstrap_ci(videos, over=("groups",)).ci95
    assert found["recall50"].ci95 == pytest.approx(wanted, abs=0.17), "one video more or less"


def changed(opened: OpenModel, change: Callable[[Detections], Detections]) -> OpenModel:
    """The same detector with something done to all that it finds."""

    class Changed:
        class_names = opened.model.class_names

        def __call__(self, frames: NDArray[np.uint8]) -> list[Detections]:
            return [change(found) for found in opened.model(frames)]

    return dataclasses.replace(opened, model=Changed())


def test_detectors_are_drawn_alike(pictures: BoxManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one that finds nothing, every draw differs by the whole average precision."""
    monkeypatch.setattr(draws, "DRAWS", 40)
    opened = open_model(ModelSpec(detector=str(picture_model(tmp_path / "picture.onnx"))), threads=1)
    found = judge_frames(opened, pictures)
    blind = judge_frames(changed(opened, lambda each: each.select(np.zeros(len(each), bool))), pictures)
    assert difference(found, judge_frames(opened, pictures)) == ("ap50", Figure(value=0.0, ci95=(0.0, 0.0)))
    assert found.metrics["ap50"].ci95 is not None
    low, high = found.metrics["ap50"].ci95
    metric, figure = difference(blind, found) or ("", Figure(value=0))
    assert (metric, figure.value, figure.ci95) == ("ap50", pytest.approx(-67 / 101), pytest.approx((-high, -low)))
    fewer = dataclasses.replace(pictures, frames=pictures.frames[:-1])
    assert difference(judge_frames(opened, fewer), found) is None, "judged on other frames"


def test_a_model_is_not_judged_by_clips_that_it_learned_from(tiny_root: Path, checkpoint: Path, tmp_path: Path) -> None:
    """In the second split the sides are changed over."""
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    over = {"train": "test", "test": "train"}
    both = tuple(dataclasses.replace(clip, subsets={**clip.subsets, "2": over[clip.subsets["1"]]}) for clip in manifest.clips)
    dataclasses.replace(manifest, splits=("1", "2"), clips=both).write(tmp_path / "both.jsonl")
    spec = DataSpec(root=str(tiny_root), manifest=str(tmp_path / "both.jsonl"))
    opened = open_model(ModelSpec(checkpoint=str(checkpoint)), threads=1)
    _, clips = shown_clips(opened, spec)
    settings = {"split": "2", "validation_fraction": 0.0, "split_seed": 0}
    learned, harmless = (LearnedFrom.of(record_of(tiny_root, clips.manifest.select(split, "train"), settings)) for split in "21")
    with pytest.raises(CheckpointError, match="learned from 6 of the 6 clips to evaluate on") as caught:
        shown_clips(dataclasses.replace(opened, learned=learned), spec)
    assert caught.value.lines["its groups"].startswith("--data.split 2 ")
    shown_clips(dataclasses.replace(opened, learned=harmless), spec)
    shown_clips(dataclasses.replace(opened, learned=learned), dataclasses.replace(spec, subset="train"))
