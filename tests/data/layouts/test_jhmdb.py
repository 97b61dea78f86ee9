"""JHMDB: boxes of the puppet masks stand at the frames' own times, in the pixels of the stored video."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import Options
from vidkd.data.layouts.jhmdb import boxes_of_mask, read
from vidkd.data.manifest import Manifest
from vidkd.video import write_video

Tree = Callable[..., Path]
CLIPS = ["some film (1)_clap_u_nm_np1_fr_med_0", "other_clap_u_nm_np1_fr_med_0"]
LISTS = {"splits/clap_test_split1.txt": f"{CLIPS[0]}.avi 1\n{CLIPS[1]}.avi 2\n"}


def with_mask(root: Path, clip: str, mask: np.ndarray) -> None:
    """A mask and a video of 4 frames at 25 fps, 64x48, whatever the size of the mask."""
    scipy_io = pytest.importorskip("scipy.io")
    folder = root / "puppet_mask" / "clap" / clip
    folder.mkdir(parents=True)
    scipy_io.savemat(folder / "puppet_mask.mat", {"part_mask": mask.astype(np.uint8)})
    write_video(root / "ReCompress_Videos" / "clap" / f"{clip}.avi", [np.full((48, 64, 3), 40 * k, np.uint8) for k in range(4)], fps=25)


def test_a_mask_becomes_tight_boxes() -> None:
    mask = np.zeros((6, 8, 3), bool)
    mask[2:5, 1:4, 0] = True
    mask[3, 2, 0] = False
    mask[5, 7, 2] = True
    times_s = np.array([0.0, 0.04, 0.08])
    assert boxes_of_mask(mask, times_s) == ((0.0, 1, 2, 4, 5), (0.08, 7, 5, 8, 6))
    assert boxes_of_mask(mask, times_s, scale=(0.5, 2.0)) == ((0.0, 0.5, 4, 2, 10), (0.08, 3.5, 10, 4, 12))


@pytest.mark.parametrize("folder", ["ReCompress_Videos", "videos"])
def test_without_masks(tree: Tree, folder: str) -> None:
    manifest = read(tree([f"{folder}/clap/{clip}.avi" for clip in CLIPS], LISTS), Options()).manifest
    assert [(clip.group, clip.subsets["1"], clip.boxes) for clip in manifest.clips] == [
        ("some film (1)", "train", ()),
        ("other", "test", ()),
    ]


def test_boxes_at_the_times_and_in_the_pixels_of_the_video(tree: Tree) -> None:
    root = tree([f"ReCompress_Videos/clap/{CLIPS[1]}.avi"], LISTS)
    mask = np.zeros((24, 32, 6), np.uint8)  # half the size of the video, and two frames longer
    for frame in (0, 1, 3, 5):
        mask[4:10, 2 + frame : 8 + frame, frame] = frame + 1  # the parts of the body have numbers
    with_mask(root, CLIPS[0], mask)
    reading = read(root, Options())
    boxes = reading.manifest.clips[0].boxes
    assert [box[1:] for box in boxes] == [(4, 8, 16, 20), (6, 8, 18, 20), (10, 8, 22, 20)]
    assert [box[0] for box in boxes] == pytest.approx([0, 0.04, 0.12], abs=1e-3)
    assert reading.notes == ("1 clips have no puppet mask, so no boxes",)
    reading.manifest.write(root / "m.jsonl")
    assert Manifest.read(root / "m.jsonl").clips[0].boxes == boxes


def test_a_damaged_mask(tree: Tree) -> None:
    pytest.importorskip("scipy.io")
    root = tree([f"videos/clap/{clip}.avi" for clip in CLIPS], {**LISTS, f"puppet_mask/clap/{CLIPS[0]}/puppet_mask.mat": "no mat"})
    with pytest.raises(DataError, match=r"not a puppet mask: .*puppet_mask\.mat(.|\n)*--no-boxes"):
        read(root, Options())
    assert len(read(root, Options(boxes=False)).manifest.clips) == 2
