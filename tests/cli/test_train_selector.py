"""vidkd train_selector as a user runs it: records that are kept, the file of a selector, and what cannot be."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from learning_files import make_video, oracle_arguments, student_arguments

from vidkd.cli import train_selector_run
from vidkd.cli.main import run_verb
from vidkd.detection.online import BoxOracle
from vidkd.detection.policies import open_policy
from vidkd.detection.policies.lstm import LstmSelector, read_about
from vidkd.detection.policies.train import SelectorRecord, TrainedSelector
from vidkd.video.files import content_of


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("networks")
    return [*student_arguments(folder), *oracle_arguments(folder)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [make_video(folder / f"{name}.mp4", 12, shift) for name, shift in (("a", 0.0), ("b", 0.1), ("c", 0.2))]


def run(training: list[Path], judging: list[Path], networks: list[str], out: Path, *more: object) -> int:
    given = [*map(str, training), "--validate", ",".join(map(str, judging)), *networks, "--out", str(out)]
    common = ("--device", "cpu", "--threads", "1", "--budget", "0.25", "--window", "8", "--every", "2", "--score", "0.3")
    return run_verb(
        "train_selector", [*given, *common, *map(str, more), "--update.steps", "1", "--selector.epochs", "3", "--selector.units", "4"]
    )


class Killed(BaseException):
    """Nothing that a program catches."""


def test_a_selector_and_its_records(
    videos: list[Path], networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "selector.pt"
    asked: list[int] = []
    true = BoxOracle.__call__

    def counted(self: BoxOracle, frame: np.ndarray) -> object:
        asked.append(1)
        if len(asked) == 16:
            raise Killed
        return true(self, frame)

    monkeypatch.setattr(BoxOracle, "__call__", counted)
    with pytest.raises(Killed):
        run(videos[:2], videos[2:], networks, out)
    assert not out.exists()
    assert len(list((tmp_path / "records").glob("*.npz"))) == 2
    assert run(videos[:2], videos[2:], networks, out) == 0
    assert len(asked) == 16 + 6  # each video has six frames to look at, and two of them were recorded before
    said = capsys.readouterr().out
    about = read_about(out)
    assert "trained on 12 frames, judged on 6: best epoch" in said
    assert f"validation loss {min(about['validation']):.4f}, rank correlation" in said
    assert (about["train"], about["validate"]) == (["a.mp4", "b.mp4"], ["c.mp4"])
    assert (about["epochs"], about["units"], len(about["validation"])) == (3, 4, 3)
    assert about["made_from"]["update"]["steps"] == 1
    assert about["videos"] == {"train": [content_of(video) for video in videos[:2]], "validate": [content_of(videos[2])]}
    assert about["student"] == {"weights": about["student"]["weights"], "resize": "darknet"}
    assert isinstance(open_policy(str(out)), LstmSelector)
    records = [SelectorRecord(**np.load(path)) for path in (tmp_path / "records").glob("*.npz")]
    assert all(1 <= record.called.sum() <= 2 for record in records)
    assert run(videos[:2], videos[2:], networks, out) == 2
    assert "the output exists" in capsys.readouterr().err
    assert run(videos[:2], videos[2:], networks, out, "--overwrite") == 0
    assert len(asked) == 16 + 6  # all records were found


def test_joined_videos_are_one_stream(videos: list[Path], networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(videos[:2], videos[2:], networks, tmp_path / "selector.pt", "--joined", "--seed", "1") == 0
    assert "trained on 12 frames, judged on 6" in capsys.readouterr().out
    records = sorted((SelectorRecord(**np.load(path)) for path in (tmp_path / "records").glob("*.npz")), key=len)
    assert [len(record) for record in records] == [6, 12]
    assert records[1].called[6:].any()
    first = int(np.flatnonzero(records[1].called)[0])
    assert records[1].frames_since[first + 1] == 1
    assert records[1].frames_since[6] > 0 or records[1].called[5], "the second video begins where the first one ended"


def test_further_records_have_other_calls_and_another_order(
    videos: list[Path], networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(videos[:2], videos[2:], networks, tmp_path / "selector.pt", "--joined", "--records", "6") == 0
    assert "trained on 72 frames, judged on 6" in capsys.readouterr().out
    records = [SelectorRecord(**np.load(path)) for path in (tmp_path / "records").glob("*.npz")]
    joined = [record for record in records if len(record) == 12]
    assert len(joined) == 6
    assert len({record.called.tobytes() for record in joined}) > 1
    assert len({record.features[0].tobytes() for record in joined}) == 2, "either video stands first"
    named_once = run(videos[:2], videos[2:], networks, tmp_path / "again.pt", "--joined")
    assert named_once == 0
    assert len(list((tmp_path / "records").glob("*.npz"))) == 7, "the first of them was found"


def test_a_selector_of_another_student_is_told(
    videos: list[Path], networks: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    selector, other = tmp_path / "selector.pt", tmp_path / "other"
    other.mkdir()
    assert run(videos[:1], videos[1:2], networks, selector, "--seconds", "0.5") == 0
    more = ("--every", "2", "--update.steps", "1", "--seed", "5")
    for student, message in ((networks[:3], False), (student_arguments(other, seed=1), True)):
        assert run_tkd(videos[2], student, networks, selector, tmp_path / f"out{message}", *more) == 0
        assert (f"the selector {selector} was trained with another student: its weights differ" in caplog.text) is message
        assert "other learning" not in caplog.text
        assert "has seen" not in caplog.text


def run_tkd(video: Path, student: list[str], networks: list[str], selector: Path, out: Path, *more: str) -> int:
    arguments = [str(video), *student, networks[3], "--policy", str(selector), "--score", "0.3", "--device", "cpu", "--threads", "1"]
    files = ["--formats", "jsonl", "--seconds", "0.3", "--out", str(out)]
    return run_verb("tkd", [*arguments, *files, "--budget", "0.25", "--window", "8", *more])


def test_other_learning_and_a_video_that_the_selector_has_seen_are_told(
    videos: list[Path], networks: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    selector = tmp_path / "selector.pt"
    assert run(videos[:1], videos[1:2], networks, selector, "--seconds", "0.5") == 0
    assert run_tkd(videos[1], networks[:3], networks, selector, tmp_path / "out", "--update.steps", "0", "--window", "10") == 0
    message = "every: 2 then, 1 now; window: 8 then, 10 now; update.steps: 1 then, 0 now"
    assert f"the selector {selector} was trained with other learning: {message}" in caplog.text
    assert f"the selector {selector} has seen {videos[1]} in its training" in caplog.text


def test_what_cannot_be(videos: list[Path], networks: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "selector.pt"
    again = tmp_path / "again.mp4"
    again.write_bytes(videos[0].read_bytes())
    (tmp_path / "file").write_text("no folder")
    for arguments, message in (
        ((videos[:2], [again], networks, out), "is one to be judged by too"),
        ((videos[:2], videos[2:], networks, tmp_path / "file" / "selector.pt"), "cannot write selector"),
        ((videos[:2], videos[1:], networks, out), "is one to be judged by too"),
        ((videos[:1], [tmp_path / "none.mp4"], networks, out), "no video and no images at"),
        ((videos[:1], videos[1:], networks, out, "--selector.losss", "x"), "did you mean : --selector.loss"),
        ((["0"], videos[1:], networks, out), "a live source cannot be recorded twice: 0"),
        ((videos[:1], videos[1:], networks, out, "--budget", "2"), "'--budget' has a wrong value"),
    ):
        assert run(*arguments) == 2  # type: ignore[arg-type]
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_what_is_printed() -> None:
    trained = TrainedSelector(
        selector=None,  # type: ignore[arg-type]
        best_epoch=2,
        training=(1.0, 0.5, 0.4),
        validation=(0.9, 0.25, 0.3),
        rank_correlation=0.612,
    )
    assert train_selector_run.report(trained, 100, 40) == (
        "trained on 100 frames, judged on 40: best epoch 2 of 3\nvalidation loss 0.2500, rank correlation with the truth 0.612"
    )
    backwards = train_selector_run.report(dataclasses.replace(trained, rank_correlation=-0.343), 100, 40)
    assert backwards.endswith("no better than chance on the other videos: give more videos (--joined, --records), or use --policy fixed")
    still = dataclasses.replace(trained, rank_correlation=float("nan"))
    assert train_selector_run.report(still, 100, 40).endswith("rank correlation unknown: what it predicts, or the truth, never varies")
