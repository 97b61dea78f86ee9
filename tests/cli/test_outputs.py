"""Files that a verb is told to write: what is refused before any work, and what is replaced."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speed_models import tiny_checkpoint
from started import run_to_end

from vidkd.base.errors import ConfigError
from vidkd.cli.main import run_verb
from vidkd.cli.outputs import check_outputs
from vidkd.video import open_video, write_video
from vidkd.video.writer import KEEPS_TIMES

LETTER = "a letter of the user\n"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("networks") / "net.pt")


@pytest.fixture(scope="module")
def clip(frames_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "v.mp4"
    write_video(path, np.concatenate([frames_of(label, 0) for label in range(3)]), fps=25)
    return path


@pytest.mark.parametrize("flag", ["--out", "--overlay"])
def test_a_file_that_is_there_is_replaced_only_where_that_is_asked_for(
    flag: str, clip: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.mp4"
    out.write_text(LETTER)
    command = [str(clip), flag, str(out), "--device", "cpu", "--model"]
    assert run_verb("predict", [*command, str(tmp_path / "no network.pt")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"vidkd: the output exists: {out}\n" in captured.err, "it is seen before the network is looked for"
    assert f"fix : another {flag}, or --overwrite to replace it, also where a run that was interrupted left it" in captured.err
    assert out.read_text() == LETTER
    assert run_verb("predict", [*command, str(network), "--overwrite"]) == 0
    if flag == "--overlay":
        with open_video(out) as video:
            assert len(video) == 36
    else:
        assert '"top"' in out.read_text()
    assert run_verb("predict", [*command, str(network)]) == 2, "and what was just written is not replaced either"


@pytest.mark.slow
def test_predict_writes_its_file_though_nobody_reads_its_lines(clip: Path, network: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vidkd.cli.main", "predict", clip, "--model", network, "--step-s", "0.04", "--device", "cpu"]
    for further, code in ((["--out", str(tmp_path / "o.jsonl")], 0), ([], 141)):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = run_to_end([*map(str, command), *further], stdout=writer)
        finally:
            os.close(writer)
        assert (done.returncode, "standard output was closed" in done.stderr) == (code, code == 0)
    *windows, _whole = (json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines())
    assert [window["start_s"] for window in windows] == pytest.approx([k / 25 for k in range(28)])


def check(source: object = "nothing.mp4", *, overwrite: bool = False, **outputs: object) -> None:
    named = {f"--{flag}": None if name is None else str(name) for flag, name in outputs.items()}
    check_outputs(named, source=str(source), overwrite=overwrite)


def test_what_is_no_loss_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    os.mkfifo(tmp_path / "pipe")
    check(out=tmp_path / "empty.jsonl", overlay=None)
    check(out=tmp_path / "pipe", overlay=tmp_path / "new" / "folders" / "o.mp4")
    check(out="/dev/null")
    assert {path.name for path in tmp_path.iterdir()} == {"empty.jsonl", "pipe"}, "nothing is made"


@pytest.mark.parametrize("name", ["o.webm", "o", "o.jsonl"])
def test_an_overlay_of_an_ending_that_is_not_written(name: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(clip), "--model", str(tmp_path / "no network.pt"), "--overlay"]
    assert run_verb("predict", [*command, str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert f"--overlay is no video that can be written: {tmp_path / name}" in error
    assert "known : .mp4, .m4v, .mov, .mkv" in error


@pytest.mark.parametrize("ending", KEEPS_TIMES)
def test_the_endings_that_are_written_keep_times(ending: str, tmp_path: Path) -> None:
    times_s = np.cumsum([0, *np.tile([0.04, 0.1], 6)])[:12]
    write_video(tmp_path / f"o{ending.upper()}", np.zeros((12, 48, 64, 3), np.uint8), fps=25, times_s=times_s.tolist())
    with open_video(tmp_path / f"o{ending.upper()}") as video:
        np.testing.assert_allclose(video.timestamps_s, times_s, atol=1e-3)


@pytest.mark.parametrize("overwrite", [False, True])
def test_places_where_nothing_can_be_written(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text(LETTER)
    with pytest.raises(ConfigError, match="--out names a folder"):
        check(out=tmp_path, overwrite=overwrite)
    with pytest.raises(ConfigError, match=r"cannot write --out(.|\n)*letter is no folder"):
        check(out=tmp_path / "letter" / "o.jsonl", overwrite=overwrite)
    with pytest.raises(ConfigError, match="--out would replace the video itself"):
        check(tmp_path / "letter", out=tmp_path / "letter", overwrite=overwrite)
    with pytest.raises(ConfigError, match="--out is the folder of images itself"):
        check(tmp_path, out=tmp_path, overwrite=overwrite)
    with pytest.raises(ConfigError, match="--out and --overlay name one file"):
        check(out=tmp_path / "a.mp4", overlay=tmp_path / "b" / ".." / "a.mp4", overwrite=overwrite)


@pytest.mark.parametrize("below", [".", "sub"])
@pytest.mark.parametrize("verb", ["evaluate", "make_data", "export"])
def test_a_file_in_the_way_of_a_folder_is_told_before_any_work(
    verb: str, below: str, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter").write_text(LETTER)
    place = tmp_path / "letter" / below
    out = place / "net.onnx" if verb == "export" else place
    assert run_verb(verb, [*([] if verb == "make_data" else ["--model", str(network)]), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"vidkd: cannot write --out {place}\n" in said
    assert f"{tmp_path / 'letter'} is no folder\n" in said
    assert "fix    : another --out\n" in said
    assert (tmp_path / "letter").read_text() == LETTER
