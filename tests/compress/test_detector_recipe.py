"""Recipes done to detectors: of a run, and of a cfg with weights; footage that is judged trains nothing."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from street_runs import street_config, write_streets

from vidkd.base.errors import ConfigError, DataError, VidkdError
from vidkd.bench.compression import compression_summary
from vidkd.compress.detector import DetectorSubject
from vidkd.compress.recipe import Recipe, parse_steps
from vidkd.compress.steps import Outcome, run_recipe
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.evaluate import judge_boxes
from vidkd.detection.fit import fit_detector
from vidkd.detection.frames import Pictures, frames_of_videos, read_frames
from vidkd.detection.saved import load_detector
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.models.darknet.net import ConvolutionBlock
from vidkd.runtime.opening import open_detector

WRITTEN: list[dict[str, Any]] = [
    {"prune": {"ratio": 0.3, "criterion": "taylor"}},
    {"repair": {"train.steps": 2, "optim.lr": 0.01}},
    {"factorise": {"macs": 0.6}},
    {"quantise": {"clips": 4}},
    {"export": {"formats": ["onnx", "xml"]}},
]


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


@pytest.fixture(scope="module")
def student(streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_detector(street_config(streets, tmp_path_factory.mktemp("runs")), quiet=True).folder


def recipe_of(student: Path, runs: Path, written: list[dict[str, Any]], **more: Any) -> Recipe:
    return Recipe(student=str(student), steps=parse_steps(written, "r.yaml"), name="small", runs=str(runs), **{"subset": "val", **more})


def do(recipe: Recipe) -> list[Outcome]:
    return list(run_recipe(recipe, DetectorSubject(recipe)))


def test_a_run_is_pruned_repaired_factorised_and_written_in_integers(student: Path, tmp_path: Path) -> None:
    recipe = recipe_of(student, tmp_path, [*WRITTEN[:3], {"export": {"formats": ["darknet"]}}, *WRITTEN[3:]])
    outcomes = do(recipe)
    original, pruned, repaired, factorised, darknet, integers, exported = (outcome.content for outcome in outcomes)
    assert darknet["metrics"] == factorised["metrics"]
    near = {name: exported["notes"]["parity"][name] for name in ("model.onnx", "model.xml")}
    near["student.weights"] = darknet["notes"]["parity"]["student.weights"]
    for parity in near.values():
        assert parity["said"].startswith("largest difference to the network: ")
    assert compression_summary(recipe, outcomes, "ap50")["data"]["parity"] == {
        "4_export": darknet["notes"]["parity"],
        "5_quantise": integers["notes"]["parity"],
        "6_export": exported["notes"]["parity"],
    }
    assert "| Judged" in (tmp_path / "small" / "4_export" / "student.weights.md").read_text(encoding="utf-8")
    assert pruned["parameters"] == repaired["parameters"] < original["parameters"]
    assert factorised["macs"] < repaired["macs"] < original["macs"]
    assert integers["notes"]["integer_convolutions"] == len(integers["notes"]["layers"]) >= 3
    assert integers["notes"]["calibration"] == "4 training frames"
    assert integers["metrics"] == exported["metrics"]
    assert set(original["metrics"]) == {"ap50", "map", "ap75", "recall", "recall50"}
    config = DetectorSubject(recipe).config
    truth = read_frames(config.data).val
    saved = load_detector(outcomes[2].made.model)
    detector = DarknetDetector(saved.net, saved.classes, score_threshold=config.judge.score, resize=config.data.transform.resize)
    assert judge_boxes(detector, truth).found.metrics() == pytest.approx(repaired["metrics"], abs=1e-6)
    assert len(open_detector(tmp_path / "small" / "6_export" / "model.xml", device="cpu").class_names) == 2
    folder = tmp_path / "small" / "4_export"
    shipped = DarknetDetector.open(folder / "student.cfg", folder / "student.weights", folder / "student.names", score_threshold=0.01)
    assert sum(each.numel() for each in shipped.net.parameters()) == factorised["parameters"]
    again = do(recipe)
    assert all(outcome.found_finished for outcome in again)


@pytest.mark.slow
def test_a_cfg_with_weights_is_a_student_too(student: Path, streets: Path, tmp_path: Path) -> None:
    files = {"weights": "student.weights", "names": "student.names", "roots": (student, streets.parent)}
    settings = {"data": {"root": streets.name, "layout": "motion_shapes"}}
    recipe = recipe_of(Path("student.cfg"), tmp_path, [WRITTEN[0], WRITTEN[3]], settings=settings, **files)
    outcomes = do(recipe)
    of_run = do(recipe_of(student, tmp_path / "run", [WRITTEN[0]]))
    assert outcomes[0].content["metrics"] == of_run[0].content["metrics"]
    assert outcomes[1].content["parameters"] < outcomes[0].content["parameters"]
    with pytest.raises(ConfigError, match="has neither weights nor names"):
        DetectorSubject(recipe_of(student / "student.cfg", tmp_path, WRITTEN, settings=settings))


Shown = Callable[[BoxManifest], None]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Makes these frames those of every data set."""
    return lambda manifest: monkeypatch.setattr("vidkd.detection.frames.read_boxes", lambda *_, **__: manifest)


def test_footage_that_is_judged_trains_nothing(student: Path, streets: Path, tmp_path: Path, show: Shown) -> None:
    frames = read_frames(DetectorSubject(recipe_of(student, tmp_path, WRITTEN)).config.data)
    without = tuple(dataclasses.replace(frame, subset="") for frame in frames.train.frames)
    show(dataclasses.replace(frames.train, frames=without))
    files = {"weights": str(student / "student.weights"), "names": str(student / "student.names"), "subset": "test"}
    settings = {"data": {"root": str(streets), "layout": "motion_shapes"}}
    paths = {frame.path for frame in frames.train.frames}
    videos = sorted(str(path) for path in streets.rglob("*.mp4"))
    judged = next(path for path in videos if str(Path(path).relative_to(streets)) in paths)
    apart = next(path for path in videos if str(Path(path).relative_to(streets)) not in paths)
    for step in (WRITTEN[0], WRITTEN[1], WRITTEN[3]):
        with pytest.raises(DataError, match="training frames are of footage that is judged"):
            do(recipe_of(student / "student.cfg", tmp_path, [step], settings=settings, **files))
    distil = {"distil": {"frames": 2}}
    for step in (WRITTEN[3], distil):
        with pytest.raises(DataError, match="the recipe's footage is judged"):
            do(recipe_of(student / "student.cfg", tmp_path / "a", [step], settings=settings, footage=(judged,), **files))
    copied = str(shutil.copy(judged, tmp_path / "another name.mp4"))
    with pytest.raises(DataError, match="the recipe's footage is judged"):
        do(recipe_of(student / "student.cfg", tmp_path / "a", [distil], settings=settings, footage=(copied,), **files))
    found = do(recipe_of(student / "student.cfg", tmp_path / "b", [WRITTEN[3]], settings=settings, footage=(apart,), **files))
    assert found[1].content["notes"]["calibration"] == "4 frames of 1 videos"


HEADS = {"loss": "matched_heads", "trains": "all", "lr": 1e-3}


def test_a_pruned_detector_learns_from_what_it_was_without_boxes(student: Path, streets: Path, tmp_path: Path) -> None:
    footage = tuple(sorted(str(path) for path in streets.rglob("*.mp4") if "val" not in path.name))[:2]
    steps = [{"prune": {"ratio": 0.3}}, {"distil": {"frames": 6, "passes": 2, "update": HEADS}}]
    outcomes = do(recipe_of(student, tmp_path, steps, footage=footage))
    notes = outcomes[2].content["notes"]
    assert notes["footage"] == f"6 frames of {len(footage)} videos"
    assert notes["lessons"] == sum(notes["outcomes"].values()) == 12
    assert outcomes[2].content["macs"] == outcomes[1].content["macs"] < outcomes[0].content["macs"]
    whole, pruned, distilled = (load_detector(student).net, *(darknet_in(outcome.made.model) for outcome in outcomes[1:]))
    frames = frames_of_videos(footage, 6)
    assert apart(distilled, whole, frames) < 0.7 * apart(pruned, whole, frames)


def darknet_in(folder: Path) -> Darknet:
    return DarknetDetector.open(*(folder / f"student.{suffix}" for suffix in ("cfg", "weights", "names"))).net


def apart(net: Darknet, whole: Darknet, frames: Pictures) -> float:
    """Mean distance of the raw heads of two networks."""
    images, _ = DarknetDetector(net, ("a", "b")).prepare(np.stack(frames))
    with torch.no_grad():
        pairs = zip(net.eval()(images), whole.eval()(images), strict=True)
        return sum(float((one - other).abs().mean()) for one, other in pairs)


def test_norm_statistics_are_measured_on_the_footage_where_asked(student: Path, streets: Path, tmp_path: Path) -> None:
    footage = (str(next(streets.rglob("plain_01.mp4"))),)
    steps = [{"distil": {"frames": 5, "norms": True, "update": {**HEADS, "steps": 0}}}]
    net = darknet_in(do(recipe_of(student, tmp_path, steps, footage=footage))[1].made.model)
    whole = load_detector(student).net
    images, _ = DarknetDetector(whole, ("a", "b")).prepare(np.stack(frames_of_videos(footage, 5)))
    first = net.layers[0]
    assert isinstance(first, ConvolutionBlock)
    assert first.norm is not None
    seen = first.conv(images)
    torch.testing.assert_close(first.norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.norm.running_var, seen.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert torch.equal(first.conv.weight, whole.layers[0].conv.weight)  # type: ignore[union-attr]


def test_distil_that_cannot_be_is_refused_before_anything_is_done(student: Path, tmp_path: Path) -> None:
    for update in ({"loss": "nothing"}, {"trains": "added"}, {"interpolate": [0.0, 1.0]}, {"retain": 0.5}):
        with pytest.raises(VidkdError, match=r"loss|along a stream"):
            do(recipe_of(student, tmp_path, [{"distil": {"update": update}}]))
        assert not (tmp_path / "small").exists()


def test_what_a_later_step_cannot_do_is_told_before_the_first(student: Path, tmp_path: Path) -> None:
    for step, text in (
        ({"quantise": {"exclude": ["layers.0.conv"]}}, r"unknown layer 'layers\.0\.conv'"),
        ({"export": {"formats": ["pt2"]}}, "pt2"),
    ):
        with pytest.raises(ConfigError, match=rf"{text}(.|\n)*step 2_"):
            do(recipe_of(student, tmp_path, [{"prune": {"ratio": 0.3}}, step]))
    assert not (tmp_path / "small").exists()


def test_footage_and_oracles_belong_to_the_steps_that_see_them(student: Path, streets: Path, tmp_path: Path) -> None:
    """A step more, or other footage for the last one, leaves the steps before it as they are."""
    first, second = sorted(str(path) for path in streets.rglob("plain_*.mp4"))[:2]
    do(recipe_of(student, tmp_path, [WRITTEN[2], {"refit": {"frames": 2}}], footage=(first,)))
    more = do(recipe_of(student, tmp_path, [WRITTEN[2], {"refit": {"frames": 2}}, {"quantise": {"clips": 2}}], footage=(first,)))
    assert [outcome.found_finished for outcome in more] == [True, True, True, False]
    subject = DetectorSubject(recipe_of(student, tmp_path, [WRITTEN[2], {"refit": {"frames": 2}}], footage=(second,)))
    assert subject.identity == DetectorSubject(recipe_of(student, tmp_path, [WRITTEN[2]])).identity
    with pytest.raises(ConfigError, match="2_refit"):
        list(run_recipe(recipe_of(student, tmp_path, [WRITTEN[2], {"refit": {"frames": 2}}], footage=(second,)), subject))


def test_a_fit_behind_learning_is_refused_before_anything_is_done(student: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3_refit would undo what 2_repair trained"):
        do(recipe_of(student, tmp_path, [WRITTEN[0], WRITTEN[1], {"refit": {}}]))
    assert not (tmp_path / "small" / "1_prune").exists()


def test_a_file_beyond_the_tolerance_is_no_dead_end(student: Path, tmp_path: Path) -> None:
    """None is left of it; with a larger tolerance the same recipe resumes behind its finished steps."""

    def recipe(tolerance: float) -> Recipe:
        return recipe_of(student, tmp_path, [{"factorise": {"macs": 0.6}}, {"export": {"formats": ["onnx"], "tolerance": tolerance}}])

    with pytest.raises(ConfigError, match=r"computes something else than the network: model\.onnx") as text:
        do(recipe(1e-12))
    assert text.value.lines["allowed"].startswith("1e-12 of ")
    assert text.value.lines["fix"] == "tolerance: X in the step `export`, if so much does not matter"
    assert [path.name for path in (tmp_path / "small" / "2_export").iterdir()] == ["chain.json"]
    assert [outcome.found_finished for outcome in do(recipe(1e-2))] == [True, True, False]
