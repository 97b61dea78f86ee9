"""prepare_data flow as a user runs it: what it stores, what it prints, that it goes on where it was, and what it refuses."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vidkd.cli.main import run_verb
from vidkd.data import raft
from vidkd.data.flow_store import read_side_file, read_stored_flow
from vidkd.data.manifest import Clip, Manifest
from vidkd.data.observation import Window
from vidkd.video import write_video

FRAMES = 8


def write_moving(path: Path, dx: int, seed: int) -> None:
    """A texture that moves by dx a frame."""
    rng = np.random.default_rng(seed)
    big = cv2.GaussianBlur(rng.standard_normal((48, 120, 3)).astype(np.float32), (0, 0), 2.5)
    big = np.clip(128 + 500 * big, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, (big[:, 28 - dx * i : 92 - dx * i] for i in range(FRAMES)), fps=25, crf=10)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "my data"
    write_moving(root / "a" / "right.mp4", 2, 0)
    write_moving(root / "b" / "left.mp4", -2, 1)
    return root


def write_manifest(path: Path, root: Path) -> None:
    """Two intervals of one video, one of the other, whose random access is said to lie."""
    subsets = {"1": "train"}
    clips = (
        Clip(path="a/right.mp4", label=0, group="g", subsets=subsets, end_s=0.1),
        Clip(path="a/right.mp4", label=0, group="g", subsets=subsets, start_s=0.1),
        Clip(path="b/left.mp4", label=1, group="h", subsets=subsets),
    )
    Manifest(name="m", root=root, classes=("r", "l"), splits=("1",), clips=clips).write(path)


def extract(*arguments: object) -> int:
    return run_verb("prepare_data", ["flow", *map(str, arguments)])


def dis(*arguments: object) -> int:
    return extract(*arguments, "--method", "dis", "--flow-step", 2, "--workers", 1)


def mean_dx(out: Path, clip_path: str) -> float:
    pairs = Window(np.array([1, 3]), np.array([3, 5]))
    return float(np.median(read_stored_flow(out, clip_path, pairs, frame_count=FRAMES)[:, 10:-10, 10:-10, 0]))


def test_a_folder_of_videos(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "flow"
    assert dis(root, "--out", out) == 0
    assert capsys.readouterr().out == (
        f"dis flow of 2 videos, 16 frames, in {out} (2 written, 0 already there)\n"
        f"to train on it: --data.flow.source stored --data.flow.folder {out} --data.window.flow_step 2\n"
    )
    assert mean_dx(out, "a/right.mp4") == pytest.approx(4, abs=0.1)
    assert mean_dx(out, "b/left.mp4") == pytest.approx(-4, abs=0.1)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
        "a/right.mp4.flow.json",
        "a/right.mp4.flow.mp4",
        "b/left.mp4.flow.json",
        "b/left.mp4.flow.mp4",
        "flow.json",
    ]


@pytest.mark.parametrize("named", ["manifest", "root", "elsewhere"])
def test_a_manifest_names_each_video_once(root: Path, tmp_path: Path, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "list.jsonl" if named == "elsewhere" else root / "manifest.jsonl"
    write_manifest(manifest, root)
    (root / "not in the manifest.mp4").write_bytes(b"torn")
    out = tmp_path / "flow"
    assert dis(root if named == "root" else manifest, "--out", out) == 0
    assert "of 2 videos, 16 frames" in capsys.readouterr().out
    assert mean_dx(out, "b/left.mp4") == pytest.approx(-4, abs=0.1)


def test_the_root_may_be_given(root: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "list.jsonl", root)
    moved = root.rename(tmp_path / "moved")
    assert dis(tmp_path / "list.jsonl", "--out", tmp_path / "flow") == 2
    assert dis(tmp_path / "list.jsonl", "--data.root", moved, "--out", tmp_path / "flow") == 0


def test_run_again_it_goes_on(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "flow"
    good = (root / "b" / "left.mp4").read_bytes()
    (root / "b" / "left.mp4").write_bytes(good[:500])
    assert dis(root, "--out", out) == 1
    printed = capsys.readouterr().out
    assert "dis flow of 1 videos, 8 frames" in printed
    assert "1 videos FAILED" in printed
    assert "  b/left.mp4: VideoError: " in printed
    (root / "b" / "left.mp4").write_bytes(good)
    assert dis(root, "--out", out) == 0
    assert "(1 written, 1 already there)" in capsys.readouterr().out
    assert dis(root, "--out", out) == 0
    assert "(0 written, 2 already there)" in capsys.readouterr().out


def test_an_output_folder_inside_the_data_is_no_input(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert dis(root, "--out", root / "flow") == 0
        assert "of 2 videos" in capsys.readouterr().out


def test_other_settings_need_another_folder(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dis(root, "--out", tmp_path / "flow") == 0
    assert dis(root, "--out", tmp_path / "flow", "--bound", 32) == 2
    assert "bound: 64.0 there, 32.0 asked" in capsys.readouterr().err
    assert read_side_file(tmp_path / "flow", "a/right.mp4").bound == 64.0


def test_much_cut_flow_is_said(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dis(root, "--out", tmp_path / "flow", "--bound", 1) == 0
    assert "cut at the bound of 1 px in 2 videos" in capsys.readouterr().out


class Half(torch.nn.Module):
    """In place of RAFT: every vector is (weight, -weight)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
        return [torch.stack([self.weight.expand_as(first[:, 0]), -self.weight.expand_as(first[:, 0])], 1)]


def test_raft_with_weights_from_a_file(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft, "build_raft", lambda name: Half())
    torch.save({"weight": torch.tensor([2.5])}, tmp_path / "half.pt")
    assert extract(root, "--method", "raft", "--weights", tmp_path / "half.pt", "--flow-step", 2, "--out", tmp_path / "flow") == 0
    assert mean_dx(tmp_path / "flow", "a/right.mp4") == pytest.approx(2.5, abs=0.016)


def test_raft_on_a_device_that_is_not_there(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract(root, "--method", "raft", "--weights", "half.pt", "--device", "abacus", "--out", tmp_path / "flow") == 2
    error = capsys.readouterr().err
    assert error.startswith("vidkd: cannot use device 'abacus'\n")
    assert "  fix    : --device auto or cpu\n" in error
    assert not (tmp_path / "flow").exists()


@pytest.mark.parametrize("weights", [(), ("--weights", "none.pt")])
def test_raft_without_weights_stores_nothing(
    root: Path, tmp_path: Path, weights: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract(root, "--method", "raft", *weights, "--out", tmp_path / "flow") == 2
    assert "weights" in capsys.readouterr().err
    assert not (tmp_path / "flow").exists()


def test_what_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dis(tmp_path / "none", "--out", tmp_path / "flow") == 2
    assert "no manifest and no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert dis(tmp_path / "empty", "--out", tmp_path / "flow") == 2
    assert "no videos at" in capsys.readouterr().err
    assert not (tmp_path / "flow").exists()
