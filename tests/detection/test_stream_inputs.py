"""What a user names, as single inputs, and the folder of each."""

from pathlib import Path

import pytest

from vidkd.base.errors import DataError, VideoError
from vidkd.detection.stream.inputs import find_inputs, folder_names


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Names alone: nothing is opened."""
    for name in (
        "cam1/day/a.mp4",
        "cam1/b.avi",
        "cam1/cover.jpg",
        "cam2/day/a.mp4",
        "images/1.png",
        "images/2.png",
        "gap/1.png",
        "gap/3.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    return tmp_path


def found(tree: Path, *names: str) -> list[str]:
    inputs = find_inputs([name if "://" in name or name.isdigit() else str(tree / name) for name in names], leave_out=tree / "out")
    return [name.removeprefix(f"{tree}/") for name in inputs]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cam1/b.avi", ["cam1/b.avi"]),
        ("cam1", ["cam1/b.avi", "cam1/day/a.mp4"]),
        ("*/day/*.mp4", ["cam1/day/a.mp4", "cam2/day/a.mp4"]),
        ("cam?/*", ["cam1/b.avi"]),
        ("images", ["images"]),
        ("images/*.png", ["images/*.png"]),
        ("images/%d.png", ["images/%d.png"]),
        ("rtsp://camera/x", ["rtsp://camera/x"]),
        ("0", ["0"]),
    ],
)
def test_what_a_name_leads_to(tree, name, expected):
    assert found(tree, name) == expected


def test_each_input_once_in_the_order_given(tree):
    assert found(tree, "cam2", "cam1/day/a.mp4", "cam1") == ["cam2/day/a.mp4", "cam1/day/a.mp4", "cam1/b.avi"]


def test_results_are_no_inputs(tree):
    (tree / "out" / "a").mkdir(parents=True)
    (tree / "out" / "a" / "annotated.mp4").write_bytes(b"")
    assert "out/a/annotated.mp4" not in found(tree, ".")
    assert len(found(tree, ".")) == 3


@pytest.mark.parametrize("name", ["nothing.mp4", "no/where", "*.mp4v", "empty"])
def test_a_name_that_leads_to_nothing(tree, name):
    with pytest.raises(DataError, match=r"(?s)no video and no images at: .*fix +: name a file, a folder or quoted glob"):
        found(tree, name)


def test_a_sequence_with_a_gap(tree):
    with pytest.raises(VideoError, match="images 1 to 3 lack 1"):
        found(tree, "gap")


def test_images_that_the_shell_has_listed_are_told(tree, caplog):
    images = sorted(str(path.relative_to(tree)) for path in (tree / "images").glob("*.png"))
    assert len(found(tree, *images)) == len(images) > 1
    assert f"{len(images)} images are taken as {len(images)} inputs; as one sequence: '" in caplog.text
    assert "images/*.png', in quotes" in caplog.text
    caplog.clear()
    found(tree, images[0])
    assert not caplog.text


def test_folders_of_one_stem_are_told_apart_by_those_above(tree):
    inputs = [str(tree / name) for name in ("cam1/day/a.mp4", "cam2/day/a.mp4", "cam1/b.avi", "images/*.png")]
    names = folder_names(inputs)
    assert list(names.values()) == ["cam1_day_a", "cam2_day_a", "b", "images"]
    assert folder_names(inputs[::-1]) == names


def test_files_that_differ_in_their_suffix_alone(tmp_path):
    for name in ("a.mp4", "a.avi"):
        (tmp_path / name).write_bytes(b"")
    names = folder_names([str(tmp_path / "a.mp4"), str(tmp_path / "a.avi")])
    assert [name.rpartition("_")[2] for name in names.values()] == ["a.mp4", "a.avi"]


def test_names_of_cameras_hold_no_password():
    names = folder_names(["0", "rtsp://admin:secret@10.0.0.7:554/live?channel=1"])
    assert list(names.values()) == ["camera0", "rtsp_10_0_0_7_554_live_channel_1"]
