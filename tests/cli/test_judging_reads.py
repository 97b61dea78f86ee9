"""Settings that `vidkd evaluate` takes are those that judging reads, all of them and no others."""

import dataclasses
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from picture_model import picture_model
from street_runs import street_config, write_streets

from vidkd.base.settings import keys_of_judging
from vidkd.cli.main import run_verb
from vidkd.detection.config import DetectorRunConfig
from vidkd.detection.fit import fit_detector
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.fit import fit

ELSEWHERE = ("dataclasses", "copy", "vidkd.base.settings", "vidkd.base.records", "vidkd.base.fields", "vidkd.engine.run_folder")
"""Modules that look at every setting, whatever it is for."""
OF_CLIPS, OF_DETECTORS = ("data", "train"), ("data", "judge")


def sections(kind: type, prefix: str) -> Iterator[tuple[type, str]]:
    """The dataclasses of a configuration, each with the prefix of its keys."""
    yield kind, prefix
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint) and name in {entry.name for entry in dataclasses.fields(kind)}:
            yield from sections(typing.cast(type, hint), f"{prefix}{name}.")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The keys of settings that are read from now on, by code that is no check of a dataclass of its own fields."""
    found: set[str] = set()

    def watch(kind: type, prefixes: dict[type, str]) -> None:
        names = {entry.name for entry in dataclasses.fields(kind)}

        def read(config: Any, name: str) -> Any:
            caller = sys._getframe(1)
            of_its_own = caller.f_code.co_name in ("__post_init__", "__eq__", "__hash__")
            if name in names and not of_its_own and caller.f_globals.get("__name__") not in ELSEWHERE:
                found.add(prefixes[kind] + name)
            return object.__getattribute__(config, name)

        monkeypatch.setattr(kind, "__getattribute__", read)

    for kind in (RunConfig, DetectorRunConfig):
        prefixes = dict(sections(kind, ""))
        for section in prefixes:
            watch(section, prefixes)
    return found


def evaluate(*arguments: object) -> int:
    return run_verb("evaluate", [*map(str, arguments), "--device", "cpu"])


def leaves(found: set[str], kind: type, names: tuple[str, ...]) -> set[str]:
    """What was read of these sections, without the sections themselves."""
    inner = {prefix.rstrip(".") for _, prefix in sections(kind, "")}
    return {key for key in found if key.partition(".")[0] in names and key not in inner}


@pytest.fixture
def run(tiny_settings: Any, tiny_teacher: Path) -> Path:
    """Of a task with a teacher, which may have unlabelled clips."""
    taught = {"task": "logits_kd", "teacher": str(tiny_teacher), "view": "flow"}
    settings = tiny_settings(**taught, **{"train.steps": 1, "data.validation_fraction": 0.25, "data.eval_crops": 2})
    return fit(load_config(settings=settings), quiet=True).folder


def test_of_a_run_of_clips(run: Path, tmp_path: Path, seen: set[str]) -> None:
    known = set(keys_of_judging(RunConfig, OF_CLIPS))
    for words in (
        [],
        ["--subset", "val", "--data.label_fraction", "0.5", "--data.cache.enabled", "true", "--data.cache.folder", tmp_path / "cache"],
        ["--data.observe.protocol", "early", "--data.observe.fractions", "[0.5, 1]", "--data.window.frames", 2, "--data.window.stride", 1],
        ["--data.unlabelled", "use", "--data.unlabelled_manifest", tmp_path / "not there.jsonl"],
        ["--data.flow.source", "stored", "--data.flow.folder", tmp_path / "not there"],
        ["--data.observe.protocol", "anticipation", "--data.observe.gap_s", 0],
    ):
        evaluate("--model", run, "--out", tmp_path / "out", *words)
    found = leaves(seen, RunConfig, OF_CLIPS) - {"train.precision"}  # of the Fabric, under which judging computes nothing
    assert found - known == set(), "refused as flags, and read"
    unseen = {"data.window.short_clip", "data.observe.observe_s"}  # of a clip before which something is observed, which none is here
    unseen |= {"data.features.folder", "data.features.max_gb"}  # of a frozen network, which this is not
    assert known - found == unseen, "taken as flags, and not read"


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    write_streets(tmp_path / "streets")
    return tmp_path / "streets"


def test_of_the_run_of_a_detector(streets: Path, tmp_path: Path, seen: set[str]) -> None:
    folder = fit_detector(street_config(streets, tmp_path / "runs"), quiet=True).folder
    seen.clear()
    known = set(keys_of_judging(DetectorRunConfig, OF_DETECTORS))
    assert evaluate("--model", folder, "--subset", "val", "--data.validation_fraction", 0.4) == 0
    found = leaves(seen, DetectorRunConfig, OF_DETECTORS)
    assert found - known == set(), "refused as flags, and read"
    assert known - found == set(), "taken as flags, and not read"


def test_of_a_detector_in_a_file(streets: Path, tmp_path: Path, seen: set[str]) -> None:
    known = set(keys_of_judging(DetectorRunConfig, OF_DETECTORS)) - {"data.transform.resize"}
    data = ("--data.root", streets, "--data.layout", "motion_shapes", "--data.classes", "[cat]")
    evaluate("--model", picture_model(tmp_path / "net.onnx"), *data, "--subset", "test")
    found = leaves(seen, DetectorRunConfig, OF_DETECTORS)
    assert found - known == set(), "refused as flags, and read"


SECTION = "--train.device, --train.devices, --train.threads"
REFUSED = [
    ("clips", "--train.epochs=3", f"leave it out; what judging reads: {SECTION}"),
    ("clips", "--train.precision=bf16-mixed", f"leave it out; what judging reads: {SECTION}"),
    (
        "clips",
        "--data.transform.flip=false",
        "what judging reads: --data.transform.short_side, --data.transform.square, ",
    ),
    ("clips", "--data.balanced=true", "what judging reads: --data.root, --data.manifest, --data.split, "),
    ("clips", "--data.transform={}", "one by one what judging reads of it: --data.transform.short_side, "),
    ("clips", "--optim.lr=1", "what judging reads is one of --data., --train."),
    ("detector", "--train.threads=1", "what judging reads is one of --data., --judge."),
    ("detector", "--data.transform.mosaic=0", "what judging reads: --data.transform.resize"),
    ("file", "--data.transform.resize=centre", "what judging reads: --data.root, --data.layout, "),
]


@pytest.mark.parametrize(("judged", "flag", "text"), REFUSED, ids=[" ".join(row[:2]) for row in REFUSED])
def test_a_setting_that_judging_does_not_read_is_refused(
    judged: str, flag: str, text: str, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if judged == "clips":
        words: list[object] = ["--model", tiny_teacher, "--out", tmp_path / "out"]
    elif judged == "file":
        words = ["--model", picture_model(tmp_path / "net.onnx")]
    else:
        write_streets(tmp_path / "streets")
        words = ["--model", fit_detector(street_config(tmp_path / "streets", tmp_path / "runs"), quiet=True).folder]
    assert evaluate(*words, flag) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert flag.partition("=")[0] in said
    assert text in said
    assert ("means nothing to an evaluation: judging does not read it" in said) == ("one by one" not in text)
    assert not (tmp_path / "out").exists()
