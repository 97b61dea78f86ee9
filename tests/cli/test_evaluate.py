"""vidkd evaluate as a user runs it."""

import csv
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vidkd.base import cores
from vidkd.base.files import read_json
from vidkd.cli.main import run_verb
from vidkd.data.manifest import Manifest
from vidkd.engine.config import load_config
from vidkd.engine.fit import fit
from vidkd.models.saved import read_checkpoint
from vidkd.report.run import run_report


@pytest.fixture
def run(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to write into."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "run"))


def evaluate(*arguments: object) -> int:
    return run_verb("evaluate", [str(argument) for argument in arguments])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_printed_and_written_is_one_and_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--model", run, "--device", "cpu") == 0
    output = capsys.readouterr().out
    found, rows = read_json(run / "evaluation.json"), rows_of(run / "predictions.csv")
    assert (found["split"], found["clips"], len(rows)) == ("test", 6, 6)
    assert {row["group"] for row in rows} == {"g4", "g5"}
    top1 = sum(row["label"] == row["predicted"] for row in rows) / 6
    assert found["metrics"]["top1"] == pytest.approx(top1)
    assert [row["correct"] for row in rows] == [str(int(row["label"] == row["predicted"])) for row in rows]
    for row in rows:
        chances = {name.removeprefix("p_"): float(value) for name, value in row.items() if name.startswith("p_")}
        assert max(chances, key=chances.__getitem__) == row["predicted"]
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
    names = [entry["class"] for entry in found["classes"]]
    counts = [[sum(row["label"] == a and row["predicted"] == b for row in rows) for b in names] for a in names]
    assert found["confusion"] == counts
    assert f"top1        {top1:.3f}" in output
    assert output.startswith("6 clips of 'test'\n")
    assert all(name in output for name in ("class_mean", "ece", "Right", "Down", "Grow", "recall", "precision"))
    assert (found["observed"], found["unobservable"], found["shortened"], found["held"]) == (None, 0, 0, 0)
    assert "note" not in output
    assert "<dt>note</dt>" not in (run / "report.html").read_text(encoding="utf-8")
    assert "classes at" not in output
    assert "top5" not in output + (run / "evaluation.json").read_text() + (run / "report.html").read_text(), "there are three classes"


def test_clips_that_a_run_learned_from_do_not_judge_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More groups are held out here than in its training. That exported files say as much is asserted where benchmarks judge them."""
    assert evaluate("--model", run, "--subset", "val", "--data.validation_fraction", "0.5", "--device", "cpu") == 2
    said = capsys.readouterr().err
    assert "clips to evaluate on, or from others of their groups" in said
    assert "--data.validation_fraction 0.25" in said


def test_clips_that_a_run_learned_from_do_not_judge_it_after_the_split_was_drawn_anew(
    run: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    over = {"train": "test", "test": "train"}
    clips = tuple(dataclasses.replace(clip, subsets={"1": over[clip.subsets["1"]]}) for clip in manifest.clips)
    dataclasses.replace(manifest, clips=clips).write(tmp_path / "anew.jsonl")
    assert evaluate("--model", run, "--data.manifest", tmp_path / "anew.jsonl", "--device", "cpu") == 2
    assert "learned from 9 of the 12 clips to evaluate on" in capsys.readouterr().err


@pytest.fixture
def kitchen(tiny_root: Path, tiny_settings: Callable[..., dict[str, Any]], tmp_path: Path) -> Path:
    """A run on the tiny videos as if they were kitchens: 100 actions of 10 verbs and 10 nouns, and rows with narration ids."""
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    verbs, nouns = [tuple(f"{word}{n}" for n in range(10)) for word in ("verb", "noun")]
    clips = tuple(
        dataclasses.replace(clip, label=11 * (clip.label or 0), name=f"P01_{n}", targets={"verb": clip.label or 0, "noun": clip.label or 0})
        for n, clip in enumerate(manifest.clips)
    )
    classes = tuple(f"{verb} {noun}" for verb in verbs for noun in nouns)
    targets = {"verb": verbs, "noun": nouns}
    Manifest(name="kitchen", root=tiny_root, classes=classes, targets=targets, splits=("1",), clips=clips).write(tmp_path / "kitchen.jsonl")
    settings = tiny_settings(**{"train.steps": 1, "data.manifest": str(tmp_path / "kitchen.jsonl")})
    return fit(load_config(settings=settings), quiet=True).folder


def test_a_submission_holds_what_was_predicted(kitchen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scores.json"
    assert evaluate("--model", kitchen, "--device", "cpu", "--submission", file, "--supervision", "2,3,4") == 0
    assert f"written: {file}\n" in capsys.readouterr().out
    content, rows = read_json(file), rows_of(kitchen / "predictions.csv")
    assert (content["sls_pt"], content["sls_tl"], content["sls_td"]) == (2, 3, 4)
    assert len(content["results"]) == len(rows) == 6
    for scores, row in zip(content["results"].values(), rows, strict=True):
        verb, noun = max(scores["action"], key=scores["action"].__getitem__).split(",")
        assert f"verb{verb} noun{noun}" == row["predicted"]
        assert len(scores["action"]) == 100
        assert scores["action"]["0,0"] == pytest.approx(float(row["p_verb0 noun0"]), abs=1e-5)
        assert sum(scores["verb"].values()) == pytest.approx(1, abs=1e-5)
        assert max(scores["verb"], key=scores["verb"].__getitem__) == row["verb_predicted"].removeprefix("verb")
        assert row["verb_correct"] == str(int(row["verb"] == row["verb_predicted"]))
    metrics = read_json(kitchen / "evaluation.json")["metrics"]
    for kind in ("verb", "noun"):
        assert metrics[f"{kind}_top1"] == pytest.approx(sum(row[kind] == row[f"{kind}_predicted"] for row in rows) / 6)
        assert metrics[f"{kind}_top1"] <= metrics[f"{kind}_top5"] <= 1


PAST = {"data.observe": {"protocol": "anticipation", "gap_s": 0.1, "observe_s": 0.2}, "data.window": {"frames": 4, "stride": 1}}
UNSEEN = ("P01_4", "P01_5")


@pytest.fixture
def foreseeing(tiny_root: Path, tiny_settings: Callable[..., dict[str, Any]], tmp_path: Path) -> Path:
    """A run that anticipates actions of a kitchen at 0.3 s; those of `UNSEEN`, of split 1's test, begin before the gap.

    Split `challenge` trains on these too, and tests on the same videos without labels.
    """
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    verbs, nouns = [tuple(f"{word}{n}" for n in range(10)) for word in ("verb", "noun")]
    clips = []
    for n, clip in enumerate(manifest.clips):
        start_s, verb = 0.05 if f"P01_{n}" in UNSEEN else 0.3, 0 if n < 9 else clip.label or 0
        whole = dataclasses.replace(clip, start_s=start_s, end_s=start_s + 0.18, name=f"P01_{n}", label=11 * verb)
        subsets = {**clip.subsets, "challenge": "train"}
        clips.append(dataclasses.replace(whole, targets={"verb": verb, "noun": verb}, subsets=subsets))
        if clip.subsets["1"] == "test":
            asked = dataclasses.replace(whole, label=None, name=f"P02_{n}", subsets={"challenge": "test"}, end_s=start_s + 0.19)
            clips.append(asked)
    Manifest(
        name="kitchen",
        root=tiny_root,
        classes=tuple(f"{verb} {noun}" for verb in verbs for noun in nouns),
        targets={"verb": verbs, "noun": nouns},
        splits=("1", "challenge"),
        clips=tuple(clips),
    ).write(tmp_path / "kitchen.jsonl")
    settings = tiny_settings(**{"train.steps": 1, "data.manifest": str(tmp_path / "kitchen.jsonl"), **PAST})
    return fit(load_config(settings=settings), quiet=True).folder


def test_a_submission_holds_what_nobody_saw_with_the_frequencies_of_the_training_labels(
    foreseeing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scores.json"
    assert evaluate("--model", foreseeing, "--device", "cpu", "--submission", file, "--supervision", "2,3,3") == 0
    output, results = capsys.readouterr().out, read_json(file)["results"]
    clips = Manifest.read(tmp_path / "kitchen.jsonl").select("1", "test")
    assert set(results) == {clip.name for clip in clips}
    assert len(rows_of(foreseeing / "predictions.csv")) == len(clips) - 2 == 4
    words = "have the frequencies of the labels among the 12 training clips of split '1'"
    assert f"note: 2 of 6 actions of the submission, of which nothing can be observed, {words}\n" in output
    # of the training clips, numbers 0 to 3 and 6 to 8 are verb 0, 9 is verb 1, 12 to 15 are verb 2
    shares = {"0": 7 / 12, "1": 1 / 12, "2": 4 / 12}
    for name in UNSEEN:
        for kind in ("verb", "noun"):
            assert results[name][kind] == pytest.approx({str(n): shares.get(str(n), 0.0) for n in range(10)}, rel=1e-6)
        assert len(results[name]["action"]) == 100
        said = {key: score for key, score in results[name]["action"].items() if score}
        assert said == pytest.approx({f"{verb},{verb}": share for verb, share in shares.items()}, rel=1e-6)
    assert max(results["P01_10"]["verb"].values()) != pytest.approx(7 / 12, abs=1e-6)


def test_metrics_in_which_what_nobody_saw_is_missed(foreseeing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--model", foreseeing, "--device", "cpu") == 0
    output, found, rows = capsys.readouterr().out, read_json(foreseeing / "evaluation.json"), rows_of(foreseeing / "predictions.csv")
    assert (found["clips"], found["unobservable"], found["shortened"], found["held"]) == (4, 2, 0, 0)
    assert found["observed"] is None
    metrics = found["metrics"]
    assert metrics["top1"] == pytest.approx(sum(row["label"] == row["predicted"] for row in rows) / 4)
    hits = {name: [] for name in ("verb0 noun0", "verb1 noun1", "verb2 noun2")}
    for row in rows:
        scores = sorted((float(value) for name, value in row.items() if name.startswith("p_")), reverse=True)
        hits[row["label"]].append(float(row[f"p_{row['label']}"]) >= scores[4])
    assert {name: len(found) for name, found in hits.items()} == {"verb0 noun0": 0, "verb1 noun1": 2, "verb2 noun2": 2}
    seen = [sum(of) / len(of) for of in hits.values() if of]
    assert metrics["recall5"] == pytest.approx(sum(seen) / 2)
    assert metrics["recall5_all"] == pytest.approx(sum(seen) / 3), "both unobservable actions are of the first class"
    assert metrics["verb_recall5_all"] == pytest.approx(metrics["verb_recall5"] * 2 / 3)
    said = "2 clips are not judged: nothing of them can be observed"
    assert f"note: {said}\n" in output
    low, high = found["ci95"]["noun_recall5_all"]
    assert f"  noun_recall5_all {metrics['noun_recall5_all']:.3f} [{low:.3f}, {high:.3f}]\n" in output
    assert f"  in brackets: 95 % intervals over {found['ci95_over']}\n" in output
    assert f"<dt>note</dt><dd>{said}</dd>" in (foreseeing / "report.html").read_text(encoding="utf-8")


def test_a_challenge_without_labels_is_submitted_whole_and_its_prior_is_that_of_the_run(
    foreseeing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Split `challenge` would let the prior count labels that the run never trained on."""
    words = ["--device", "cpu", "--data.split", "challenge", "--supervision", "2,3,3"]
    assert evaluate("--model", foreseeing, *words, "--submission", tmp_path / "a.json") == 0
    output, results = capsys.readouterr().out, read_json(tmp_path / "a.json")["results"]
    assert "4 clips of 'test', none with a label" in output
    assert "note: 2 clips are not judged: nothing of them can be observed\n" in output
    assert "12 training clips of split '1'" in output
    assert set(results) == {f"P02_{n}" for n in (4, 5, 10, 11, 16, 17)}
    assert results["P02_4"]["verb"]["0"] == pytest.approx(7 / 12, rel=1e-6)
    manifest = Manifest.read(tmp_path / "kitchen.jsonl")
    asked = tuple(clip for clip in manifest.clips if clip.subsets.get("challenge") == "test")
    dataclasses.replace(manifest, splits=("challenge",), clips=asked).write(tmp_path / "asked.jsonl")
    words += ["--data.manifest", tmp_path / "asked.jsonl"]
    assert evaluate("--model", foreseeing, *words, "--submission", tmp_path / "b.json") == 0
    assert "have the same score for all classes: the manifest has no training labels of split '1'" in capsys.readouterr().out
    results = read_json(tmp_path / "b.json")["results"]
    assert set(results["P02_5"]["noun"].values()) == {0.1}
    assert set(results["P02_5"]["action"].values()) == {0.01}


def test_what_stands_at_the_fullest_fraction_says_so(
    tiny_settings: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    observe = {"protocol": "early", "fractions": [0.2, 0.5]}
    window = {"frames": 4, "rule": "uniform", "short_clip": "hold"}
    folder = fit(
        load_config(settings=tiny_settings(**{"train.steps": 3, "data.observe": observe, "data.window": window})), quiet=True
    ).folder
    assert evaluate("--model", folder, "--device", "cpu") == 0
    output, found, rows = capsys.readouterr().out, read_json(folder / "evaluation.json"), rows_of(folder / "predictions.csv")
    assert output.startswith("6 clips of 'test': means over 20, 50 % observed\n")
    assert "\nclasses at 50 % observed\n  class" in output
    assert found["observed"] == 0.5
    last = [row for row in rows if row["observed"] == "0.5"]
    names = [entry["class"] for entry in found["classes"]]
    counts = [[sum(row["label"] == a and row["predicted"] == b for row in last) for b in names] for a in names]
    assert found["confusion"] == counts
    assert (found["held@obs20"], found["held@obs50"]) == (6, 0), "3 and 6 of 12 frames, of which 4 are asked for"
    held = "6 of 6 clips at 20 % observed have fewer frames than the window: frames repeat"
    assert f"note: {held}\n" in output
    assert held.replace("&", "&amp;") in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("given", [["--submission", "f.json"], ["--supervision", "2,3,3"], ["--submission", "f", "--supervision", "2,3,6"]])
def test_a_submission_declares_its_supervision(given: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--model", run, *given) == 2
    assert "three levels of supervision" in capsys.readouterr().err


def test_other_data_sets_have_no_submission(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--device", "cpu", "--submission", tmp_path / "f.json", "--supervision", "2,3,3"]
    assert evaluate("--model", run, *words) == 2
    assert "no submission can be made of 'tiny'" in capsys.readouterr().err


def test_clips_without_a_label_are_predicted_and_not_judged(
    run: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    clips = tuple(dataclasses.replace(clip, label=None) for clip in manifest.clips)
    Manifest(name="bare", root=tiny_root, classes=manifest.classes, splits=("1",), clips=clips).write(tmp_path / "bare.jsonl")
    assert evaluate("--model", run, "--data.manifest", tmp_path / "bare.jsonl", "--device", "cpu") == 0
    assert "6 clips of 'test', none with a label" in capsys.readouterr().out
    rows = rows_of(run / "predictions.csv")
    assert [row["label"] for row in rows] == [""] * 6
    assert {row["predicted"] for row in rows} <= set(manifest.classes)
    assert not (run / "evaluation.json").exists()
    assert not (run / "report.html").exists()
    assert not run_report(run).strips  # and the table without a judged clip spoils no later report


def test_threads_of_a_larger_machine_are_as_many_as_there_are_cores(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, text = read_checkpoint(run), []
    content["run"]["train"]["threads"] = 64
    torch.save(content, tmp_path / "large.pt")
    monkeypatch.setattr(cores, "available_cores", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", text.append)
    judge_it = ("--model", tmp_path / "large.pt", "--device", "cpu", "--out", tmp_path / "out")
    assert evaluate(*judge_it) == 0
    assert evaluate(*judge_it, "--train.threads", 1) == 0
    assert text == [2, 1]
    assert evaluate(*judge_it, "--train.threads", 3) == 2
    assert "3 threads on 2 cores" in capsys.readouterr().err


def test_another_subset_another_folder_and_other_settings(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "judged here"
    assert evaluate("--model", run, "--subset", "train", "--out", out, "--device", "cpu", "--data.eval_clips", 2) == 0
    assert read_json(out / "evaluation.json")["clips"] == 9  # of 12: a group of the four is held out
    assert not (run / "predictions.csv").exists()


def test_a_checkpoint_file_is_judged_next_to_its_run_and_a_loose_one_next_to_itself(run: Path, tmp_path: Path) -> None:
    assert evaluate("--model", run / "checkpoints" / "last.pt", "--device", "cpu") == 0
    assert (run / "predictions.csv").exists()
    loose = tmp_path / "a" / "loose.pt"
    loose.parent.mkdir()
    shutil.copy(run / "checkpoints" / "last.pt", loose)
    assert evaluate("--model", loose, "--device", "cpu") == 0
    assert (loose.parent / "predictions.csv").read_text() == (run / "predictions.csv").read_text()


def test_a_run_of_another_machine_that_is_not_finished_is_judged_with_a_warning(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = read_checkpoint(run / "checkpoints" / "last.pt")
    content["progress"].update(finished=False, step=5)
    content["run"]["train"].update(device="cuda", devices=8)
    torch.save(content, run / "checkpoints" / "last.pt")
    assert evaluate("--model", run, "--device", "cpu") == 0
    assert f"{run} is not finished: its last checkpoint is from step 5" in caplog.text


def test_a_moved_data_set_is_named_by_a_flag(run: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = Path(shutil.copytree(tiny_root, tmp_path / "moved"))
    shutil.rmtree(moved / "videos" / "Right")
    assert evaluate("--model", run, "--data.root", moved, "--device", "cpu") == 2
    assert "Right_g4.mp4" in capsys.readouterr().err
    shutil.copytree(tiny_root / "videos" / "Right", moved / "videos" / "Right")
    assert evaluate("--model", run, "--data.root", moved, "--device", "cpu") == 0


def test_a_subset_that_is_not_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--model", run, "--subset", "val", "--device", "cpu", "--data.validation_fraction", 0) == 2
    assert "split '1' has no 'val' clips" in capsys.readouterr().err


def test_a_data_set_of_other_classes_is_refused(run: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    other = Manifest(name="other", root=tiny_root, classes=("Down", "Grow", "Right"), splits=("1",), clips=manifest.clips)
    other.write(tmp_path / "other.jsonl")
    assert evaluate("--model", run, "--data.manifest", tmp_path / "other.jsonl", "--device", "cpu") == 2
    error = capsys.readouterr().err
    assert "was trained on other classes than other has" in error
    assert "Down, Grow, Right" in error
